"""A directory that the user of the servers can pass through, which pytest's own temporary ones are not."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def passable() -> Iterator[Path]:
    """An empty directory with mode 0711."""
    path = Path(tempfile.mkdtemp(prefix="stillframe-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)

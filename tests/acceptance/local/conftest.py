"""A directory of its own for tests that keep one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.local import passable_directory


@pytest.fixture
def passable() -> Iterator[Path]:
    """An empty directory that the user of the servers can pass through."""
    with passable_directory() as path:
        yield path

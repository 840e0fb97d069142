"""A service that these tests may hurt."""

from collections.abc import Iterator

import pytest

from support.crash_rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A fresh data directory; nothing runs yet, and nothing is left at the end."""
    with Rig() as made:
        yield made

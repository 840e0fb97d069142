"""A service that these tests may hurt."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from support.crash_ground import Ground
from support.crash_rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A fresh data directory; nothing runs yet, and nothing is left at the end."""
    with Rig() as made:
        yield made


@pytest.fixture(scope="module")
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """What the tests of a module share, in the state that its `make_world` makes."""
    with closing(Ground(request.module.make_world)) as shared:
        yield shared

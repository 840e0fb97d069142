"""One running namespace for all tests of a module that do not stop it."""

from collections.abc import Iterator

import pytest

from stillframe.postgres.cluster import Cluster
from support.postgres import running_namespace


@pytest.fixture(scope="module")
def namespace() -> Iterator[Cluster]:
    with running_namespace() as cluster:
        yield cluster

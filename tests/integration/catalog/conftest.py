"""One server for all tests here; a fresh database for each of them."""

from collections.abc import Iterator

import pytest
from psycopg.conninfo import conninfo_to_dict

from stillframe.catalog import Catalog
from stillframe.postgres.cluster import Cluster
from support.catalog import new_database, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[Cluster]:
    with running_server() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def template(server: Cluster) -> str:
    conninfo = new_database(server)
    catalog = Catalog(conninfo)
    catalog.migrate()
    catalog.close()
    return str(conninfo_to_dict(conninfo)["dbname"])


@pytest.fixture
def empty(server: Cluster) -> str:
    """A database without any table."""
    return new_database(server)


@pytest.fixture
def conninfo(server: Cluster, template: str) -> str:
    """A migrated database."""
    return new_database(server, template=template)


@pytest.fixture
def catalog(conninfo: str) -> Iterator[Catalog]:
    found = Catalog(conninfo)
    yield found
    found.close()


@pytest.fixture(scope="module")
def shared_catalog(server: Cluster, template: str) -> Iterator[Catalog]:
    """For tests that leave nothing behind."""
    found = Catalog(new_database(server, template=template))
    yield found
    found.close()

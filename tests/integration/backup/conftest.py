"""A populated namespace and a repository, shared by the tests of a module that do not damage them."""

from collections.abc import Iterator

import pytest

from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import connect
from stillframe.repository import Repository
from support.backup import new_repository
from support.postgres import QUIET, login, pgbench, reachable_directory, running_namespace


@pytest.fixture
def repository() -> Iterator[Repository]:
    with reachable_directory() as directory:
        yield new_repository(directory)


@pytest.fixture(scope="module")
def shop() -> Iterator[Cluster]:
    """Several databases, roles, sequences, large objects, TOAST, unlogged and in-place tablespace tables."""
    with running_namespace(QUIET) as cluster:
        _fill_dev(cluster)
        _fill_tablespace(cluster)
        pgbench(cluster, "-i", "-q", "-s", "2")
        yield cluster


def _fill_dev(cluster: Cluster) -> None:
    with login(cluster) as admin:
        admin.execute("CREATE ROLE analyst LOGIN PASSWORD 'Analysts1word'")
        admin.execute("ALTER ROLE analyst SET work_mem = '7MB'")
        admin.execute("CREATE TABLE orders (id bigserial PRIMARY KEY, note text)")
        admin.execute("INSERT INTO orders (note) SELECT md5(n::text) FROM generate_series(1, 20000) AS n")
        admin.execute(
            "CREATE TABLE long_texts AS SELECT string_agg(md5(n::text), '') AS t FROM generate_series(1, 50000) AS n"
        )
        admin.execute("CREATE UNLOGGED TABLE scratch AS SELECT generate_series(1, 1000) AS n")
        admin.execute("SELECT lo_from_bytea(4711, decode(repeat('ab', 300000), 'hex'))")
        admin.execute("CREATE SEQUENCE tickets START 1000")
        admin.execute("SELECT nextval('tickets') FROM generate_series(1, 50)")
        admin.execute("GRANT SELECT ON orders TO analyst")
        admin.execute("CREATE DATABASE archive")
    with login(cluster, database="archive") as admin:
        admin.execute("CREATE SCHEMA old")
        admin.execute("CREATE TABLE old.years AS SELECT generate_series(1900, 2026) AS year")


def _fill_tablespace(cluster: Cluster) -> None:
    with connect(cluster, "dev") as session:
        session.execute("SET allow_in_place_tablespaces = on")
        session.execute("CREATE TABLESPACE fast LOCATION ''")
        session.execute("GRANT CREATE ON TABLESPACE fast TO admin")
    with login(cluster) as admin:
        admin.execute("CREATE TABLE quick TABLESPACE fast AS SELECT generate_series(1, 5000) AS n")
        admin.execute("CREATE INDEX ON quick (n) TABLESPACE fast")

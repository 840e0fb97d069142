"""A server that was started again read-only: its login reads everything, and nobody writes anything."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors as pg

from stillframe.errors import Conflict
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import connect
from stillframe.postgres.read_only import create_read_login, restart_read_only
from stillframe.postgres.scram import scram_verifier
from support.postgres import SMALL, login, running_namespace

pytestmark = pytest.mark.integration

ADMIN, READER, WORD = "admin", "stillframe_reader_1", "Reading1only"


@pytest.fixture(scope="module")
def copy() -> Iterator[Cluster]:
    """A read-only server with a login of its own."""
    with running_namespace() as cluster:
        with login(cluster) as admin:
            admin.execute("CREATE TABLE orders AS SELECT generate_series(1, 100) AS n")
            admin.execute("CREATE UNLOGGED TABLE scratch AS SELECT 1 AS n")
            admin.execute("CREATE ROLE analyst LOGIN PASSWORD 'Analysts1word'")
            admin.execute("CREATE TABLE secret AS SELECT 1 AS n")
            admin.execute("ALTER TABLE secret ENABLE ROW LEVEL SECURITY")
            admin.execute("ALTER TABLE secret FORCE ROW LEVEL SECURITY")
        create_read_login(cluster, name=READER, verifier=scram_verifier(WORD), admin=ADMIN)
        restart_read_only(cluster, SMALL)
        yield cluster


def test_the_login_reads_every_row_past_row_security(copy: Cluster) -> None:
    with login(copy, READER, WORD) as reader:
        assert reader.execute("SELECT count(*) FROM orders").fetchone() == (100,)
        assert reader.execute("SELECT count(*) FROM secret").fetchone() == (1,)


def test_nobody_else_but_the_admin_logs_in(copy: Cluster) -> None:
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        login(copy, "analyst", "Analysts1word")
    with login(copy) as admin:
        assert admin.execute("SELECT count(*) FROM orders").fetchone() == (100,)


def test_not_even_the_service_itself_can_write(copy: Cluster) -> None:
    with login(copy) as admin, pytest.raises(pg.ReadOnlySqlTransaction):
        admin.execute("INSERT INTO orders VALUES (0)")
    with connect(copy, "dev") as session:
        assert session.row("SELECT pg_is_in_recovery(), current_setting('transaction_read_only')") == (
            True,
            "on",
        )


def test_the_login_reaches_no_file_and_cannot_end_the_recovery(copy: Cluster) -> None:
    for statement in (
        "SELECT pg_read_file('PG_VERSION')",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "SELECT pg_promote()",
        "SHOW data_directory",
    ):
        with login(copy, READER, WORD) as reader, pytest.raises(pg.InsufficientPrivilege):
            reader.execute(statement.encode())


def test_what_no_snapshot_holds_is_refused_and_not_shown_empty(copy: Cluster) -> None:
    with login(copy, READER, WORD) as reader, pytest.raises(pg.FeatureNotSupported):
        reader.execute("SELECT * FROM scratch")


def test_it_can_be_started_again_and_stays_read_only(copy: Cluster) -> None:
    restart_read_only(copy, SMALL)
    with login(copy) as admin, pytest.raises(pg.ReadOnlySqlTransaction):
        admin.execute("CREATE TABLE more (n int)")


def test_a_login_that_exists_is_not_taken_over() -> None:
    with running_namespace() as cluster:
        create_read_login(cluster, name=READER, verifier=scram_verifier(WORD), admin=ADMIN)
        with pytest.raises(Conflict):
            create_read_login(cluster, name=READER, verifier=scram_verifier("Another1word"), admin=ADMIN)

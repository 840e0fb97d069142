"""Open snapshots and proofs that are cut off leave no server, no directory, no port, and come to an end."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from stillframe.clients import EXTENSION
from support.crash_checks import check_directories, check_routes
from support.crash_ground import SLOW_FUNCTION, Ground, make_namespace
from support.crash_operations import BASE, World
from support.crash_processes import Process, kill, of_role
from support.crash_rig import Rig, eventually
from support.open_snapshots import log_in, opened

pytestmark = pytest.mark.integration

ROWS = 80
STATEMENTS = (
    SLOW_FUNCTION,
    f"CREATE TABLE precious AS SELECT generate_series(1, {ROWS}) AS id",
    "CREATE INDEX ON precious (public.slow(id))",
)


def make_world(rig: Rig) -> World:
    """A namespace of whose snapshots a proof takes a second or two."""
    return make_namespace(rig, *STATEMENTS)


@pytest.fixture
def world(ground: Ground) -> Iterator[World]:
    """The shared one; whatever a test has opened is closed after it."""
    with ground.world() as shared:
        yield shared
        operator = shared.rig.client(EXTENSION)
        for copy in operator.list_open_snapshots()["openSnapshots"]:
            operator.close_snapshot(openSnapshotId=copy["openSnapshotId"])
        shared.rig.settle(seconds=60)
        _check_nothing_left(shared.rig)


@pytest.fixture
def rig(world: World) -> Rig:
    """The service that is hurt."""
    return world.rig


@pytest.fixture
def good(world: World) -> str:
    """A snapshot that nobody has proven yet."""
    name = world.name("good")
    world.add_snapshot(name)
    return name


def _check_nothing_left(rig: Rig) -> None:
    eventually(lambda: _check_servers(rig), seconds=30, told="stray servers", rig=rig)
    check_routes(rig)
    check_directories(rig)
    assert rig.client(EXTENSION).list_open_snapshots()["openSnapshots"] == []


def _check_servers(rig: Rig) -> None:
    """The catalog's server and the namespace's run, and nothing speaks of any other directory."""
    with rig.parts() as parts, parts.catalog.transaction() as transaction:
        (namespace,) = transaction.namespaces.list()
    place = rig.settings.paths.namespace(namespace.id) / str(namespace.incarnation_id)
    found = rig.processes()
    assert {server.place for server in of_role(found, "postmaster")} == {rig.settings.paths.catalog, place}
    copies = {process.command for process in found if "/namespaces/" in process.command} - {
        process.command for process in found if str(place) in process.command
    }
    assert copies == set()


def _cut_off(rig: Rig, role: str) -> None:
    victims = rig.processes() if role == "everything" else of_role(rig.processes(), role)
    kill(victims)
    if role != "worker":
        rig.service.wait()
        rig.start()


@pytest.mark.parametrize("role", ["worker", "service", "everything"])
def test_nothing_of_an_open_snapshot_outlives_a_crash(rig: Rig, good: str, role: str) -> None:
    copy = opened(rig.client(EXTENSION), good)
    with log_in(copy) as connection:
        assert connection.execute("SELECT count(*) FROM precious").fetchone() == (ROWS,)
    _cut_off(rig, role)
    rig.settle(seconds=60)
    eventually(lambda: _check_nothing_left(rig), seconds=30, told="something is left", rig=rig)
    with pytest.raises(psycopg.OperationalError):
        log_in(copy)
    again = opened(rig.client(EXTENSION), good)
    with log_in(again) as connection:
        assert connection.execute("SELECT count(*) FROM precious").fetchone() == (ROWS,)


@pytest.mark.parametrize("role", ["worker", "service"])
def test_an_opening_that_was_cut_off_fails_or_is_open(rig: Rig, good: str, role: str) -> None:
    operator = rig.client(EXTENSION)
    asked = operator.open_snapshot(snapshotName=good)["openSnapshot"]
    eventually(lambda: _runs(rig, "open_snapshot"), seconds=30, told="the opening does not begin", rig=rig)
    _cut_off(rig, role)
    rig.settle(seconds=60)
    found = rig.client(EXTENSION).list_open_snapshots(openSnapshotId=asked["openSnapshotId"])["openSnapshots"]
    assert [copy["status"] for copy in found] in (["FAILED"], [])
    if found:
        rig.client(EXTENSION).close_snapshot(snapshotName=good)
    rig.settle(seconds=60)
    eventually(lambda: _check_nothing_left(rig), seconds=30, told="something is left", rig=rig)


@pytest.mark.parametrize("role", ["worker", "service", "everything"])
def test_a_proof_that_was_cut_off_begins_anew_and_comes_to_its_result(rig: Rig, good: str, role: str) -> None:
    rig.client(EXTENSION).prove_snapshot(snapshotName=good)
    eventually(lambda: _is_checking(rig), seconds=30, told="the proof does not begin", rig=rig)
    _cut_off(rig, role)
    rig.settle(seconds=90)
    detail = rig.client(EXTENSION).describe_snapshot(snapshotName=good)["detail"]
    assert detail["proof"]["result"] == "passed", detail
    eventually(lambda: _check_nothing_left(rig), seconds=30, told="something is left", rig=rig)


def test_a_service_that_is_stopped_ends_what_is_open_and_what_is_being_proven(rig: Rig, good: str) -> None:
    opened(rig.client(EXTENSION), good)
    rig.client(EXTENSION).prove_snapshot(snapshotName=good)
    eventually(lambda: _is_checking(rig), seconds=30, told="the proof does not begin", rig=rig)
    assert rig.terminate() == 0
    assert rig.processes() == []
    rig.start()
    rig.settle(seconds=60)
    operation = _last(rig, "prove_snapshot")
    assert (operation["status"], operation["hint"]) == ("failed", "Ask for it again.")
    assert "proof" not in rig.client(EXTENSION).describe_snapshot(snapshotName=good)["detail"]
    eventually(lambda: _check_nothing_left(rig), seconds=30, told="something is left", rig=rig)


def test_a_crashed_server_of_the_namespace_is_started_again_while_a_proof_goes_on(
    rig: Rig, world: World, good: str
) -> None:
    with rig.parts() as parts, parts.catalog.transaction() as transaction:
        (namespace,) = transaction.namespaces.list()
    place = rig.settings.paths.namespace(namespace.id) / str(namespace.incarnation_id)
    rig.client(EXTENSION).prove_snapshot(snapshotName=good)
    eventually(lambda: _is_checking(rig), seconds=30, told="the proof does not begin", rig=rig)
    kill(_server(rig, place))
    rig.settle(seconds=60)
    world.read(BASE)


def _server(rig: Rig, place: Any) -> list[Process]:
    return [process for process in of_role(rig.processes(), "postmaster") if process.place == place]


def _last(rig: Rig, kind: str) -> dict[str, Any]:
    return next(item for item in reversed(rig.operations()) if item["kind"] == kind)


def _runs(rig: Rig, kind: str) -> None:
    assert _last(rig, kind)["status"] == "running"


def _is_checking(rig: Rig) -> None:
    operation = _last(rig, "prove_snapshot")
    assert operation["phase"] == "checking", operation

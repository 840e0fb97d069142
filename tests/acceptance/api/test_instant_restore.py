"""A restored namespace answers before its files are there, and nothing that happens meanwhile may be noticed.

Files arrive only when they are asked for here (`hydrate_in_background`), so that every test meets a namespace that
is half there, however fast the machine is.
"""

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from stillframe.app.programs import ProgramLauncher
from stillframe.hydration import probe
from stillframe.postgres.cluster import ARRIVAL_FILE, Cluster
from stillframe.postgres.machine import find_machine, namespace_cluster
from stillframe.postgres.postmaster import is_alive
from stillframe.service.arrivals import arrival_note, control_socket
from stillframe.service.hydrations import HydratorOrder
from support.damage import flip_bit
from support.local import passable_directory, processes_of, wait_until_alone
from support.service import REGION, Service, Warehouse, running_service, wait_for, warehouse_of

pytestmark = pytest.mark.acceptance

_ROWS = 200_000
_FINGERPRINT = "SELECT count(*), sum(id), md5(string_agg(text, '' ORDER BY id)) FROM facts"
_EVERYTHING = "SELECT count(*), sum(id), md5(string_agg(text, '' ORDER BY id)) FROM {}"


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """Where the service of these tests keeps everything."""
    with passable_directory() as directory:
        found = probe(directory)
        if not found.supported:
            pytest.skip(f"restores by hydration are not possible here: {found.reason}")
        yield directory


@pytest.fixture(scope="module")
def slow(data: Path) -> Iterator[Service]:
    """A service that brings only what is asked for."""
    with running_service(data=data / "data", hydrate_in_background=False, sweep_seconds=1.0) as started:
        yield started


@pytest.fixture(scope="module")
def source(slow: Service) -> Iterator[Warehouse]:
    """A warehouse with a table of some 40 MB, an index, another database, and snapshot `full` of them."""
    with warehouse_of(slow.account(), "source") as made:
        made.query(
            f"CREATE TABLE facts AS SELECT g AS id, repeat(md5(g::text), 6) AS text FROM generate_series(1, {_ROWS}) g"
        )
        made.query("CREATE UNIQUE INDEX facts_id ON facts (id)")
        made.query("CREATE DATABASE second")
        made.query("CREATE TABLE notes AS SELECT 'kept'::text AS note", "second")
        made.snapshot("full")
        yield made


@pytest.fixture
def target(slow: Service, source: Warehouse) -> Iterator[Warehouse]:
    """Another warehouse, just restored from `full`."""
    with warehouse_of(source.account, f"target-{uuid.uuid4().hex[:8]}") as made:
        made.restore(snapshotName="full")
        yield made


def arrival(warehouse: Warehouse) -> dict[str, Any] | None:
    """How far the files of a warehouse have arrived; None when all are there."""
    operator = warehouse.account.service.operator_of(warehouse.account)
    found: dict[str, Any] = operator.describe_namespace(namespaceName=warehouse.namespace)
    return found.get("arrival")


def half_arrived(warehouse: Warehouse) -> dict[str, Any]:
    """The same, for a warehouse that must not have everything yet."""
    found = arrival(warehouse)
    assert found is not None, "everything has arrived already"
    assert found["arrivedBytes"] < found["totalBytes"]
    return found


def cluster_of(warehouse: Warehouse) -> Cluster:
    """The cluster of the warehouse's only incarnation."""
    settings = warehouse.account.service.local.settings
    namespace = warehouse.client.get_namespace(namespaceName=warehouse.namespace)["namespace"]["namespaceId"]
    (directory,) = settings.paths.namespace(namespace).iterdir()
    machine = find_machine(None, server_user=settings.server_user)
    return namespace_cluster(settings, machine, uuid.UUID(namespace), uuid.UUID(directory.name))


def hydrator_pid(warehouse: Warehouse) -> int:
    """The process that brings its files."""
    incarnation = cluster_of(warehouse).data_directory.name
    (pid,) = (
        pid
        for pid, command in processes_of(cluster_of(warehouse).data_directory).items()
        if "hydrator" in command and incarnation in command
    )
    return pid


def test_the_first_answers_come_before_the_files(source: Warehouse, target: Warehouse) -> None:
    before = half_arrived(target)
    assert before["arrivedBytes"] < before["totalBytes"] / 2
    assert target.query("SELECT text FROM facts WHERE id = 4711") == source.query(
        "SELECT text FROM facts WHERE id = 4711"
    )
    assert target.query("SELECT note FROM notes", "second") == [("kept",)]
    after = half_arrived(target)
    assert before["onDemandReads"] < after["onDemandReads"]
    assert after["fetchedBytes"] < before["totalBytes"] / 2
    assert target.query(_FINGERPRINT) == source.query(_FINGERPRINT)


def test_a_half_arrived_namespace_is_snapshotted_without_bringing_the_rest(
    source: Warehouse, target: Warehouse
) -> None:
    target.query("UPDATE facts SET text = 'changed' WHERE id BETWEEN 100 AND 120")
    target.query("DELETE FROM facts WHERE id = 4711")
    before = half_arrived(target)
    taken = target.snapshot(f"half-{target.namespace}")
    after = half_arrived(target)
    assert after["arrivedBytes"] - before["arrivedBytes"] < before["totalBytes"] / 10
    assert taken["actualIncrementalBackupSizeInMegaBytes"] < taken["totalBackupSizeInMegaBytes"] / 10
    expected = target.query(_FINGERPRINT)
    with warehouse_of(source.account, f"again-{target.namespace}") as again:
        again.restore(snapshotName=f"half-{target.namespace}")
        assert again.query(_FINGERPRINT) == expected
        assert again.query("SELECT note FROM notes", "second") == [("kept",)]


def test_a_half_arrived_namespace_is_restored_again(source: Warehouse, target: Warehouse) -> None:
    half_arrived(target)
    target.query("DROP TABLE facts")
    target.restore(snapshotName="full")
    half_arrived(target)
    assert target.query(_FINGERPRINT) == source.query(_FINGERPRINT)


def test_deleting_the_snapshot_takes_nothing_from_a_namespace_that_still_needs_it(
    slow: Service, source: Warehouse
) -> None:
    account = source.account
    with warehouse_of(account, "forgotten") as origin:
        origin.query(
            "CREATE TABLE only_here AS SELECT g AS id, md5((g * 7)::text) AS text FROM generate_series(1, 90000) g"
        )
        expected = origin.query(_EVERYTHING.format("only_here"))
        origin.snapshot("short-lived")
    with warehouse_of(account, "needing") as needing:
        needing.restore(snapshotName="short-lived")
        account.client.delete_snapshot(snapshotName="short-lived")
        half_arrived(needing)
        # Several sweeps, and one service later, which finds the pin again.
        os.kill(hydrator_pid(needing), signal.SIGKILL)
        settled = wait_for(
            lambda: _try(needing, _EVERYTHING.format("only_here")), lambda rows: rows is not None
        )
        assert settled == expected


def test_a_killed_hydrator_never_lets_a_hole_be_read(source: Warehouse, target: Warehouse) -> None:
    half_arrived(target)
    target.query("UPDATE facts SET text = 'changed' WHERE id = 7")
    source_rows = source.query("SELECT sum(length(text)) FROM facts WHERE id <> 7")
    first = hydrator_pid(target)
    os.kill(first, signal.SIGKILL)
    question = "SELECT sum(length(text)) FROM facts WHERE id <> 7"
    seen = wait_for(lambda: _try(target, question), lambda rows: rows is not None)
    assert seen == source_rows
    assert target.query("SELECT text FROM facts WHERE id = 7") == [("changed",)]


def test_a_killed_server_recovers_while_its_files_arrive(source: Warehouse, target: Warehouse) -> None:
    target.query("UPDATE facts SET text = 'changed' WHERE id = 8")
    half_arrived(target)
    hydrator = hydrator_pid(target)
    pid = cluster_of(target).adopt()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    seen = wait_for(
        lambda: _try(target, "SELECT text FROM facts WHERE id = 8"), lambda rows: rows is not None
    )
    assert seen == [("changed",)]
    assert hydrator_pid(target) == hydrator
    assert target.query("SELECT count(*) FROM facts") == [(_ROWS,)]


def test_a_workgroup_comes_and_goes_while_files_arrive(source: Warehouse, target: Warehouse) -> None:
    half_arrived(target)
    target.tear_down()
    assert not wait_until_alone(cluster_of(target).data_directory)
    target.client.create_workgroup(
        namespaceName=target.namespace, workgroupName=target.workgroup, baseCapacity=8
    )
    target.settle()
    half_arrived(target)
    assert target.query(_FINGERPRINT) == source.query(_FINGERPRINT)


def test_what_is_dropped_truncated_and_rewritten_does_not_come_back(
    source: Warehouse, target: Warehouse
) -> None:
    target.query("CREATE TABLE copy AS SELECT * FROM facts WHERE id <= 5000")
    target.query("TRUNCATE facts")
    target.query("INSERT INTO facts SELECT * FROM copy")
    target.query("VACUUM FULL copy")
    target.query("DROP DATABASE second")
    target.query("CREATE DATABASE third TEMPLATE template0 STRATEGY file_copy")
    assert target.query("SELECT count(*), min(id), max(id) FROM facts") == [(5000, 1, 5000)]
    assert target.query("SELECT count(*) FROM copy") == [(5000,)]
    assert target.query("SELECT 1", "third") == [(1,)]
    assert target.query("SELECT datname FROM pg_database WHERE datname = 'second'") == []


def test_nobody_else_starts_a_half_arrived_directory(target: Warehouse) -> None:
    half_arrived(target)
    cluster = cluster_of(target)
    target.tear_down()
    assert (cluster.data_directory / ARRIVAL_FILE).exists()
    program = [str(cluster.installation.program("postgres")), "-D", str(cluster.data_directory)]
    refused = subprocess.run(
        program,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        user=cluster.identity.uid if cluster.identity.switch else None,
        cwd="/",
    )
    assert refused.returncode != 0
    assert "files_are_still_arriving" in refused.stderr
    target.client.create_workgroup(
        namespaceName=target.namespace, workgroupName=target.workgroup, baseCapacity=8
    )
    target.settle()


def test_what_a_crash_of_the_machine_took_is_fetched_again(source: Warehouse, target: Warehouse) -> None:
    """Pages that the disk never got: zero, or half of them zero."""
    target.query("UPDATE facts SET text = 'changed' WHERE id = 150000")
    target.query("SELECT count(text) FROM facts WHERE ctid < '(30,1)'")
    half_arrived(target)
    ((path,),) = target.query("SELECT pg_relation_filepath('facts')")
    target.tear_down()
    cluster = cluster_of(target)
    note = arrival_note(cluster)
    assert note is not None
    cluster.begin_arrival(msgspec.json.encode(msgspec.structs.replace(note, boot_id="an earlier run")))
    with (cluster.data_directory / path).open("r+b") as file:
        for page, length in ((3, 8192), (4, 8192), (9, 4096)):
            file.seek(page * 8192)
            assert any(file.read(length))
            file.seek(page * 8192)
            file.write(bytes(length))
    target.client.create_workgroup(
        namespaceName=target.namespace, workgroupName=target.workgroup, baseCapacity=8
    )
    target.settle()
    half_arrived(target)
    rest = "SELECT count(*), sum(length(text)) FROM facts WHERE id <> 150000"
    assert target.query(rest) == source.query(rest)
    assert target.query("SELECT text FROM facts WHERE id = 150000") == [("changed",)]


def test_a_second_hydrator_does_not_touch_what_another_one_brings(
    source: Warehouse, target: Warehouse
) -> None:
    """It would fill pages a second time, over what the server has made of them."""
    cluster, first = cluster_of(target), hydrator_pid(target)
    note = arrival_note(cluster)
    assert note is not None
    order = HydratorOrder(
        namespace_id=uuid.UUID(cluster.data_directory.parent.name),
        incarnation_id=uuid.UUID(cluster.data_directory.name),
        layout_id=note.layout_id,
        region=note.region,
        pin_id=note.pin_id,
        control=str(control_socket(cluster)),
        boot_id=note.boot_id,
        check_pages=False,
    )
    second = ProgramLauncher(target.account.service.local.settings).launch(order)
    wait_for(lambda: is_alive(second), lambda alive: not alive)
    assert hydrator_pid(target) == first
    half_arrived(target)
    assert target.query(_FINGERPRINT) == source.query(_FINGERPRINT)


def _try(warehouse: Warehouse, statement: str) -> list[tuple[Any, ...]] | None:
    """The rows, or None while its server is away."""
    try:
        return warehouse.query(statement)
    except psycopg.OperationalError:
        return None


def test_a_hydrator_that_waits_for_a_layout_that_fails_goes_with_it(data: Path) -> None:
    """It is started before the first file is made; here none of them can be."""
    with (
        running_service(data=data / "damaged", sweep_seconds=1.0) as service,
        warehouse_of(service.account(), "shop") as shop,
    ):
        shop.snapshot("good")
        shop.query("CREATE TABLE kept AS SELECT 5 AS five")
        before = cluster_of(shop).data_directory
        for pack in (service.local.settings.paths.repository(REGION) / "packs").rglob("*"):
            if pack.is_file():
                _damage_all_of(pack)
        shop.restore(snapshotName="good")
        newest = service.operator_of(shop.account).list_operations(namespaceName="shop")["operations"][-1]
        assert (newest["kind"], newest["status"]) == ("restore_from_snapshot", "failed")
        # Whether it had begun, or was about to.
        wait_for(lambda: processes_of(data / "damaged"), lambda found: "app.hydrator" not in str(found))
        wait_for(lambda: list(before.parent.iterdir()), lambda found: found == [before])
        assert shop.query("SELECT five FROM kept") == [(5,)]


def _damage_all_of(file: Path) -> None:
    for position in range(0, file.stat().st_size, 64):
        flip_bit(file, position)

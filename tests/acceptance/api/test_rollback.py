"""A namespace goes back to its own snapshot: what has not changed since is on this machine already."""

import json
import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stillframe.backup.local_clone import clone_problem
from stillframe.hydration import probe
from stillframe.postgres.cluster import ARRIVAL_FILE
from stillframe.service.arrivals import arrival_note
from support.damage import cluster_of, flip_bit
from support.hydration_disks import disk
from support.local import passable_directory, processes_of
from support.service import Service, Warehouse, running_service, wait_for, warehouse_of

pytestmark = pytest.mark.acceptance

_ROWS = 100_000
_FINGERPRINT = "SELECT count(*), sum(id), md5(string_agg(text, '' ORDER BY id)) FROM facts"


@pytest.fixture(scope="module", params=["hydration", "reflink", "eager"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service whose restores are done in this way."""
    with ExitStack() as stack:
        directory = stack.enter_context(passable_directory())
        if request.param == "hydration" and not (found := probe(directory)).supported:
            pytest.skip(f"restores by hydration are not possible here: {found.reason}")
        if request.param == "reflink" and clone_problem(directory) is not None:
            directory = stack.enter_context(disk(directory, "xfs")).mount_point
        with running_service(
            data=directory / "data", restore_strategy=request.param, sweep_seconds=1.0
        ) as started:
            yield started


@pytest.fixture
def source(service: Service) -> Iterator[Warehouse]:
    """A warehouse with some 25 MB, and snapshot `full` of it."""
    with warehouse_of(service.account(), "source") as made:
        made.query(
            f"CREATE TABLE facts AS SELECT g AS id, repeat(md5(g::text), 6) AS text FROM generate_series(1, {_ROWS}) g"
        )
        made.query("CREATE UNIQUE INDEX facts_id ON facts (id)")
        # Hint bits, too, are changes of pages.
        made.query("VACUUM facts")
        made.snapshot("full")
        yield made


def bases(service: Service) -> list[Path]:
    """What restores have replaced and is still kept."""
    with suppress(FileNotFoundError):
        return list(service.local.settings.paths.bases.iterdir())
    return []


def strategy_of(service: Service) -> str:
    """As its settings say."""
    return service.local.settings.restore_strategy.value


def everything_there(warehouse: Warehouse) -> None:
    """Wait until all files of the warehouse have arrived, and nothing is kept for it any more."""
    wait_for(lambda: arrival(warehouse), lambda found: found is None)
    wait_for(lambda: bases(warehouse.account.service), lambda found: not found)


def arrival(warehouse: Warehouse) -> dict[str, Any] | None:
    """How far its files have arrived."""
    operator = warehouse.account.service.operator_of(warehouse.account)
    found: dict[str, Any] = operator.describe_namespace(namespaceName=warehouse.namespace)
    return found.get("arrival")


def last_restore(warehouse: Warehouse) -> dict[str, Any]:
    """How the last restore was done, as its operation tells."""
    operator = warehouse.account.service.operator_of(warehouse.account)
    operations = operator.list_operations(namespaceName=warehouse.namespace, maxResults=100)["operations"]
    found: dict[str, Any] = [item for item in operations if item["kind"] == "restore_from_snapshot"][-1]
    return found["restored"]  # type: ignore[no-any-return]


def local_bytes(warehouse: Warehouse, restored: dict[str, Any]) -> int:
    """What the last restore took from local files: until it answered, or until everything was there."""
    if restored["strategy"] == "hydration":
        return int(last_words(warehouse)["local_bytes"])
    return int(restored["localBytes"])


def last_words(warehouse: Warehouse) -> dict[str, Any]:
    """What the hydrator of the warehouse's files has logged at its end."""
    incarnation = cluster_of(warehouse).data_directory.name
    logs = warehouse.account.service.local.settings.paths.logs

    def look() -> list[dict[str, Any]]:
        lines = (line for path in logs.rglob("hydrator.log") for line in path.read_text().splitlines())
        found = [json.loads(line) for line in lines if "hydration_complete" in line and incarnation in line]
        return found[-1:]

    (words,) = wait_for(look, bool)
    return words  # type: ignore[no-any-return]


def test_what_has_not_changed_is_not_fetched(service: Service, source: Warehouse) -> None:
    expected = source.query(_FINGERPRINT)
    source.query("UPDATE facts SET text = 'changed' WHERE id <= 500")
    source.query("CREATE TABLE later AS SELECT 1 AS one")
    size = source.client.get_snapshot(snapshotName="full")["snapshot"]["totalBackupSizeInMegaBytes"] * 2**20
    source.restore(snapshotName="full")
    assert source.query(_FINGERPRINT) == expected
    everything_there(source)
    restored = last_restore(source)
    assert restored["strategy"] == strategy_of(service)
    if restored["strategy"] == "hydration":
        assert last_words(source)["fetched_bytes"] < size / 10
    assert local_bytes(source, restored) > size * 0.6
    assert source.query(_FINGERPRINT) == expected
    assert source.query("SELECT 1 FROM pg_class WHERE relname = 'later'") == []


def test_local_pages_are_taken_at_no_value_but_their_own(service: Service, source: Warehouse) -> None:
    """Damage in the directory that is replaced: none of it comes back."""
    if strategy_of(service) == "reflink":
        pytest.skip("clones are not read; whoever reads a damaged page is told so by its checksum")
    expected = source.query(_FINGERPRINT)
    ((path,),) = source.query("SELECT pg_relation_filepath('facts')")
    directory = cluster_of(source).data_directory
    for block in range(5, 2000, 100):
        flip_bit(directory / path, block * 8192 + 5000)
    source.restore(snapshotName="full")
    assert source.query(_FINGERPRINT) == expected
    everything_there(source)
    assert source.query(_FINGERPRINT) == expected


def test_another_namespace_of_the_same_origin_helps_as_well(service: Service, source: Warehouse) -> None:
    expected = source.query(_FINGERPRINT)
    with warehouse_of(source.account, "other") as other:
        other.restore(snapshotName="full")
        assert other.query(_FINGERPRINT) == expected
        everything_there(other)
        assert local_bytes(other, last_restore(other)) > 15_000_000
        source.query("DROP TABLE facts")
        assert other.query(_FINGERPRINT) == expected


def test_what_was_replaced_goes_with_the_files_of_a_restore_that_was_replaced_itself(
    service: Service, source: Warehouse
) -> None:
    expected = source.query(_FINGERPRINT)
    for _ in range(3):
        source.query("DELETE FROM facts WHERE id % 7 = 0")
        source.restore(snapshotName="full")
    assert source.query(_FINGERPRINT) == expected
    everything_there(source)
    assert source.query(_FINGERPRINT) == expected


def test_a_killed_hydrator_goes_on_with_what_was_replaced(service: Service, source: Warehouse) -> None:
    if strategy_of(service) != "hydration":
        pytest.skip("only hydration has hydrators")
    expected = source.query(_FINGERPRINT)
    for _ in range(5):
        source.query("UPDATE facts SET text = 'changed' WHERE id <= 500")
        source.restore(snapshotName="full")
        if killed_while_files_arrive(service, source):
            break
        everything_there(source)
    else:
        pytest.fail("everything had arrived before the hydrator could be killed, five times")
    assert wait_for(lambda: _try(source, _FINGERPRINT), lambda rows: rows is not None) == expected
    everything_there(source)
    assert source.query(_FINGERPRINT) == expected


def test_what_was_replaced_may_vanish_before_everything_has_arrived(
    service: Service, source: Warehouse
) -> None:
    """So it does when the disk is short."""
    if strategy_of(service) != "hydration":
        pytest.skip("only with hydration does anything arrive later")
    expected = source.query(_FINGERPRINT)
    source.restore(snapshotName="full")
    for directory in bases(service):
        directory.rename(service.local.settings.paths.root / f"gone-{uuid.uuid4()}")
    for directory in service.local.settings.paths.root.glob("gone-*"):
        shutil.rmtree(directory)
    assert source.query(_FINGERPRINT) == expected
    everything_there(source)
    assert not (cluster_of(source).data_directory / ARRIVAL_FILE).exists()


def killed_while_files_arrive(service: Service, source: Warehouse) -> bool:
    """Kill the process that brings the files, if it has not brought all of them already."""
    cluster = cluster_of(source)
    note = arrival_note(cluster)
    hydrators = [
        pid
        for pid, command in processes_of(cluster.data_directory).items()
        if "hydrator" in command and cluster.data_directory.name in command
    ]
    if note is None or not hydrators:
        return False
    assert note.base is not None
    # What was replaced waits, out of the way, without a server.
    assert [path.name for path in bases(service)] == [cluster.data_directory.name]
    assert not [pid for pid in processes_of(bases(service)[0]) if pid not in hydrators]
    (pid,) = hydrators
    os.kill(pid, signal.SIGKILL)
    return True


def _try(warehouse: Warehouse, statement: str) -> list[tuple[Any, ...]] | None:
    try:
        return warehouse.query(statement)
    except psycopg.OperationalError:
        return None

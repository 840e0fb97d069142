"""What a snapshot is said to cost is what comes back when it is deleted."""

import uuid
from pathlib import Path

import pytest

from stillframe.repository import Repository, SnapshotDocument, SnapshotUsage, SweepPolicy
from support.objectstore import FaultyStore, MemoryObjectStore
from support.repository import keys_in, pages, repository_in, store_files

pytestmark = pytest.mark.unit

ALL = {f"base/5/{number}": pages(*range(number * 32, number * 32 + 32)) for number in range(4)}
SOME = {path: ALL[path] for path in ("base/5/0", "base/5/1")}
EXACT = SweepPolicy(thin_share=1.0)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return repository_in(tmp_path, MemoryObjectStore())


def of(repository: Repository, document: SnapshotDocument) -> SnapshotUsage:
    """One snapshot's line."""
    return next(one for one in repository.usage().snapshots if one.snapshot_id == document.snapshot_id)


def test_an_empty_repository_uses_nothing(repository: Repository) -> None:
    usage = repository.usage()
    assert (usage.logical_bytes, usage.stored_bytes, usage.dead_bytes, usage.snapshots) == (0, 0, 0, ())


def test_what_is_unique_comes_back_and_what_is_shared_does_not(repository: Repository) -> None:
    large, small = store_files(repository, ALL), store_files(repository, SOME)
    before = repository.usage()
    unique = of(repository, large).unique_bytes
    assert of(repository, small).unique_bytes < 2000
    assert unique > 120_000
    assert of(repository, large).reached_bytes > of(repository, small).reached_bytes > unique * 0.9
    repository.delete_snapshot(large.snapshot_id)
    dead = repository.usage()
    assert dead.dead_bytes - before.dead_bytes == unique
    repository.sweep(policy=EXACT)
    after = repository.usage()
    assert after.needed_bytes == before.needed_bytes - unique
    # What a pack costs beside its content: header, seal and footer.
    measured = repository.statistics()
    assert after.dead_bytes == (measured.packs + measured.node_packs) * (64 + 16 + 24)


def test_a_pin_keeps_what_would_be_unique(repository: Repository) -> None:
    document = store_files(repository, ALL)
    assert of(repository, document).unique_bytes > 0
    repository.pin_snapshot(document.snapshot_id, pin_id=uuid.UUID(int=1))
    assert of(repository, document).unique_bytes == 0
    repository.delete_snapshot(document.snapshot_id)
    usage = repository.usage()
    assert usage.snapshots == ()
    assert usage.dead_bytes < 1000


def test_a_sweep_that_has_nothing_to_do_is_not_repeated(tmp_path: Path) -> None:
    store = FaultyStore(MemoryObjectStore(), only="get get_range")
    repository = Repository.create_or_open(store, keys_in(tmp_path))
    document = store_files(repository, SOME)
    repository.sweep()
    repository.sweep()
    reads = len(store.calls)
    repository.sweep()
    assert len(store.calls) == reads
    repository.delete_snapshot(document.snapshot_id)
    assert repository.sweep().packs_removed == 2

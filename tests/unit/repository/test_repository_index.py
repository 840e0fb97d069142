"""A repository with and without index objects: the same snapshots, opened faster or more slowly."""

import os
from pathlib import Path

import pytest

from stillframe.errors import StoreUnavailable
from stillframe.repository import IndexPolicy, Level, Repository, SnapshotDocument
from stillframe.repository.condemned import CondemnedList, Numbered, create_list, newest_list
from stillframe.repository.format import INDEX, NODES, PACKS
from support.objectstore import FaultyStore, MemoryObjectStore, unavailable
from support.repository import contents, keys_in, page, store_files
from support.repository_index import index_names, reads

pytestmark = pytest.mark.unit

SNAPSHOTS = 12
SOON = IndexPolicy(packs=4)


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
def repository(tmp_path: Path, store: MemoryObjectStore) -> Repository:
    return another(tmp_path, store)


@pytest.fixture
def taken(repository: Repository) -> list[SnapshotDocument]:
    """Snapshots with packs of their own."""
    return [store_files(repository, files_of(number)) for number in range(SNAPSHOTS)]


def files_of(number: int) -> dict[str, bytes]:
    return {"base/5/1": page(number), "base/5/2": page(100 + number), "conf": str(number).encode() * 800}


def another(directory: Path, store: MemoryObjectStore | FaultyStore) -> Repository:
    """The repository as another process sees it."""
    return Repository.create_or_open(store, keys_in(directory), index_policy=SOON)


def require_all(repository: Repository, taken: list[SnapshotDocument]) -> None:
    for number, document in enumerate(taken):
        assert contents(repository, document.snapshot_id) == files_of(number)


def test_commits_leave_an_index_behind_and_another_process_reads_no_trailer(
    tmp_path: Path, store: MemoryObjectStore, repository: Repository, taken: list[SnapshotDocument]
) -> None:
    state = repository.index_state()
    assert (state.packs, state.covered) == (2 * SNAPSHOTS, 2 * SNAPSHOTS)
    assert state.objects == len(index_names(store)) <= 3
    counted = FaultyStore(store)
    with another(tmp_path, counted).open_snapshot(taken[0].snapshot_id):
        assert reads(counted, PACKS) == reads(counted, NODES) == 0
    require_all(another(tmp_path, store), taken)


def test_without_any_index_object_everything_is_as_before_and_the_next_snapshot_brings_one(
    tmp_path: Path, store: MemoryObjectStore, taken: list[SnapshotDocument]
) -> None:
    for name in index_names(store):
        store.delete(name)
    fresh = another(tmp_path, store)
    assert fresh.check(level=Level.BYTES).clean
    require_all(fresh, taken)
    again = store_files(another(tmp_path, store), files_of(3))
    assert again.statistics.new_frames == 0
    assert again.statistics.known_frames > 0
    assert index_names(store)
    assert fresh.index_state().covered == len(store_packs(store))
    require_all(another(tmp_path, store), [*taken])


def store_packs(store: MemoryObjectStore) -> list[str]:
    return [name for name in store.objects if name.startswith((PACKS, NODES))]


def test_an_index_lost_while_the_process_goes_on_is_brought_back_by_the_next_sweep(
    store: MemoryObjectStore, repository: Repository, taken: list[SnapshotDocument]
) -> None:
    for name in index_names(store):
        store.delete(name)
    repository.sweep()
    assert repository.index_state().covered == 2 * SNAPSHOTS
    require_all(repository, taken)


def test_sweeps_of_a_repository_with_an_index_come_to_rest(
    store: MemoryObjectStore, repository: Repository, taken: list[SnapshotDocument]
) -> None:
    repository.delete_snapshot(taken[0].snapshot_id)
    for _ in range(4):
        repository.sweep()
    before = dict(store.objects)
    repository.sweep()
    assert store.objects == before
    require_all(repository, [])
    assert repository.check().clean


def test_an_index_object_that_cannot_be_written_does_not_fail_the_snapshot(
    tmp_path: Path, store: MemoryObjectStore, taken: list[SnapshotDocument]
) -> None:
    for name in index_names(store):
        store.delete(name)

    class WithoutIndex(FaultyStore):
        def put(self, name: str, data: object, *, if_absent: bool = False) -> None:
            if name.startswith(INDEX):
                unavailable(lambda: None)
            super().put(name, data, if_absent=if_absent)  # type: ignore[arg-type]

    made = store_files(another(tmp_path, WithoutIndex(store)), files_of(50))
    assert index_names(store) == []
    assert contents(another(tmp_path, store), made.snapshot_id) == files_of(50)


def test_a_check_names_a_damaged_index_object_and_no_snapshot(
    tmp_path: Path, store: MemoryObjectStore, taken: list[SnapshotDocument]
) -> None:
    name = index_names(store)[0]
    data = bytearray(store.objects[name])
    data[-1] ^= 1
    store.objects[name] = bytes(data)
    fresh = another(tmp_path, store)
    (finding,) = fresh.check().findings
    assert finding.object == name
    assert finding.snapshot_id is None
    require_all(fresh, taken)
    fresh.rebuild_index()
    assert another(tmp_path, store).check().clean


def test_rebuilding_the_index_changes_nothing_but_the_index(
    tmp_path: Path, store: MemoryObjectStore, repository: Repository, taken: list[SnapshotDocument]
) -> None:
    before = {name: data for name, data in store.objects.items() if not name.startswith(INDEX)}
    old = index_names(store)
    state = repository.rebuild_index()
    assert (state.objects, state.covered) == (1, 2 * SNAPSHOTS)
    assert not set(old) & set(index_names(store))
    assert {name: data for name, data in store.objects.items() if not name.startswith(INDEX)} == before
    require_all(repository, taken)
    require_all(another(tmp_path, store), taken)


def test_index_objects_of_other_packs_do_not_make_a_writer_rely_on_them(
    tmp_path: Path, store: MemoryObjectStore, repository: Repository, taken: list[SnapshotDocument]
) -> None:
    replayed = {name: store.objects[name] for name in index_names(store)}
    for document in taken:
        repository.delete_snapshot(document.snapshot_id)
    for _ in range(3):
        repository.sweep()
    assert store_packs(store) == []
    assert index_names(store) == []
    store.objects |= replayed
    fresh = another(tmp_path, store)
    made = store_files(fresh, files_of(3))
    assert made.statistics.known_frames == 0
    assert contents(fresh, made.snapshot_id) == files_of(3)
    assert fresh.check(level=Level.BYTES).clean
    repository.sweep()
    assert not set(replayed) & set(index_names(store))


def test_a_listing_of_condemned_packs_that_is_older_than_what_was_promised_is_refused(
    store: MemoryObjectStore,
) -> None:
    create_list(store, 1, CondemnedList(sweep=os.urandom(4).hex()))
    known = newest_list(store)
    assert known.number == 1
    with pytest.raises(StoreUnavailable):
        newest_list(store, at_least=2)
    assert newest_list(store, known=known, at_least=1) == known
    # Numbers begin anew when lists are lost: that must not stop a process for ever that has seen higher ones.
    assert newest_list(store, known=Numbered(2, CondemnedList())) == known

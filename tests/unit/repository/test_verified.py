"""A check remembers what it has verified; the next one reads what is new, what has changed, and what is old."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stillframe.repository import CheckReport, IndexPolicy, Level, Repository
from stillframe.repository.format import INDEX, NODES, PACKS, VERIFIED
from stillframe.repository.trie import NameMap
from support.objectstore import FaultyStore, MemoryObjectStore
from support.repository import keys_in, page, pages, store_files
from support.repository_index import reads

pytestmark = pytest.mark.unit

WEEK = timedelta(days=7)


class SetClock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 23, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def sleep(self, seconds: float) -> None:
        raise AssertionError("Nobody waits here.")


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def repository(tmp_path: Path, store: MemoryObjectStore, clock: SetClock) -> Repository:
    return Repository.create_or_open(store, keys_in(tmp_path), clock=clock)


def checked(repository: Repository, remembered_for: timedelta | None = WEEK) -> CheckReport:
    return repository.check(level=Level.BYTES, remembered_for=remembered_for)


def test_the_second_check_reads_only_what_is_new(repository: Repository) -> None:
    store_files(repository, {"base/5/1": pages(*range(32))})
    first = checked(repository)
    assert (first.bytes_remembered, first.bytes_read > 60_000) == (0, True)
    assert checked(repository).bytes_read == 0
    store_files(repository, {"base/5/2": pages(99)})
    third = checked(repository)
    assert 0 < third.bytes_read < first.bytes_read / 10
    assert third.bytes_remembered >= first.bytes_read


def test_everything_is_read_when_it_is_asked_for_or_too_long_ago_or_in_the_future(
    repository: Repository, clock: SetClock
) -> None:
    store_files(repository, {"base/5/1": pages(1)})
    whole = checked(repository).bytes_read
    assert checked(repository, None).bytes_read == whole
    clock.time += WEEK
    assert checked(repository).bytes_read == whole
    clock.time -= 10 * WEEK
    assert checked(repository).bytes_read == whole
    assert checked(repository).bytes_read == 0


def test_damage_is_not_remembered_as_being_in_order(repository: Repository, store: MemoryObjectStore) -> None:
    store_files(repository, {"base/5/1": pages(1)})
    name = next(store.list(PACKS)).name
    whole = store.objects[name]
    store.objects[name] = whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]
    for _ in range(2):
        assert not checked(repository).clean
    store.objects[name] = whole
    assert checked(repository).clean
    assert checked(repository).bytes_read == 0
    # Another length is another pack, whatever is remembered.
    store.objects[name] = whole[:-1]
    assert not checked(repository).clean


def test_losing_or_changing_the_memory_only_costs_reading(
    repository: Repository, store: MemoryObjectStore
) -> None:
    store_files(repository, {"base/5/1": pages(1)})
    whole = checked(repository).bytes_read
    (name,) = [one.name for one in store.list(VERIFIED)]
    data = store.objects[name]
    for changed in (None, data[:-1], data[:80] + b"?" + data[81:]):
        del store.objects[name]
        if changed is not None:
            store.objects[name] = changed
        assert checked(repository).bytes_read == whole
        assert checked(repository).bytes_read == 0


def test_the_second_check_reads_no_trailer_node_or_index_that_an_earlier_one_has(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    policy = IndexPolicy(packs=4)
    repository = Repository.create_or_open(store, keys_in(tmp_path), index_policy=policy)
    for number in range(8):
        store_files(repository, {"base/5/1": page(number), "base/5/2": pages(*range(40)), "conf": b"18"})
    first = FaultyStore(store)
    assert checked(Repository.create_or_open(first, keys_in(tmp_path))).clean
    assert all(reads(first, prefix) for prefix in (PACKS, NODES, INDEX))
    store_files(repository, {"base/5/1": page(99), "base/5/2": pages(*range(40)), "conf": b"18"})
    second = FaultyStore(store)
    report = checked(Repository.create_or_open(second, keys_in(tmp_path)))
    assert report.clean
    assert report.snapshots == 9
    # One new pack each: its header and tail by whoever asks what is in it, three times, and its content.
    assert 0 < reads(second, PACKS) <= 7
    assert 0 < reads(second, NODES) <= 7


def test_whatever_vanishes_after_a_check_is_missed_by_the_next(
    repository: Repository, store: MemoryObjectStore
) -> None:
    for number in range(3):
        store_files(repository, {"base/5/1": page(number) + pages(*range(10, 30)), "v": b"18"})
    assert checked(repository).clean
    for name in [one.name for prefix in (PACKS, NODES) for one in store.list(prefix)]:
        remembered = dict(store.objects)
        del store.objects[name]
        assert not checked(repository).clean, name
        # What was found is found again, although another check has been here.
        assert not checked(repository).clean, name
        store.objects |= remembered
        assert checked(repository).clean


def test_a_pack_that_no_snapshot_needs_may_go(repository: Repository, store: MemoryObjectStore) -> None:
    kept = store_files(repository, {"base/5/1": pages(*range(32))})
    gone = store_files(repository, {"base/5/1": pages(*range(50, 82))})
    assert checked(repository).clean
    repository.delete_snapshot(gone.snapshot_id)
    before = len(list(store.list(PACKS)))
    while len(list(store.list(PACKS))) == before:
        repository.sweep()
    report = checked(repository)
    assert (report.clean, report.snapshots, report.bytes_read) == (True, 1, 0)
    assert list(repository.snapshot_ids()) == [kept.snapshot_id]


def test_trees_are_walked_anew_after_as_long_a_time_as_packs(
    repository: Repository, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_files(repository, {"base/5/1": page(1)})
    walked: list[bytes] = []
    node = NameMap.node

    def noted(self: NameMap[Any], node_id: bytes) -> object:
        walked.append(node_id)
        return node(self, node_id)

    monkeypatch.setattr(NameMap, "node", noted)

    def nodes_walked(remembered_for: timedelta | None) -> int:
        walked.clear()
        assert checked(repository, remembered_for).clean
        return len(walked)

    whole = nodes_walked(WEEK)
    assert whole > 0
    assert nodes_walked(WEEK) == 0
    assert nodes_walked(None) == whole
    clock.time += WEEK
    assert nodes_walked(WEEK) == whole
    clock.time -= 2 * WEEK
    assert nodes_walked(WEEK) == whole


def test_a_snapshot_that_comes_while_a_check_reads_is_checked_and_not_remembered(
    tmp_path: Path, store: MemoryObjectStore, clock: SetClock
) -> None:
    """Its packs were not listed when the check began, so it would not be noticed that they vanish."""
    repository = Repository.create_or_open(store, keys_in(tmp_path), clock=clock)
    store_files(repository, {"base/5/1": page(1)})
    before = set(store.objects)

    def commit(_: object) -> None:
        if not late:
            late.append(store_files(repository, {"base/5/1": page(2)}))

    late: list[object] = []
    report = repository.check(level=Level.BYTES, remembered_for=WEEK, on_progress=commit)
    assert (report.clean, report.snapshots) == (True, 2)
    for name in sorted(set(store.objects) - before):
        if name.startswith((PACKS, NODES)):
            kept = dict(store.objects)
            del store.objects[name]
            assert not checked(repository).clean, name
            store.objects |= kept

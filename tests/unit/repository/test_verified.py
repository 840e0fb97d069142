"""A check remembers what it has verified; the next one reads what is new, what has changed, and what is old."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stillframe.repository import CheckReport, Level, Repository
from stillframe.repository.format import PACKS, VERIFIED
from support.objectstore import MemoryObjectStore
from support.repository import keys_in, pages, store_files

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

"""A listing that leaves a document out is noticed before anything is removed."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillframe.errors import StoreUnavailable
from stillframe.objectstore import StoredObject
from stillframe.repository import Repository, SweepPolicy
from stillframe.repository.census import CENSUS_NAME, PIN_MARKS, remove_lost_pin_marks
from stillframe.repository.format import ATTRIBUTES, CENSUS, CONDEMNED, PINS, SNAPSHOTS
from support.objectstore import FaultyStore, MemoryObjectStore
from support.repository import (
    KEY,
    contents,
    facts,
    keys_in,
    pages,
    read_files,
    repository_in,
    store_files,
)
from support.store_faults import HidingStore, StaleStore

pytestmark = pytest.mark.unit

FILES = {"base/5/1": pages(1, 2, 3), "PG_VERSION": b"18\n"}


class Forgetful(FaultyStore):
    """Leaves objects out of its listings whose names contain one of these texts."""

    hidden: tuple[str, ...] = ()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        for stored in super().list(prefix):
            if not any(text in stored.name for text in self.hidden):
                yield stored


@pytest.fixture(name="store")
def _store() -> Forgetful:
    return Forgetful(MemoryObjectStore())


def memory(store: Forgetful) -> MemoryObjectStore:
    assert isinstance(store.store, MemoryObjectStore)
    return store.store


def packs(store: Forgetful) -> set[str]:
    return {name for name in memory(store).objects if name.startswith(("packs/", "nodes/"))}


@pytest.mark.parametrize("seen_before", [False, True])
def test_a_snapshot_that_is_not_listed_keeps_its_content(
    tmp_path: Path, store: Forgetful, seen_before: bool
) -> None:
    kept = store_files(repository_in(tmp_path, store), FILES).snapshot_id
    if seen_before:
        repository_in(tmp_path, store).sweep()
    before = packs(store)
    store.hidden = (f"{SNAPSHOTS}{kept}",)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="does not list"):
            repository_in(tmp_path, store).sweep()
    with pytest.raises(StoreUnavailable, match="does not list"):
        repository_in(tmp_path, store).sweep(dry_run=True)
    assert packs(store) == before
    store.hidden = ()
    repository_in(tmp_path, store).sweep(policy=SweepPolicy(thin_share=1.0))
    assert contents(repository_in(tmp_path, store), kept) == FILES


def test_a_snapshot_that_a_sweep_has_seen_is_missed_though_its_attributes_are_not_listed_either(
    tmp_path: Path, store: Forgetful
) -> None:
    kept = store_files(repository_in(tmp_path, store), FILES).snapshot_id
    repository_in(tmp_path, store).sweep()
    before = packs(store)
    store.hidden = (str(kept),)
    with pytest.raises(StoreUnavailable):
        repository_in(tmp_path, store).sweep()
    assert packs(store) == before


def test_a_pin_that_a_sweep_has_seen_is_missed(tmp_path: Path, store: Forgetful) -> None:
    repository, pin_id = repository_in(tmp_path, store), uuid.uuid4()
    snapshot_id = store_files(repository, FILES).snapshot_id
    repository.pin_snapshot(snapshot_id, pin_id=pin_id)
    repository.sweep()
    repository.delete_snapshot(snapshot_id)
    before = packs(store)
    store.hidden = (PINS,)
    with pytest.raises(StoreUnavailable):
        repository_in(tmp_path, store).sweep()
    assert packs(store) == before


def test_what_vanished_is_asked_for_until_a_sweep_has_not_seen_it(tmp_path: Path, store: Forgetful) -> None:
    repository = repository_in(tmp_path, store)
    gone = store_files(repository, FILES).snapshot_id
    stays = store_files(repository, FILES).snapshot_id
    repository.sweep()
    # As release 0.1.0 deletes: without a copy.
    for prefix in (SNAPSHOTS, ATTRIBUTES):
        store.delete(f"{prefix}{gone}")
    assert [one.object for one in repository.check().findings] == [f"{SNAPSHOTS}{gone}"]

    def asked() -> int:
        store.calls.clear()
        repository_in(tmp_path, store).sweep()
        return store.calls.count(("size", f"{SNAPSHOTS}{gone}"))

    assert asked() > 0
    assert asked() == 0
    assert packs(store) != set()
    assert contents(repository_in(tmp_path, store), stays) == FILES


def test_what_was_deleted_is_neither_asked_for_nor_missed(tmp_path: Path, store: Forgetful) -> None:
    repository, pin_id = repository_in(tmp_path, store), uuid.uuid4()
    gone = store_files(repository, FILES).snapshot_id
    repository.pin_snapshot(gone, pin_id=pin_id)
    repository.sweep()
    with repository.open_snapshot(gone):
        repository.delete_snapshot(gone)
        repository.unpin(pin_id)
        assert repository.check().clean
        repository.sweep()
        assert repository.check().clean
    repository.sweep()
    assert repository.check().clean
    assert packs(store) == set()


def test_a_census_that_was_damaged_or_lost_is_begun_anew(tmp_path: Path, store: Forgetful) -> None:
    repository: Repository = repository_in(tmp_path, store)
    store_files(repository, FILES)
    repository.sweep()
    good = store.get(CENSUS_NAME)
    for position in range(0, len(good), 7):
        store.put(CENSUS_NAME, good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        assert [one.object for one in repository.check().findings] == [CENSUS_NAME]
    repository_in(tmp_path, store).sweep()
    assert store.get(CENSUS_NAME) == good
    store.delete(CENSUS_NAME)
    assert repository.check().clean
    repository_in(tmp_path, store).sweep()
    assert store.get(CENSUS_NAME) == good


def test_a_snapshot_that_is_made_while_its_sweep_looks_is_no_contradiction(
    tmp_path: Path, store: Forgetful
) -> None:
    """Its attributes may be listed after a listing of the documents that could not have it yet."""
    first = store_files(repository_in(tmp_path, store), FILES).snapshot_id
    store.hidden = (f"{SNAPSHOTS}{first}",)

    class Late(Forgetful):
        """Lists all from the second time on."""

        def list(self, prefix: str) -> Iterator[StoredObject]:
            yield from super().list(prefix)
            if prefix == ATTRIBUTES:
                self.hidden = ()

    late = Late(store.store)
    late.hidden = store.hidden
    Repository.create_or_open(late, keys_in(tmp_path)).sweep()
    assert not any(late.hidden)
    assert contents(repository_in(tmp_path, late), first) == FILES


def test_a_sweep_of_nothing_remembers_nothing(tmp_path: Path, store: Forgetful) -> None:
    repository_in(tmp_path, store).sweep()
    assert list(store.list(CENSUS)) == []


def test_a_lost_list_of_condemned_packs_is_begun_above_what_anybody_has_seen(
    tmp_path: Path, store: Forgetful
) -> None:
    """Else a number that somebody promised to heed would come again, for packs that they rely on."""
    one, other = repository_in(tmp_path, store), repository_in(tmp_path, store)
    snapshot_id = store_files(one, FILES).snapshot_id
    for number in range(3):
        one.delete_snapshot(store_files(one, {"f": bytes([number]) * 3000}).snapshot_id)
        one.sweep()
    (newest,) = [stored.name for stored in store.list(CONDEMNED)]
    with one.begin_snapshot(key_id=KEY, parent=snapshot_id) as writer:
        writer.inherit_directory("")
        writer.inherit_directory("base/5")
        for name in (newest, f"{SNAPSHOTS}{snapshot_id}", f"{ATTRIBUTES}{snapshot_id}", CENSUS_NAME):
            store.delete(name)
        for _ in range(12):
            store.put(f"{ATTRIBUTES}{uuid.uuid4()}", b"makes the next sweep look again")
            other.sweep()
        assert min(stored.name for stored in store.list(CONDEMNED)) > newest
        child = writer.commit(facts())
    assert contents(other, child.snapshot_id) == FILES


def pinned(store: Forgetful, tmp_path: Path) -> uuid.UUID:
    """A pin that no sweep has seen, of a snapshot that is deleted."""
    repository, pin_id = repository_in(tmp_path, store), uuid.uuid4()
    snapshot_id = store_files(repository, FILES).snapshot_id
    repository.pin_snapshot(snapshot_id, pin_id=pin_id)
    repository.delete_snapshot(snapshot_id)
    return pin_id


def test_a_pin_that_no_sweep_has_seen_is_missed_too(tmp_path: Path, store: Forgetful) -> None:
    pin_id = pinned(store, tmp_path)
    before = packs(store)
    hiding = HidingStore(memory(store), hidden=f"{PINS}{pin_id}")
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="does not list"):
            repository_in(tmp_path, hiding).sweep(policy=SweepPolicy(thin_share=1.0))
    assert packs(store) == before
    for _ in range(3):
        repository_in(tmp_path, store).sweep(policy=SweepPolicy(thin_share=1.0))
    with repository_in(tmp_path, store).open_pinned(pin_id) as reader:
        assert read_files(reader) == FILES


def test_the_mark_of_a_pin_goes_with_it(tmp_path: Path, store: Forgetful) -> None:
    pin_id = pinned(store, tmp_path)
    repository = repository_in(tmp_path, store)
    assert [stored.name for stored in store.list(PIN_MARKS)] == [f"{PIN_MARKS}{pin_id}"]
    assert repository.check().clean
    repository.unpin(pin_id)
    assert list(store.list(PIN_MARKS)) == []
    for _ in range(3):
        repository.sweep()
    assert packs(store) == set()


def test_the_mark_of_a_pin_that_was_never_made_is_removed_when_nobody_is_open(
    tmp_path: Path, store: Forgetful
) -> None:
    repository = repository_in(tmp_path, store)
    kept, lost = uuid.uuid4(), uuid.uuid4()
    snapshot_id = store_files(repository, FILES).snapshot_id
    repository.pin_snapshot(snapshot_id, pin_id=kept)
    store.put(f"{PIN_MARKS}{lost}", b"")
    with repository_in(tmp_path, store).open_snapshot(snapshot_id):
        # It may be making that pin.
        assert repository.sweep().leftovers_removed == 0
        assert len(list(store.list(PIN_MARKS))) == 2
    assert repository.sweep(dry_run=True).leftovers_removed == 1
    assert repository.sweep().leftovers_removed == 1
    assert [stored.name for stored in store.list(PIN_MARKS)] == [f"{PIN_MARKS}{kept}"]


def test_the_mark_of_a_pin_that_is_not_listed_stays(tmp_path: Path, store: Forgetful) -> None:
    pin_id = pinned(store, tmp_path)
    hiding = HidingStore(memory(store), hidden=f"{PINS}{pin_id}")
    assert remove_lost_pin_marks(hiding, dry_run=False) == 0
    assert store.size(f"{PIN_MARKS}{pin_id}") == 0


def test_a_document_that_is_listed_long_after_its_deletion_is_not_remembered(
    tmp_path: Path, store: Forgetful
) -> None:
    repository = repository_in(tmp_path, store)
    gone = store_files(repository, FILES).snapshot_id
    kept = store_files(repository, FILES).snapshot_id
    repository.sweep()
    earlier = memory(store).copy()
    repository.delete_snapshot(gone)
    for _ in range(3):
        repository.sweep()
    stale = StaleStore(memory(store), earlier=earlier, prefix=SNAPSHOTS)
    repository_in(tmp_path, stale).sweep()
    assert repository.check().clean
    assert f"{SNAPSHOTS}{kept}".encode() in store.get(CENSUS_NAME)
    assert f"{SNAPSHOTS}{gone}".encode() not in store.get(CENSUS_NAME)

"""A pin keeps a snapshot's content, and the way to it, whatever becomes of the snapshot."""

import os
import uuid
from pathlib import Path

import pytest

from stillframe.domain.identifiers import SnapshotId
from stillframe.errors import Conflict, DataError, ObjectMissing
from stillframe.repository import Repository
from stillframe.repository.format import PINS
from support.objectstore import MemoryObjectStore
from support.repository import pages, read_files, repository_in, store_files

pytestmark = pytest.mark.unit

FILES = {"base/5/1": pages(1, 2), "conf": os.urandom(1500)}
PIN, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
def repository(tmp_path: Path, store: MemoryObjectStore) -> Repository:
    return repository_in(tmp_path, store)


def test_a_pinned_snapshot_opens_after_its_deletion_and_after_collections(
    repository: Repository, tmp_path: Path, store: MemoryObjectStore
) -> None:
    document = store_files(repository, FILES)
    repository.pin_snapshot(document.snapshot_id, pin_id=PIN)
    repository.delete_snapshot(document.snapshot_id)
    repository.sweep()
    again = repository_in(tmp_path, store)
    with again.open_pinned(PIN) as reader:
        assert reader.document == document
        assert read_files(reader) == FILES
    assert list(again.pin_ids()) == [PIN]


def test_after_unpinning_a_deleted_snapshot_nothing_of_it_is_left(
    repository: Repository, store: MemoryObjectStore
) -> None:
    store_files(repository, {"w": b"w" * 2000})
    repository.sweep()
    before = {name for name in store.objects if not name.startswith("condemned/")}
    document = store_files(repository, FILES)
    for pin in (PIN, OTHER):
        repository.pin_snapshot(document.snapshot_id, pin_id=pin)
    repository.delete_snapshot(document.snapshot_id)
    repository.unpin(PIN)
    repository.sweep()
    with repository.open_pinned(OTHER) as reader:
        assert read_files(reader) == FILES
    repository.unpin(OTHER)
    repository.unpin(OTHER)
    repository.sweep()
    assert {name for name in store.objects if not name.startswith("condemned/")} == before


def test_pinning_twice_is_one_pin_and_one_id_is_one_snapshot(
    repository: Repository, store: MemoryObjectStore
) -> None:
    one, two = store_files(repository, FILES), store_files(repository, {})
    repository.pin_snapshot(one.snapshot_id, pin_id=PIN)
    before = dict(store.objects)
    repository.pin_snapshot(one.snapshot_id, pin_id=PIN)
    assert store.objects == before
    with pytest.raises(Conflict):
        repository.pin_snapshot(two.snapshot_id, pin_id=PIN)
    repository.delete_snapshot(one.snapshot_id)
    repository.pin_snapshot(one.snapshot_id, pin_id=PIN)


def test_what_is_not_there_cannot_be_pinned_or_opened(
    repository: Repository, store: MemoryObjectStore
) -> None:
    with pytest.raises(ObjectMissing):
        repository.pin_snapshot(SnapshotId(uuid.uuid4()), pin_id=PIN)
    with pytest.raises(ObjectMissing):
        repository.open_pinned(PIN)
    assert list(store.list(PINS)) == []
    assert list(store.list("epochs/")) == []


def test_a_changed_or_swapped_pin_does_not_open(repository: Repository, store: MemoryObjectStore) -> None:
    one, two = store_files(repository, FILES), store_files(repository, {})
    repository.pin_snapshot(one.snapshot_id, pin_id=PIN)
    repository.pin_snapshot(two.snapshot_id, pin_id=OTHER)
    whole = store.objects[f"{PINS}{PIN}"]
    for wrong in (store.objects[f"{PINS}{OTHER}"], whole[:-1], whole[:70] + b"?" + whole[71:]):
        store.objects[f"{PINS}{PIN}"] = wrong
        with pytest.raises(DataError):
            repository.open_pinned(PIN)
        assert not repository.check().clean

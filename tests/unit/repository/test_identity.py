"""A wrong identity, or a wrong "missing", is noticed before anything is done on the strength of it."""

import contextlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillframe.domain.identifiers import KmsKeyId
from stillframe.errors import StoredDataCorrupt, StoreUnavailable
from stillframe.objectstore import ObjectStore
from stillframe.repository import Repository
from stillframe.repository.format import CONFIG_NAME, KEYS
from support.objectstore import FaultyStore, MemoryObjectStore
from support.repository import KEY, contents, facts, keys_in, pages, store_files
from support.store_faults import not_found

pytestmark = pytest.mark.unit

OTHER_KEY = KmsKeyId("another key")
FILES = {"base/5/1": pages(1, 2, 3), "PG_VERSION": b"18\n"}


def repository_in(directory: Path, store: ObjectStore) -> Repository:
    return Repository.create_or_open(store, keys_in(directory, KEY, OTHER_KEY))


def another_id(call: Callable[[], Any]) -> Any:
    """One digit of the repository's id is another, and the document is as well formed as before."""
    data = call()
    if b'"id":"' not in data:
        return data
    at = data.index(b'"id":"') + 7
    return data[:at] + (b"1" if data[at : at + 1] == b"0" else b"0") + data[at + 1 :]


def capture(tmp_path: Path, store: FaultyStore) -> None:
    with repository_in(tmp_path, store).begin_snapshot(key_id=KEY) as writer:
        writer.commit(facts())


@pytest.mark.parametrize("position", [0, 1])
def test_an_identity_that_was_read_wrongly_once_leaves_no_trace(tmp_path: Path, position: int) -> None:
    store = MemoryObjectStore()
    kept = store_files(repository_in(tmp_path, store), FILES).snapshot_id
    before = dict(store.objects)
    lying = FaultyStore(store, position=position, fault=another_id, only="get")
    with pytest.raises(StoreUnavailable, match="two different ways"):
        capture(tmp_path, lying)
    assert store.objects == before
    repository = repository_in(tmp_path, store)
    capture(tmp_path, FaultyStore(store))
    assert repository.check().clean
    assert contents(repository, kept) == FILES
    assert len([name for name in store.objects if name.startswith(KEYS)]) == 1


def test_under_a_changed_identity_no_data_key_is_minted(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    kept = store_files(repository_in(tmp_path, store), FILES).snapshot_id
    whole = store.objects[CONFIG_NAME]
    store.objects[CONFIG_NAME] = another_id(lambda: whole)
    before = dict(store.objects)
    for key_id in (KEY, OTHER_KEY):
        with pytest.raises(StoredDataCorrupt, match="none of the repository"):
            repository_in(tmp_path, store).begin_snapshot(key_id=key_id)
    assert store.objects == before
    store.objects[CONFIG_NAME] = whole
    assert contents(repository_in(tmp_path, store), kept) == FILES


def test_one_damaged_data_key_does_not_keep_another_from_being_minted(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    store_files(repository_in(tmp_path, store), FILES)
    (name,) = [name for name in store.objects if name.startswith(KEYS)]
    store.objects[name] = store.objects[name][:-5]
    repository = repository_in(tmp_path, store)
    with repository.begin_snapshot(key_id=OTHER_KEY) as writer:
        committed = writer.commit(facts())
    assert repository.document(committed.snapshot_id).snapshot_id == committed.snapshot_id


def test_a_snapshot_that_is_wrongly_said_to_be_missing_is_not_half_deleted(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    kept = store_files(repository_in(tmp_path, store), FILES).snapshot_id
    outcomes = set()
    for position in range(20):
        lying = FaultyStore(store.copy(), position=position, fault=not_found, only="get size get_range")
        with contextlib.suppress(StoreUnavailable):
            repository_in(tmp_path, lying).delete_snapshot(kept)
        after = repository_in(tmp_path, lying.store)
        outcomes.add(kept in after.snapshot_ids())
        if kept in after.snapshot_ids():
            assert after.document(kept).snapshot_id == kept
            assert contents(after, kept) == FILES
        else:
            assert not list(lying.store.list(f"attributes/{kept}"))
    assert False in outcomes


def test_a_pin_that_is_wrongly_said_to_be_missing_is_still_there_after_unpin_has_failed(
    tmp_path: Path,
) -> None:
    store, pin_id = MemoryObjectStore(), uuid.uuid4()
    repository = repository_in(tmp_path, store)
    repository.pin_snapshot(store_files(repository, FILES).snapshot_id, pin_id=pin_id)

    class Hesitant(FaultyStore):
        """Says twice that a pin is missing."""

        said = 0

        def get(self, name: str) -> bytes:
            if name.startswith("pins/") and self.said < 2:
                self.said += 1
                return bytes(not_found(lambda: self.store.get(name)))
            return super().get(name)

    hesitant = Hesitant(store)
    with pytest.raises(StoreUnavailable, match="does not give it"):
        repository_in(tmp_path, hesitant).unpin(pin_id)
    assert list(repository.pin_ids()) == [pin_id]
    repository_in(tmp_path, hesitant).unpin(pin_id)
    assert list(repository.pin_ids()) == []


def test_a_snapshot_that_is_committed_while_it_is_deleted_is_deleted(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    repository = repository_in(tmp_path, store)
    snapshot_id = store_files(repository, FILES).snapshot_id
    document = store.objects.pop(f"snapshots/{snapshot_id}")

    class Late(FaultyStore):
        """The document comes to be right after it was first asked for."""

        def get(self, name: str) -> bytes:
            try:
                return super().get(name)
            finally:
                if name.startswith("snapshots/"):
                    store.objects.setdefault(name, document)

    repository_in(tmp_path, Late(store)).delete_snapshot(snapshot_id)
    assert list(repository.documents()) == []

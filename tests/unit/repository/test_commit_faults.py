"""Whatever the store does at whatever call: no committed snapshot is harmed, none is half there, a rerun converges."""

import itertools
import os
import time
import uuid
from pathlib import Path

import pytest

from stillframe.domain.identifiers import SnapshotId
from stillframe.errors import ObjectMissing, StillframeError, StoredDataCorrupt, StoreUnavailable
from stillframe.repository import Level, Repository
from stillframe.repository.codec import ContentCodec
from stillframe.repository.crypto import ContentBytes
from stillframe.repository.format import ATTRIBUTES, EPOCHS, NODES, PACKS, SNAPSHOTS, Codec
from support.objectstore import (
    Crash,
    Fault,
    FaultyStore,
    MemoryObjectStore,
    crash_after,
    crash_before,
    disk_full,
    lost_reply,
    retried_after_lost_reply,
    unavailable,
)
from support.repository import BLOCK, KEY, contents, facts, keys_in, pages, repository_in, store_files

pytestmark = pytest.mark.unit

FIRST = {"base/5/1": pages(1, 2, 3), "PG_VERSION": b"18\n", "conf": os.urandom(2000)}
SECOND = FIRST | {"base/5/1": pages(1, 4, 3, 5), "base/5/2": pages(9), "wal": os.urandom(5000)}
NEW = SnapshotId(uuid.UUID(int=42))
FAULTS = [unavailable, lost_reply, retried_after_lost_reply, disk_full, crash_before, crash_after]


@pytest.fixture
def base(tmp_path: Path) -> tuple[MemoryObjectStore, SnapshotId]:
    store = MemoryObjectStore()
    return store, store_files(repository_in(tmp_path, store), FIRST).snapshot_id


def take_second(repository: Repository, parent: SnapshotId | None) -> None:
    store_files(repository, SECOND, parent=parent, snapshot_id=NEW)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_at_any_call_of_a_capture_harms_nothing(
    tmp_path: Path, base: tuple[MemoryObjectStore, SnapshotId], fault: Fault
) -> None:
    original, first = base
    committed = failed = 0
    for position in itertools.count():
        store = original.copy()
        faulty = FaultyStore(store, position=position, fault=fault)
        try:
            take_second(Repository.create_or_open(faulty, keys_in(tmp_path)), first)
            done = True
        except (StillframeError, Crash):
            done = False
        store.all_holders_die()
        assert_nothing_is_harmed(tmp_path, store, first, must_exist=done)
        committed, failed = committed + done, failed + (not done)
        if len(faulty.calls) <= position:
            break
    assert position > 15
    assert committed >= 1
    assert failed >= 5 or fault is retried_after_lost_reply


def assert_nothing_is_harmed(
    tmp_path: Path, store: MemoryObjectStore, first: SnapshotId, *, must_exist: bool
) -> None:
    repository = repository_in(tmp_path, store)
    assert contents(repository, first) == FIRST
    exists = NEW in list(repository.snapshot_ids())
    assert exists or not must_exist
    if exists:
        assert contents(repository, NEW) == SECOND
    else:
        take_second(repository, first)
        assert contents(repository, NEW) == SECOND
    repository.sweep()
    assert repository.check(level=Level.BYTES).findings == ()
    assert contents(repository, first) == FIRST
    assert contents(repository, NEW) == SECOND
    assert repository.statistics().open_or_abandoned_writers == 0


@pytest.mark.parametrize("fault", [disk_full, unavailable], ids=lambda fault: fault.__name__)
def test_a_failed_capture_leaves_nothing_behind(
    tmp_path: Path, base: tuple[MemoryObjectStore, SnapshotId], fault: Fault
) -> None:
    """Except when it is the answer to the commit itself that is unknown."""
    original, first = base
    failures = 0
    for position in itertools.count():
        store = original.copy()
        faulty = FaultyStore(store, position=position, fault=fault, only="put")
        try:
            take_second(Repository.create_or_open(faulty, keys_in(tmp_path)), first)
        except StillframeError:
            failures += 1
            at_the_commit = faulty.calls[position][1].startswith(SNAPSHOTS)
            left = store.objects.keys() - original.objects.keys()
            assert not left or (at_the_commit and fault is unavailable)
            store.claim(f"epoch-{NEW}").release()
        if len(faulty.calls) <= position:
            break
    assert failures >= 4


def test_content_is_durable_before_the_document_and_the_document_comes_last(tmp_path: Path) -> None:
    faulty = FaultyStore(MemoryObjectStore(), only="put delete")
    store_files(Repository.create_or_open(faulty, keys_in(tmp_path)), SECOND, snapshot_id=NEW)
    kinds = [name.partition("/")[0] for _, name in faulty.calls]
    assert kinds[:3] == ["repository.json", "keys", "epochs"]
    assert set(kinds[3:5]) == {"packs", "nodes"}
    assert kinds[5:] == ["attributes", "snapshots", "epochs"]


def test_a_lost_reply_to_the_commit_is_read_back(
    tmp_path: Path, base: tuple[MemoryObjectStore, SnapshotId]
) -> None:
    store, first = base
    for name in (SNAPSHOTS, ATTRIBUTES, PACKS, NODES):
        attempt = store.copy()
        faulty = FaultyStore(attempt, only="put")
        take_second(Repository.create_or_open(faulty, keys_in(tmp_path)), first)
        position = next(at for at, call in enumerate(faulty.calls) if call[1].startswith(name))
        attempt = store.copy()
        faulty = FaultyStore(attempt, position=position, fault=lost_reply, only="put")
        take_second(Repository.create_or_open(faulty, keys_in(tmp_path)), first)
        assert contents(repository_in(tmp_path, attempt), NEW) == SECOND


class SecondLookFails(FaultyStore):
    """The commit's reply is lost, and so is every answer after it."""

    def put(self, name: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        super().put(name, data, if_absent=if_absent)
        if name.startswith(SNAPSHOTS):
            self.down = True
            raise StoreUnavailable("The store did not answer.")

    down = False

    def get(self, name: str) -> bytes:
        if self.down:
            raise StoreUnavailable("The store did not answer.")
        return super().get(name)


def test_a_snapshot_whose_commit_has_an_unknown_outcome_keeps_its_content(
    tmp_path: Path, base: tuple[MemoryObjectStore, SnapshotId]
) -> None:
    store, first = base
    with pytest.raises(StoreUnavailable):
        take_second(Repository.create_or_open(SecondLookFails(store), keys_in(tmp_path)), first)
    repository = repository_in(tmp_path, store)
    assert contents(repository, NEW) == SECOND
    assert repository.check(level=Level.BYTES).clean


def test_an_aborted_snapshot_leaves_nothing(
    tmp_path: Path, base: tuple[MemoryObjectStore, SnapshotId]
) -> None:
    store, _ = base
    before = dict(store.objects)
    repository = repository_in(tmp_path, store)
    with pytest.raises(ZeroDivisionError), repository.begin_snapshot(key_id=KEY) as writer:  # noqa: PT012
        writer.add_directory("", mode=0o700)
        file = writer.file("f", mode=0o600)
        file.write(os.urandom(40 << 20))
        raise ZeroDivisionError
    assert store.objects == before
    with repository.begin_snapshot(key_id=KEY) as writer:
        writer.add_directory("base", mode=0o700)
        writer.relation("base/1", mode=0o600, blocks=1).write_run(0, bytes(BLOCK))
    assert store.objects == before
    repository.sweep()


def test_content_of_an_open_writer_is_not_relied_on_before_its_commit(
    tmp_path: Path, base: tuple[MemoryObjectStore, SnapshotId]
) -> None:
    """Otherwise its abort would take away what another snapshot refers to."""
    store, _ = base
    one, other = repository_in(tmp_path, store), repository_in(tmp_path, store)
    big = os.urandom(33 << 20)
    for second in (one, other):
        before = len(list(store.list(PACKS)))
        with one.begin_snapshot(key_id=KEY) as aborted:
            aborted.add_directory("", mode=0o700)
            file = aborted.file("big", mode=0o600)
            file.write(big)
            wait_for_packs(store, more_than=before)
            document = store_files(second, {"big": big, "PG_VERSION": b"18\n"})
        assert document.statistics.new_plain_bytes == len(big)
        assert contents(other, document.snapshot_id)["big"] == big
        assert repository_in(tmp_path, store).check(level=Level.BYTES).clean
        second.delete_snapshot(document.snapshot_id)
        second.sweep()


def wait_for_packs(store: MemoryObjectStore, *, more_than: int) -> None:
    deadline = time.monotonic() + 20
    while len(list(store.list(PACKS))) <= more_than:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_writer_that_died_has_stored_is_used_again(
    tmp_path: Path, base: tuple[MemoryObjectStore, SnapshotId]
) -> None:
    store, first = base
    faulty = FaultyStore(store, only="put")
    take_second(Repository.create_or_open(faulty, keys_in(tmp_path)), first)
    repository_in(tmp_path, store).delete_snapshot(NEW)
    repository_in(tmp_path, store).sweep()
    position = next(at for at, call in enumerate(faulty.calls) if call[1].startswith(ATTRIBUTES))
    dying = FaultyStore(store, position=position, fault=crash_before, only="put")
    with pytest.raises(Crash):
        take_second(Repository.create_or_open(dying, keys_in(tmp_path)), first)
    store.all_holders_die()
    assert len(list(store.list(EPOCHS))) == 1
    for snapshot_id in (NEW, SnapshotId(uuid.UUID(int=43))):
        document = store_files(repository_in(tmp_path, store), SECOND, snapshot_id=snapshot_id)
        assert document.statistics.new_stored_bytes == 0


def test_a_pack_that_vanishes_while_it_is_relied_on_fails_the_commit(
    tmp_path: Path, base: tuple[MemoryObjectStore, SnapshotId]
) -> None:
    store, _ = base
    repository = repository_in(tmp_path, store)
    with repository.begin_snapshot(key_id=KEY) as writer:
        writer.add_directory("base/5", mode=0o700)
        relation = writer.relation("base/5/1", mode=0o600, blocks=3)
        relation.write_run(0, FIRST["base/5/1"])
        relation.close()
        for stored in list(store.list(PACKS)):
            store.delete(stored.name)
        with pytest.raises(ObjectMissing):
            writer.commit(facts())
    assert len(list(repository.snapshot_ids())) == 1


def test_a_writer_whose_sealed_bytes_do_not_open_again_fails(
    tmp_path: Path, base: tuple[MemoryObjectStore, SnapshotId], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, first = base
    before = dict(store.objects)
    repository = repository_in(tmp_path, store)
    real = ContentCodec.compress

    def corrupting(self: ContentCodec, plain: ContentBytes) -> tuple[Codec, ContentBytes]:
        return real(self, bytes(plain[:-1]) + b"?") if len(plain) > 4000 else real(self, plain)

    monkeypatch.setattr(ContentCodec, "compress", corrupting)
    with pytest.raises(StoredDataCorrupt, match="did not survive"):
        take_second(repository, first)
    monkeypatch.undo()
    assert store.objects == before

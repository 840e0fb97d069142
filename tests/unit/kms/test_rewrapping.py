"""A rotated key: what the repository keeps under it is wrapped anew, or stays as it was, and opens in every case."""

import contextlib
from pathlib import Path

import pytest

from stillframe.domain.identifiers import KmsKeyId, SnapshotId
from stillframe.errors import KeyUnavailable, StillframeError, StoreUnavailable
from stillframe.kms import LocalKeyManagement
from stillframe.repository import Repository
from support.objectstore import (
    Crash,
    Fault,
    FaultyStore,
    MemoryObjectStore,
    crash_after,
    crash_before,
    disk_full,
    lost_reply,
    unavailable,
)
from support.repository import KEY, contents, keys_in, page, store_files

pytestmark = pytest.mark.unit

OTHER = KmsKeyId("arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
FILES = {"base/5/1": page(1), "global/x": b"text"}


class Rig:
    """A repository with a snapshot under each of two keys."""

    def __init__(self, directory: Path) -> None:
        self.store = MemoryObjectStore()
        self.keys: LocalKeyManagement = keys_in(directory, KEY, OTHER)
        self.snapshots: dict[KmsKeyId, SnapshotId] = {
            key: store_files(self.opened(), FILES, key_id=key).snapshot_id for key in (KEY, OTHER)
        }

    def opened(self, store: FaultyStore | None = None) -> Repository:
        """The repository as a process that has just started sees it."""
        return Repository.create_or_open(store or self.store, self.keys)

    def wrapped(self, key: KmsKeyId) -> bytes:
        """The stored form of a data key."""
        stored = [self.store.get(item.name) for item in self.store.list("keys/")]
        (found,) = (data for data in stored if f'"{key}"'.encode() in data)
        return found

    def everything_opens(self) -> None:
        """Both snapshots, through both ways of asking for their keys."""
        for snapshot in self.snapshots.values():
            assert contents(self.opened(), snapshot) == FILES
        assert self.opened().check().clean


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_only_the_wrapped_data_key_of_that_key_changes(rig: Rig) -> None:
    before = {item.name: rig.store.get(item.name) for item in rig.store.list("")}
    other = rig.wrapped(OTHER)
    rig.keys.rotate(KEY)
    assert rig.opened().rewrap(KEY)
    changed = [name for name, data in before.items() if rig.store.get(name) != data]
    assert [name.partition("/")[0] for name in changed] == ["keys"]
    assert {item.name for item in rig.store.list("")} == set(before)
    assert rig.wrapped(OTHER) == other
    rig.everything_opens()


def test_a_key_that_nothing_is_under_has_nothing_to_wrap(rig: Rig) -> None:
    rig.keys.ensure_key(KmsKeyId("unused"))
    assert not rig.opened().rewrap(KmsKeyId("unused"))


def test_a_later_snapshot_goes_on_in_the_same_data_key(rig: Rig) -> None:
    rig.keys.rotate(KEY)
    repository = rig.opened()
    repository.rewrap(KEY)
    later = store_files(repository, FILES, key_id=KEY)
    assert later.statistics.new_frames == 0
    rig.everything_opens()


def test_a_reader_that_is_open_reads_on_while_its_key_is_rotated(rig: Rig) -> None:
    repository = rig.opened()
    with repository.open_snapshot(rig.snapshots[KEY]) as reader:
        rig.keys.rotate(KEY)
        repository.rewrap(KEY)
        assert reader.document.snapshot_id == rig.snapshots[KEY]
        assert contents(repository, rig.snapshots[KEY]) == FILES


def test_a_disabled_key_is_not_wrapped_anew(rig: Rig) -> None:
    before = rig.wrapped(OTHER)
    rig.keys.disable(OTHER)
    with pytest.raises(KeyUnavailable):
        rig.opened().rewrap(OTHER)
    assert rig.wrapped(OTHER) == before
    assert contents(rig.opened(), rig.snapshots[KEY]) == FILES
    rig.keys.enable(OTHER)
    rig.everything_opens()


@pytest.mark.parametrize("fault", [unavailable, lost_reply, disk_full, crash_before, crash_after])
def test_wherever_rewrapping_is_cut_off_everything_opens_and_one_more_rotation_ends_it(
    rig: Rig, fault: Fault
) -> None:
    counting = FaultyStore(rig.store)
    repository = rig.opened(counting)
    first = len(counting.calls)
    rig.keys.rotate(KEY)
    repository.rewrap(KEY)
    total = len(counting.calls)
    assert total > first
    for position in range(first, total):
        faulty = FaultyStore(rig.store, position=position, fault=fault)
        repository = rig.opened(faulty)
        rig.keys.rotate(KEY)
        with contextlib.suppress(Crash, StoreUnavailable, StillframeError):
            repository.rewrap(KEY)
        rig.everything_opens()
        assert rig.opened().rewrap(KEY)
        rig.everything_opens()

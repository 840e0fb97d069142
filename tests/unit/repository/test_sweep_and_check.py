"""Sweeps keep all that is needed; checks find all that is wrong."""

import os
import random
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.domain.identifiers import KmsKeyId, SnapshotId
from stillframe.errors import Conflict, DataError, ObjectMissing, StillframeError, StoredDataCorrupt
from stillframe.repository import Level, Repository, SnapshotDocument, SweepPolicy
from stillframe.repository.condemned import CondemnedList, create_list, newest_list
from stillframe.repository.format import (
    ATTRIBUTES,
    CENSUS,
    CONDEMNED,
    EPOCHS,
    KEYS,
    NODES,
    PACKS,
    RETIRED,
    SNAPSHOTS,
    VERIFIED,
)
from support.objectstore import Crash, FaultyStore, MemoryObjectStore, crash_after, crash_before
from support.repository import (
    BLOCK,
    KEY,
    contents,
    facts,
    keys_in,
    page,
    pages,
    repository_in,
    restored,
    store_files,
)
from support.repository_schedule import SwitchedKeys

pytestmark = pytest.mark.unit

# Read before the tests are run: none of them sees the developer's own settings.
EACH = 1 if os.environ.get("STILLFRAME_BIT_ROT") == "all" else 7
"""Of so many bytes one is flipped, and others in every run."""

FILES = {"base/5/1": pages(1, 2) + bytes(40 * BLOCK), "PG_VERSION": b"18\n", "conf": os.urandom(1500)}


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
def repository(tmp_path: Path, store: MemoryObjectStore) -> Repository:
    return repository_in(tmp_path, store)


def kept(store: MemoryObjectStore) -> dict[str, bytes]:
    """All objects but those by which sweeps remember where they are."""
    own = (CENSUS, CONDEMNED, RETIRED)
    return {name: data for name, data in store.objects.items() if not name.startswith(own)}


def delete_at_once(store: MemoryObjectStore, document: SnapshotDocument) -> None:
    """As release 0.1.0 deleted: no copy is left for those who have the snapshot open."""
    for prefix in (SNAPSHOTS, ATTRIBUTES):
        store.delete(f"{prefix}{document.snapshot_id}")


def test_a_sweep_of_an_empty_repository_does_nothing(repository: Repository) -> None:
    assert repository.sweep().packs_removed == 0


def test_what_only_a_deleted_snapshot_used_comes_back(
    repository: Repository, store: MemoryObjectStore
) -> None:
    stays = store_files(repository, FILES)
    before = kept(store)
    gone = store_files(repository, FILES | {"base/5/2": pages(7, 8)})
    repository.delete_snapshot(gone.snapshot_id)
    planned = repository.sweep(dry_run=True)
    assert kept(store) != before
    assert repository.sweep() == planned
    assert planned.bytes_removed == gone.statistics.new_stored_bytes
    assert kept(store) == before
    assert list(store.list(RETIRED)) == []
    assert contents(repository, stays.snapshot_id) == FILES


def test_after_the_last_snapshot_only_identity_and_keys_are_left(
    repository: Repository, store: MemoryObjectStore
) -> None:
    repository.delete_snapshot(store_files(repository, FILES).snapshot_id)
    repository.sweep()
    assert {name.partition("/")[0] for name in kept(store)} == {"repository.json", "keys"}
    assert contents(repository, store_files(repository, FILES).snapshot_id) == FILES


def test_a_parent_may_be_deleted_and_swept_under_its_child(repository: Repository) -> None:
    parent = store_files(repository, FILES)
    with repository.begin_snapshot(key_id=KEY, parent=parent.snapshot_id) as writer:
        writer.inherit_directory("")
        writer.inherit_directory("base/5")
        child = writer.commit(facts())
    repository.delete_snapshot(parent.snapshot_id)
    repository.sweep()
    assert contents(repository, child.snapshot_id) == FILES


def test_a_sweep_beside_a_reader_takes_nothing_from_it_and_the_rest_afterwards(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    one, other = repository_in(tmp_path, store), repository_in(tmp_path, store)
    document = store_files(one, FILES)
    with one.open_snapshot(document.snapshot_id) as reader:
        other.delete_snapshot(document.snapshot_id)
        for _ in range(3):
            assert other.sweep().packs_removed == 0
        entry = reader.entry("base/5/1")
        assert entry is not None
        assert reader.read_blocks(entry, 0, 2) == pages(1, 2)
    assert other.sweep().packs_removed == 2
    assert list(store.list(PACKS)) == []


def test_what_a_writer_relies_on_outlives_sweeps_though_nothing_else_needs_it(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    one, other = repository_in(tmp_path, store), repository_in(tmp_path, store)
    parent = store_files(one, FILES)
    with one.begin_snapshot(key_id=KEY) as writer:
        delete_at_once(store, parent)
        assert other.sweep().packs_condemned == 2
        writer.add_directory("base/5", mode=0o700)
        relation = writer.relation("base/5/1", mode=0o600, blocks=42)
        relation.write_run(0, FILES["base/5/1"])
        relation.close()
        assert other.sweep().packs_removed == 0
        document = writer.commit(facts())
    assert document.statistics.new_frames == 0
    assert other.sweep().packs_condemned == 0
    assert contents(other, document.snapshot_id) == {"base/5/1": FILES["base/5/1"]}


def test_a_writer_that_begins_after_a_condemnation_stores_anew_what_is_condemned(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    one, other = repository_in(tmp_path, store), repository_in(tmp_path, store)
    parent = store_files(one, FILES)
    delete_at_once(store, parent)
    with one.begin_snapshot(key_id=KEY):
        other.sweep()
        later = store_files(other, FILES)
        assert later.statistics.known_frames == 0
    for _ in range(2):
        other.sweep()
    assert len([*store.list(PACKS), *store.list(NODES)]) == 2
    assert contents(one, later.snapshot_id) == FILES


def test_a_reader_that_opened_what_a_writer_took_from_a_condemned_pack_keeps_it(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    """Though everybody who began before the condemnation has ended, and the snapshot is deleted under the reader."""
    one, other = repository_in(tmp_path, store), repository_in(tmp_path, store)
    parent = store_files(one, FILES)
    with one.begin_snapshot(key_id=KEY, parent=parent.snapshot_id) as writer:
        delete_at_once(store, parent)
        assert other.sweep().packs_condemned == 2
        writer.inherit_directory("")
        writer.inherit_directory("base/5")
        child = writer.commit(facts())
    with repository_in(tmp_path, store).open_snapshot(child.snapshot_id) as reader:
        other.delete_snapshot(child.snapshot_id)
        for _ in range(3):
            other.sweep()
        assert restored(reader) == FILES
    other.sweep()
    assert list(store.list(PACKS)) == []


def test_a_document_whose_deletion_stands_still_is_not_forgotten_by_those_who_open_it(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    """Its copy stays as long as the document can be opened, however many sweeps go by."""
    one, other = repository_in(tmp_path, store), repository_in(tmp_path, store)
    document = store_files(one, FILES)
    dying = FaultyStore(store, position=0, fault=crash_before, only="delete")
    with pytest.raises(Crash):
        Repository.create_or_open(dying, keys_in(tmp_path)).delete_snapshot(document.snapshot_id)
    for _ in range(2):
        other.sweep()
    with one.open_snapshot(document.snapshot_id) as reader:
        store.delete(f"{SNAPSHOTS}{document.snapshot_id}")
        for _ in range(3):
            other.sweep()
        assert restored(reader) == FILES
    other.sweep()
    assert kept(store).keys() == {"repository.json", *(one.name for one in store.list(KEYS))}


def test_two_sweeps_at_once_do_not_do_the_same_work(repository: Repository, store: MemoryObjectStore) -> None:
    with store.claim("collector"), pytest.raises(Conflict):
        repository.sweep()


def test_a_sweep_that_was_overtaken_decides_nothing(store: MemoryObjectStore) -> None:
    create_list(store, 1, CondemnedList(sweep="a"))
    create_list(store, 2, CondemnedList(sweep="b"))
    with pytest.raises(Conflict):
        create_list(store, 2, CondemnedList(sweep="c"))
    create_list(store, 3, CondemnedList(sweep="d"))
    with pytest.raises(Conflict, match="taken over"):
        create_list(store, 1, CondemnedList(sweep="e"))
    assert newest_list(store).number == 3


def test_a_list_that_cannot_be_read_costs_only_that_nothing_is_relied_on_until_the_next_sweep(
    tmp_path: Path, repository: Repository, store: MemoryObjectStore
) -> None:
    first = store_files(repository, FILES)
    repository.delete_snapshot(store_files(repository, {"w": b"w" * 3000}).snapshot_id)
    repository.sweep()
    (name,) = [one.name for one in store.list(CONDEMNED)]
    store.objects[name] = store.objects[name].replace(b"doomed", b"doomeD")
    assert contents(repository, first.snapshot_id) == FILES
    assert store_files(repository_in(tmp_path, store), FILES).statistics.known_frames == 0
    assert not repository.check().clean
    repository_in(tmp_path, store).sweep()
    assert store_files(repository_in(tmp_path, store), FILES).statistics.new_frames == 0
    assert repository.check().clean


def test_a_pack_of_which_little_is_needed_is_rewritten(
    tmp_path: Path, repository: Repository, store: MemoryObjectStore
) -> None:
    files = {f"base/5/{number}": pages(*range(number * 32, number * 32 + 32)) for number in range(6)}
    whole = store_files(repository, files)
    part = {path: files[path] for path in ("base/5/1", "base/5/4")}
    kept_snapshot = store_files(repository, part)
    repository.delete_snapshot(whole.snapshot_id)
    before = repository.statistics().pack_bytes
    assert repository.sweep(dry_run=True).packs_rewritten >= 1
    report = repository.sweep()
    assert report.packs_rewritten >= 1
    assert repository.statistics().pack_bytes < before * 0.4
    assert contents(repository, kept_snapshot.snapshot_id) == part
    assert contents(repository_in(tmp_path, store), kept_snapshot.snapshot_id) == part
    assert repository.check(level=Level.BYTES).clean
    assert repository.sweep().packs_rewritten == 0


def test_a_rewriting_copies_no_more_than_it_may(repository: Repository, store: MemoryObjectStore) -> None:
    kept_files = {}
    for number in range(4):
        files = {
            f"base/5/{number}{part}": pages(*range(number * 500 + part * 32, number * 500 + part * 32 + 32))
            for part in range(4)
        }
        first = store_files(repository, files)
        path = f"base/5/{number}0"
        kept_files[store_files(repository, {path: files[path]}).snapshot_id] = {path: files[path]}
        repository.delete_snapshot(first.snapshot_id)
    policy = SweepPolicy(rewrite_bytes=1)
    counts = [repository.sweep(policy=policy).packs_rewritten for _ in range(9)]
    assert max(counts) == 1
    assert counts[-1] == 0
    assert sum(counts) >= 4
    for snapshot_id, files in kept_files.items():
        assert contents(repository, snapshot_id) == files


def test_a_thin_pack_that_is_damaged_stays(repository: Repository, store: MemoryObjectStore) -> None:
    files = {f"base/5/{number}": pages(*range(number * 32, number * 32 + 32)) for number in range(6)}
    whole = store_files(repository, files)
    part = store_files(repository, {"base/5/1": files["base/5/1"]})
    repository.delete_snapshot(whole.snapshot_id)
    (name,) = [one.name for one in store.list(PACKS)]
    for position in range(64, len(store.objects[name]) - 6000, 1000):
        data = store.objects[name]
        store.objects[name] = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
    repository.sweep()
    assert name in store.objects
    assert part.snapshot_id in list(repository.snapshot_ids())


def test_a_key_that_cannot_be_had_keeps_its_own_packs_and_no_others(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    keys = SwitchedKeys(tmp_path / "keys")
    other = KmsKeyId("other")
    for key_id in (KEY, other):
        keys.ensure_key(key_id)
    repository = Repository.create_or_open(store, keys)
    locked = store_files(repository, FILES, key_id=other)
    repository.delete_snapshot(store_files(repository, FILES).snapshot_id)
    keys.disabled = {other}
    assert Repository.create_or_open(store, keys).sweep().packs_removed == 2
    keys.disabled = set()
    assert contents(repository, locked.snapshot_id) == FILES


def test_deleting_a_snapshot_gives_back_exactly_what_only_it_used(tmp_path: Path) -> None:
    disk = tmp_path / "repository"
    repository = repository_in(tmp_path)
    store_files(repository, FILES)
    repository.sweep()
    before = {
        path: path.stat().st_size
        for path in disk.rglob("*")
        if path.is_file() and path.parts[-2] != "condemned"
    }
    extra = store_files(repository, FILES | {"base/5/2": pages(7, 8), "x": os.urandom(70_000)})
    repository.delete_snapshot(extra.snapshot_id)
    repository.sweep()
    after = {
        path: path.stat().st_size
        for path in disk.rglob("*")
        if path.is_file() and path.parts[-2] != "condemned"
    }
    assert after == before


def test_another_process_notices_what_was_swept(tmp_path: Path, store: MemoryObjectStore) -> None:
    one, other = repository_in(tmp_path, store), repository_in(tmp_path, store)
    document = store_files(one, FILES)
    contents(other, document.snapshot_id)
    one.delete_snapshot(document.snapshot_id)
    one.sweep()
    again = store_files(other, FILES)
    assert again.statistics.new_frames == document.statistics.new_frames
    assert contents(one, again.snapshot_id) == FILES


@pytest.mark.parametrize("prefix", [SNAPSHOTS, NODES, KEYS])
def test_a_sweep_that_cannot_know_what_is_needed_removes_nothing(
    repository: Repository, tmp_path: Path, store: MemoryObjectStore, prefix: str
) -> None:
    stays = store_files(repository, FILES)
    gone = store_files(repository, {"other": os.urandom(3000)})
    repository.delete_snapshot(gone.snapshot_id)
    for one in list(store.list(prefix)):
        if prefix == SNAPSHOTS:
            store.objects[one.name] = store.objects[one.name][:-1]
        else:
            del store.objects[one.name]
    before = kept(store)
    with pytest.raises(StillframeError):
        repository_in(tmp_path, store).sweep()
    assert kept(store) == before
    assert stays.snapshot_id in list(repository.snapshot_ids())


def test_a_sweep_that_dies_at_any_deletion_harms_nothing(tmp_path: Path, store: MemoryObjectStore) -> None:
    repository = repository_in(tmp_path, store)
    stays = store_files(repository, FILES)
    for number in range(3):
        repository.delete_snapshot(store_files(repository, {"f": os.urandom(3000 + number)}).snapshot_id)
    for position in range(10):
        attempt = store.copy()
        dying = FaultyStore(attempt, position=position, fault=crash_after, only="delete")
        with pytest.raises(Crash):
            Repository.create_or_open(dying, keys_in(tmp_path)).sweep()
        attempt.all_holders_die()
        again = repository_in(tmp_path, attempt)
        again.sweep()
        assert contents(again, stays.snapshot_id) == FILES
        assert again.statistics().packs == 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.sets(st.integers(0, 6), max_size=4)),
        st.tuples(st.just("delete"), st.integers(0, 5)),
        st.tuples(st.just("sweep"), st.none()),
        st.tuples(st.just("crash"), st.integers(0, 25)),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_sweeping_at_any_moment_of_any_history_keeps_every_snapshot(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, object]]
) -> None:
    directory, store = tmp_path_factory.mktemp("r"), MemoryObjectStore()
    model: dict[SnapshotId, dict[str, bytes]] = {}
    parent: SnapshotId | None = None
    for step, value in steps:
        repository = repository_in(directory, store)
        match step, value:
            case "take", set():
                files = {f"base/{number}": pages(number, 3) for number in value}
                parent = store_files(repository, files, parent=parent).snapshot_id
                model[parent] = files
            case "delete", int() if model:
                victim = sorted(model)[value % len(model)]
                repository.delete_snapshot(victim)
                del model[victim]
                parent = None if victim == parent else parent
            case "crash", int():
                dying = FaultyStore(store, position=value, fault=crash_after)
                try:
                    store_files(Repository.create_or_open(dying, keys_in(directory)), {"base/9": page(9)})
                except Crash:
                    store.all_holders_die()
            case "sweep", _:
                repository.sweep()
    repository = repository_in(directory, store)
    repository.sweep()
    assert repository.check(level=Level.BYTES).clean
    for snapshot_id, files in model.items():
        assert contents(repository, snapshot_id) == files


def small_repository(tmp_path: Path) -> tuple[MemoryObjectStore, SnapshotId]:
    store = MemoryObjectStore()
    document = store_files(repository_in(tmp_path, store), {"base/5/1": page(1)[:64] * 128, "c": b"#" * 3000})
    return store, document.snapshot_id


def seen(tmp_path: Path, store: MemoryObjectStore, snapshot_id: SnapshotId) -> dict[str, bytes] | None:
    """What a restore gives, or None if it refuses."""
    try:
        return contents(Repository.create_or_open(store, keys_in(tmp_path)), snapshot_id)
    except StillframeError:
        return None


def findings(tmp_path: Path, store: MemoryObjectStore) -> bool:
    """Whether anything is found to be wrong."""
    try:
        return not Repository.create_or_open(store, keys_in(tmp_path)).check(level=Level.BYTES).clean
    except DataError:
        return True


def test_a_flipped_byte_of_a_repository_is_found_and_no_wrong_byte_is_served(tmp_path: Path) -> None:
    store, snapshot_id = small_repository(tmp_path)
    right = seen(tmp_path, store, snapshot_id)
    assert right is not None
    assert not findings(tmp_path, store)
    # What a check remembers is not part of what it checks.
    for name in [name for name in store.objects if name.startswith(VERIFIED)]:
        store.delete(name)
    for name, data in store.objects.items():
        for position in range(random.randrange(EACH), len(data), EACH):
            damaged = store.copy()
            changed = bytearray(data)
            changed[position] ^= 1 << position % 8
            damaged.objects[name] = bytes(changed)
            assert findings(tmp_path, damaged), f"byte {position} of {name}"
            assert seen(tmp_path, damaged, snapshot_id) in (None, right)


def test_every_missing_truncated_emptied_or_swapped_object_is_found(tmp_path: Path) -> None:
    store, snapshot_id = small_repository(tmp_path)
    right = seen(tmp_path, store, snapshot_id)
    other = store_files(repository_in(tmp_path, store), {"base/5/1": page(2), "w": os.urandom(2000)})
    names = [name for name in store.objects if str(other.snapshot_id) not in name]
    for name in names:
        data = store.objects[name]
        same_kind = [one for one in store.objects if one.split("/")[0] == name.split("/")[0] and one != name]
        for new in [b"", data[:-1], data[: len(data) // 2], *(store.objects[one] for one in same_kind)]:
            damaged = store.copy()
            damaged.objects[name] = new
            assert findings(tmp_path, damaged), name
            assert seen(tmp_path, damaged, snapshot_id) in (None, right)
        damaged = store.copy()
        del damaged.objects[name]
        # Without its document a snapshot is a deleted one: only the catalog can know better.
        assert findings(tmp_path, damaged) or name.startswith(SNAPSHOTS), name
        assert seen(tmp_path, damaged, snapshot_id) in (None, right)


def test_a_finding_names_snapshot_file_and_pages(repository: Repository, store: MemoryObjectStore) -> None:
    whole = store_files(repository, {"base/5/1": pages(*range(32))})
    hit = store_files(repository, {"base/5/1": pages(*range(32)) + pages(*range(100, 132)), "v": b"18"})
    name = max((one.name for one in store.list(PACKS)), key=lambda one: store.objects[one] != b"")
    names = [one.name for one in store.list(PACKS)]
    for name in names:
        clean = store.objects[name]
        store.objects[name] = clean[:100] + bytes([clean[100] ^ 1]) + clean[101:]
        report = repository.check(level=Level.BYTES)
        store.objects[name] = clean
        affected = [one for one in report.findings if one.snapshot_id is not None]
        assert affected
        assert {one.path for one in affected} == {"base/5/1"}
        first = {(one.first_block, one.blocks) for one in affected}
        assert first == (
            {(0, 32)} if whole.snapshot_id in {one.snapshot_id for one in affected} else {(32, 32)}
        )
        assert hit.snapshot_id in {one.snapshot_id for one in affected}
        assert any(one.object == name for one in report.findings)


def test_level_structure_reads_no_frame_and_misses_only_damage_inside_of_frames(
    repository: Repository, store: MemoryObjectStore
) -> None:
    store_files(repository, FILES)
    name = next(store.list(PACKS)).name
    clean = store.objects[name]
    store.objects[name] = clean[:100] + bytes([clean[100] ^ 1]) + clean[101:]
    assert repository.check(level=Level.STRUCTURE).clean
    assert not repository.check(level=Level.BYTES).clean
    del store.objects[name]
    assert not repository.check(level=Level.STRUCTURE).clean


def test_damaged_content_is_stored_again_by_the_next_snapshot_which_heals_the_old_one(
    repository: Repository, tmp_path: Path, store: MemoryObjectStore
) -> None:
    old = store_files(repository, FILES)
    name = next(store.list(PACKS)).name
    clean = store.objects[name]
    store.objects[name] = clean[:100] + bytes([clean[100] ^ 1]) + clean[101:]
    with pytest.raises(StoredDataCorrupt):
        contents(repository, old.snapshot_id)
    assert not repository.check(level=Level.BYTES).clean
    new = store_files(repository, FILES)
    assert new.statistics.new_frames == 1
    assert contents(repository_in(tmp_path, store), new.snapshot_id) == FILES
    assert contents(repository_in(tmp_path, store), old.snapshot_id) == FILES


def test_a_damaged_or_missing_sidecar_does_not_stand_in_the_way_of_a_restore(
    repository: Repository, store: MemoryObjectStore
) -> None:
    document = store_files(repository, FILES)
    name = f"{ATTRIBUTES}{document.snapshot_id}"
    store.objects[name] = store.objects[name][:-1]
    assert contents(repository, document.snapshot_id) == FILES
    with pytest.raises(StoredDataCorrupt):
        repository.document(document.snapshot_id)
    del store.objects[name]
    assert contents(repository, document.snapshot_id) == FILES
    with pytest.raises(ObjectMissing):
        list(repository.documents())
    (finding,) = repository.check().findings
    assert finding.snapshot_id == document.snapshot_id


def test_leftovers_of_dead_writers_are_swept(repository: Repository, store: MemoryObjectStore) -> None:
    store.put(f"{EPOCHS}{uuid.uuid4()}", b"{}")
    store.put(f"{ATTRIBUTES}{uuid.uuid4()}", b"x")
    assert repository.sweep().leftovers_removed == 2
    assert [*store.list(EPOCHS), *store.list(ATTRIBUTES)] == []


def test_what_does_not_belong_is_reported_and_left_alone(
    repository: Repository, store: MemoryObjectStore
) -> None:
    document = store_files(repository, FILES)
    store.put("packs/backup.old", b"x")
    store.put("notes.txt", b"x")
    assert {one.object for one in repository.check().findings} == {"packs/backup.old", "notes.txt"}
    assert contents(repository, document.snapshot_id) == FILES


def test_progress_of_a_check_reaches_its_end(repository: Repository) -> None:
    store_files(repository, FILES)
    seen_progress: list[tuple[int, int]] = []
    report = repository.check(
        level=Level.BYTES, on_progress=lambda now: seen_progress.append((now.done_bytes, now.total_bytes))
    )
    assert seen_progress[-1][0] == seen_progress[-1][1] > 0
    assert 0 < report.bytes_read < seen_progress[-1][1]


def test_a_repository_that_lost_its_identity_is_not_made_anew(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    store_files(repository_in(tmp_path, store), FILES)
    del store.objects["repository.json"]
    with pytest.raises(StoredDataCorrupt, match="missing"):
        repository_in(tmp_path, store)
    assert "repository.json" not in store.objects

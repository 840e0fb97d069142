"""What goes into a snapshot comes out of it."""

import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.domain.identifiers import KmsKeyId, SnapshotId
from stillframe.errors import Conflict, InvalidRequest, KeyUnavailable, ObjectMissing
from stillframe.repository import FileKind, Repository, SnapshotDocument
from stillframe.repository.format import CHUNK_BYTES, INLINE_BYTES
from support.objectstore import MemoryObjectStore
from support.repository import (
    BLOCK,
    KEY,
    attributes,
    contents,
    facts,
    keys_in,
    page,
    pages,
    repository_in,
    store_files,
)

pytestmark = pytest.mark.unit

FILES = {
    "PG_VERSION": b"18\n",
    "base/5/1247": pages(*range(40)),
    "base/5/1249": b"",
    "base/5/16384": pages(1, 2) + bytes(BLOCK * 1100) + pages(3),
    "global/pg_control": os.urandom(8192),
}


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
def repository(tmp_path: Path, store: MemoryObjectStore) -> Repository:
    return repository_in(tmp_path, store)


def test_a_snapshot_gives_back_every_byte(repository: Repository) -> None:
    assert contents(repository, store_files(repository, FILES).snapshot_id) == FILES


def test_it_does_so_on_the_local_disk_and_after_a_restart(tmp_path: Path) -> None:
    document = store_files(repository_in(tmp_path), FILES)
    assert contents(repository_in(tmp_path), document.snapshot_id) == FILES


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        INLINE_BYTES,
        INLINE_BYTES + 1,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        3 * CHUNK_BYTES + 5,
    ],
)
@pytest.mark.parametrize("zeros", [False, True])
def test_plain_files_of_any_size_come_back(repository: Repository, size: int, zeros: bool) -> None:
    data = bytes(size) if zeros else os.urandom(size)
    document = store_files(repository, {"file": data})
    assert contents(repository, document.snapshot_id) == {"file": data}
    assert document.statistics.new_frames == (0 if zeros or size <= INLINE_BYTES else -(-size // CHUNK_BYTES))


@pytest.mark.parametrize("step", [1, 1000, 8192, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_it_does_not_matter_in_which_pieces_a_file_is_written(repository: Repository, step: int) -> None:
    size = 5000 if step == 1 else 2 * CHUNK_BYTES + 3
    data = os.urandom(size)
    with repository.begin_snapshot(key_id=KEY) as writer:
        writer.add_directory("", mode=0o700)
        file = writer.file("f", mode=0o600)
        for at in range(0, size, step):
            file.write(memoryview(data)[at : at + step])
        file.close()
        document = writer.commit(facts())
    assert contents(repository, document.snapshot_id) == {"f": data}


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 10), (CHUNK_BYTES - 5, 10), (2 * CHUNK_BYTES, 10**9), (10**9, 5)]
)
def test_parts_of_a_file_can_be_read(repository: Repository, offset: int, length: int) -> None:
    data = os.urandom(2 * CHUNK_BYTES + 77)
    document = store_files(repository, {"f": data, "base/5/1": data[: 100 * BLOCK]})
    with repository.open_snapshot(document.snapshot_id) as reader:
        for path, whole in (("f", data), ("base/5/1", data[: 100 * BLOCK])):
            entry = reader.entry(path)
            assert entry is not None
            assert reader.read_file(entry, offset, length) == whole[offset : offset + length]


def test_any_single_page_can_be_read(repository: Repository) -> None:
    document = store_files(repository, FILES)
    with repository.open_snapshot(document.snapshot_id) as reader:
        entry = reader.entry("base/5/16384")
        assert entry is not None
        assert entry.blocks == 1103
        for block in (0, 1, 2, 1023, 1024, 1101, 1102):
            data = FILES["base/5/16384"][block * BLOCK : (block + 1) * BLOCK]
            assert reader.read_blocks(entry, block, 1) == data
        with pytest.raises(InvalidRequest):
            reader.read_blocks(entry, 1103, 1)


def test_the_document_says_what_the_capture_knew(repository: Repository) -> None:
    document = store_files(repository, FILES)
    assert repository.document(document.snapshot_id) == document
    assert document.facts == facts()
    assert list(repository.documents()) == [document]
    assert type(repository.document(document.snapshot_id).facts.start_lsn).__name__ == "Lsn"


def test_directories_keep_their_modes_and_come_before_what_is_in_them(repository: Repository) -> None:
    with repository.begin_snapshot(key_id=KEY) as writer:
        for path, mode in (("pg_wal/summaries", 0o700), ("", 0o750), ("pg_wal", 0o710)):
            writer.add_directory(path, mode=mode)
        document = writer.commit(facts())
    with repository.open_snapshot(document.snapshot_id) as reader:
        found = [(one.path, one.mode) for one in reader.directories()]
    assert found == [("", 0o750), ("pg_wal", 0o710), ("pg_wal/summaries", 0o700)]


def test_files_keep_their_modes_and_kinds(repository: Repository) -> None:
    document = store_files(repository, FILES)
    with repository.open_snapshot(document.snapshot_id) as reader:
        found = {one.path: (one.mode, one.kind) for one in reader.files()}
        assert reader.entry("absent") is None
        assert reader.entry("absent/too") is None
    assert found["PG_VERSION"] == (0o640, FileKind.PLAIN)
    assert found["base/5/1247"] == (0o600, FileKind.RELATION)


def test_the_second_full_capture_stores_no_content(repository: Repository, store: MemoryObjectStore) -> None:
    first = store_files(repository, FILES)
    packs = {name for name in store.objects if name.startswith(("packs/", "nodes/"))}
    second = store_files(repository, FILES)
    assert {name for name in store.objects if name.startswith(("packs/", "nodes/"))} == packs
    assert second.statistics.new_stored_bytes == second.statistics.new_plain_bytes == 0
    assert second.root == first.root


def test_the_second_capture_of_a_restarted_process_stores_no_content_either(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    store_files(repository_in(tmp_path, store), FILES)
    assert store_files(repository_in(tmp_path, store), FILES).statistics.new_stored_bytes == 0


def test_zeros_cost_no_frame(repository: Repository) -> None:
    document = store_files(repository, {"base/5/1": bytes(BLOCK * 3000), "zeros": bytes(5 << 20)})
    assert document.statistics.new_frames == 0
    assert document.statistics.zero_pages == 3000
    with repository.open_snapshot(document.snapshot_id) as reader:
        assert list(reader.fetch_plan()) == []


def test_nothing_is_shared_between_two_keys(tmp_path: Path, store: MemoryObjectStore) -> None:
    other = KmsKeyId("alias/other")
    keys = keys_in(tmp_path, KEY, other)
    repository = Repository.create_or_open(store, keys)
    one = store_files(repository, FILES)
    two = store_files(repository, FILES, key_id=other)
    assert two.statistics.new_frames == one.statistics.new_frames > 0
    assert one.root != two.root
    assert contents(repository, two.snapshot_id) == FILES
    with pytest.raises(InvalidRequest, match="another key"):
        repository.begin_snapshot(key_id=other, parent=one.snapshot_id)
    repository.begin_snapshot(key_id=KEY, parent=one.snapshot_id).abort()


def test_without_its_key_a_snapshot_is_not_readable_and_others_are(
    tmp_path: Path, store: MemoryObjectStore
) -> None:
    other = KmsKeyId("alias/other")
    keys_in(tmp_path, other)
    repository = Repository.create_or_open(store, keys_in(tmp_path, KEY))
    one, two = store_files(repository, FILES), store_files(repository, FILES, key_id=other)
    emptied = Repository.create_or_open(store, keys_in(tmp_path / "elsewhere", other))
    with pytest.raises(KeyUnavailable):
        emptied.open_snapshot(one.snapshot_id)
    with pytest.raises(KeyUnavailable):
        Repository.create_or_open(store, keys_in(tmp_path / "none", other)).begin_snapshot(key_id=KEY)
    assert contents(repository, two.snapshot_id) == FILES


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "base/../../x", "a//b", "a/", "a\0b", ".", "\udc80"])
def test_paths_that_could_leave_the_data_directory_are_refused(repository: Repository, path: str) -> None:
    with repository.begin_snapshot(key_id=KEY) as writer:
        writer.add_directory("", mode=0o700)
        for use in (lambda: writer.file(path, mode=0o600), lambda: writer.add_directory(path, mode=0o700)):
            with pytest.raises(InvalidRequest):
                use()


def test_mistakes_in_describing_files_are_refused(repository: Repository) -> None:
    with repository.begin_snapshot(key_id=KEY) as writer:
        writer.add_directory("", mode=0o700)
        with pytest.raises(InvalidRequest, match="not been added"):
            writer.file("base/x", mode=0o600)
        with pytest.raises(InvalidRequest, match="twice"):
            writer.add_directory("", mode=0o700)
        with pytest.raises(InvalidRequest, match="no file"):
            writer.inherit_file("x")
        file = writer.file("x", mode=0o600)
        with pytest.raises(InvalidRequest, match="being written"):
            writer.commit(facts())
        file.close()
        with pytest.raises(InvalidRequest, match="twice"):
            writer.file("x", mode=0o600).close()


def test_a_missing_parent_is_missing(repository: Repository) -> None:
    with pytest.raises(ObjectMissing):
        repository.begin_snapshot(key_id=KEY, parent=SnapshotId(uuid.uuid4()))
    assert repository.statistics().open_or_abandoned_writers == 0


def test_a_snapshot_id_is_used_once(repository: Repository) -> None:
    document = store_files(repository, FILES)
    with pytest.raises(Conflict):
        repository.begin_snapshot(key_id=KEY, snapshot_id=document.snapshot_id)
    with (
        repository.begin_snapshot(key_id=KEY, snapshot_id=SnapshotId(uuid.UUID(int=7))),
        pytest.raises(Conflict, match="being written"),
    ):
        repository.begin_snapshot(key_id=KEY, snapshot_id=SnapshotId(uuid.UUID(int=7)))


def test_attributes_change_and_the_rest_does_not(repository: Repository) -> None:
    document = store_files(repository, FILES)
    changed = repository.replace_attributes(document.snapshot_id, attributes(retention_days=-1, tags={}))
    assert repository.document(document.snapshot_id) == changed
    assert changed.attributes.retention_days == -1
    assert changed.root == document.root
    with repository.open_snapshot(document.snapshot_id) as reader:
        assert reader.document == changed
    with pytest.raises(ObjectMissing):
        repository.replace_attributes(SnapshotId(uuid.uuid4()), attributes())


def test_a_deleted_snapshot_is_missing_and_others_stay(repository: Repository) -> None:
    one, two = store_files(repository, FILES), store_files(repository, FILES)
    repository.delete_snapshot(one.snapshot_id)
    repository.delete_snapshot(one.snapshot_id)
    for use in (repository.document, repository.open_snapshot):
        with pytest.raises(ObjectMissing):
            use(one.snapshot_id)
    assert contents(repository, two.snapshot_id) == FILES


def written_over(parent: SnapshotDocument, repository: Repository) -> SnapshotDocument:
    with repository.begin_snapshot(key_id=KEY, parent=parent.snapshot_id) as writer:
        writer.inherit_directory("")
        writer.inherit_directory("global", mode=0o711)
        writer.inherit_directory("base/5")
        writer.remove("base/5/1249")
        file = writer.file("PG_VERSION", mode=0o600)
        file.write(b"19\n")
        file.close()
        relation = writer.relation("base/5/16384", mode=0o600, blocks=1200)
        relation.inherit(0, 1103)
        relation.write_scattered([(1050, page(50)), (3, page(51)), (700, bytes(BLOCK))])
        relation.write_run(1103, pages(*range(97)))
        relation.close()
        return writer.commit(facts())


def test_a_child_shares_what_it_inherits_and_costs_what_changed(repository: Repository) -> None:
    parent = store_files(repository, FILES)
    child = written_over(parent, repository)
    expected = {path: data for path, data in FILES.items() if path != "base/5/1249"} | {"PG_VERSION": b"19\n"}
    relation = bytearray(FILES["base/5/16384"] + pages(*range(97)))
    for block, data in ((1050, page(50)), (3, page(51)), (700, bytes(BLOCK))):
        relation[block * BLOCK : (block + 1) * BLOCK] = data
    expected["base/5/16384"] = bytes(relation)
    assert contents(repository, child.snapshot_id) == expected
    assert contents(repository, parent.snapshot_id) == FILES
    assert child.statistics.new_plain_bytes == 99 * BLOCK
    assert child.statistics.files == 4
    assert child.statistics.logical_bytes == sum(map(len, expected.values()))


def test_scattered_pages_of_one_file_share_a_frame(repository: Repository) -> None:
    with repository.begin_snapshot(key_id=KEY) as writer:
        writer.add_directory("base/5", mode=0o700)
        relation = writer.relation("base/5/1", mode=0o600, blocks=10_000)
        relation.write_zeros(0, 0)
        written = list(range(0, 10_000, 250))
        for first in written:
            relation.write_zeros(first + 1, 249)
        relation.write_scattered((block, page(block)) for block in reversed(written))
        relation.close()
        document = writer.commit(facts())
    assert document.statistics.new_frames == 2
    (data,) = contents(repository, document.snapshot_id).values()
    assert all(data[block * BLOCK : (block + 1) * BLOCK] == page(block) for block in written)


@pytest.mark.parametrize("mistake", ["gap", "twice", "beyond", "ragged", "inherit", "closed"])
def test_a_relation_file_is_complete_or_refused(repository: Repository, mistake: str) -> None:
    with repository.begin_snapshot(key_id=KEY) as writer:
        writer.add_directory("base", mode=0o700)
        relation = writer.relation("base/1", mode=0o600, blocks=4)
        relation.write_run(0, pages(0, 1, 2))
        with pytest.raises(InvalidRequest):  # noqa: PT012 - either step may refuse
            match mistake:
                case "twice":
                    relation.write_run(2, pages(2, 3))
                case "beyond":
                    relation.write_run(4, pages(4))
                case "ragged":
                    relation.write_run(3, b"short")
                case "inherit":
                    relation.inherit(3, 1)
                case "closed":
                    relation.write_run(3, pages(3))
                    relation.close()
            relation.close()


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["run", "scatter", "zeros"]), st.integers(0, 1300), st.integers(1, 90)),
    max_size=8,
)


@settings(max_examples=25, deadline=None)
@given(parent_blocks=st.integers(0, 1300), blocks=st.integers(0, 1300), operations=OPERATIONS)
def test_writing_over_an_inherited_file_equals_writing_over_an_array(
    tmp_path_factory: pytest.TempPathFactory,
    parent_blocks: int,
    blocks: int,
    operations: list[tuple[str, int, int]],
) -> None:
    repository = repository_in(tmp_path_factory.mktemp("r"), MemoryObjectStore())
    tiny = [bytes([number % 251 + 1]) * BLOCK for number in range(251)]
    model = [tiny[number % 251] for number in range(parent_blocks)]
    parent = store_files(repository, {"base/1": b"".join(model)})
    model = (model + [bytes(BLOCK)] * blocks)[:blocks]
    written: set[int] = set()
    with repository.begin_snapshot(key_id=KEY, parent=parent.snapshot_id) as writer:
        writer.add_directory("base", mode=0o700)
        relation = writer.relation("base/1", mode=0o600, blocks=blocks)
        for number, (operation, first, count) in enumerate(operations):
            chosen = [block for block in range(first, min(blocks, first + count)) if block not in written]
            written.update(chosen)
            new = bytes(BLOCK) if operation == "zeros" else tiny[100 + number]
            for block in chosen:
                model[block] = new
                if operation == "run":
                    relation.write_run(block, new)
                elif operation == "zeros":
                    relation.write_zeros(block, 1)
            if operation == "scatter":
                relation.write_scattered((block, new) for block in chosen)
        relation.inherit(0, min(blocks, parent_blocks))
        for block in set(range(parent_blocks, blocks)) - written:
            relation.write_zeros(block, 1)
        relation.close()
        document = writer.commit(facts())
    assert contents(repository, document.snapshot_id) == {"base/1": b"".join(model)}


def test_threads_that_write_the_same_frames_at_once_store_them_once(repository: Repository) -> None:
    run = pages(*range(128))
    with repository.begin_snapshot(key_id=KEY) as writer:
        writer.add_directory("base", mode=0o700)
        relations = [writer.relation(f"base/{number}", mode=0o600, blocks=128) for number in range(8)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda relation: relation.write_run(0, run), relations))
        for relation in relations:
            relation.close()
        document = writer.commit(facts())
    assert document.statistics.new_frames == 4
    assert document.statistics.known_frames == 28
    assert set(contents(repository, document.snapshot_id).values()) == {run}


def test_more_than_a_pack_is_spread_over_packs(repository: Repository, store: MemoryObjectStore) -> None:
    data = os.urandom(70 << 20)
    document = store_files(repository, {"f": data})
    packs = [len(data) for name, data in store.objects.items() if name.startswith("packs/")]
    assert len(packs) == 3
    assert max(packs) <= 32 << 20
    assert contents(repository, document.snapshot_id) == {"f": data}


def test_a_plan_reads_neighbours_together_and_each_byte_once(repository: Repository) -> None:
    document = store_files(repository, {"base/5/1": pages(*range(1000))})
    with repository.open_snapshot(document.snapshot_id) as reader:
        groups = list(reader.fetch_plan())
        stored = document.statistics.new_stored_bytes
        assert len(groups) == 1
        assert sum(group.plain_bytes for group in groups) == 1000 * BLOCK
        assert sum(group.stored_bytes for group in groups) < stored
        entry = reader.entry("base/5/1")
        assert entry is not None
        assert list(reader.fetch_plan([])) == []
        assert len(list(reader.fetch_plan([entry]))) == 1


def test_requests_of_a_long_plan_come_in_turns_from_its_four_parts_and_leave_nothing_out(
    repository: Repository,
) -> None:
    files = {f"f{number}": os.urandom(9 << 20) for number in range(8)}
    document = store_files(repository, files)
    with repository.open_snapshot(document.snapshot_id) as reader:
        places = [group.frames[0].location for group in reader.fetch_plan()]
    order = [(at.pack.pack_id, at.place.offset) for at in places]
    ranks = [sorted(order).index(one) for one in order]
    assert len(ranks) > 16
    part = -(-len(ranks) // 4)
    assert ranks == [at + start for at in range(part) for start in range(0, len(ranks) - at, part)]
    assert contents(repository, document.snapshot_id) == files


def test_what_lies_around_pages_in_their_frames_is_told_and_no_more(repository: Repository) -> None:
    child = written_over(store_files(repository, FILES), repository)
    with repository.open_snapshot(child.snapshot_id) as reader:
        entry = reader.entry("base/5/16384")
        assert entry is not None
        for block in range(entry.blocks):
            start, length = reader.stretch_around(entry, block * BLOCK, BLOCK)
            first, end = start // BLOCK, (start + length) // BLOCK
            assert first <= block < end <= entry.blocks
            (own,) = (extent.frame for extent in reader.extents(entry, first=block, end=block + 1))
            around = {extent.frame for extent in reader.extents(entry, first=first, end=end)}
            assert around <= {own, None}
        # Page 3 is in a frame of changed pages; what is around it is in one with what came before it.
        assert reader.stretch_around(entry, 3 * BLOCK, BLOCK) == (3 * BLOCK, BLOCK)
        assert reader.stretch_around(entry, 4 * BLOCK, BLOCK)[0] == 4 * BLOCK
        assert reader.stretch_around(entry, 40 * BLOCK, BLOCK)[1] > BLOCK

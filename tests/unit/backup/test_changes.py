"""Which pages of a file are read, given what WAL says happened to its relation (rules 13 to 17)."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.backup.changes import SinceParent
from stillframe.postgres.files import Fork, ListedFile, parse_relation_name
from stillframe.postgres.pages import PAGE_SIZE
from stillframe.postgres.wal_summaries import NO_LIMIT, ForkChanges, ForkKey
from stillframe.repository import FileEntry, FileKind
from stillframe.repository.nodes import FileRecord

pytestmark = pytest.mark.unit

SEGMENT = 131072
FOLDER = "base/5"


def changes(
    limit: int = NO_LIMIT,
    blocks: Iterable[int] = (),
    *,
    parent: int | None = 100,
    fork: Fork = Fork.MAIN,
    number: int = 16384,
    segment_blocks: int = SEGMENT,
) -> SinceParent:
    """Changes of one fork of base/5/16384; the parent has every file, of that many blocks (None: none)."""
    happened = ForkChanges()
    happened.merge(limit, np.array(sorted(blocks), dtype=np.uint32))

    def parent_file(path: str) -> FileEntry | None:
        if parent is None:
            return None
        record = FileRecord(path, FileKind.RELATION, 0o600, parent * PAGE_SIZE, b"x", None)
        return FileEntry(path=path, mode=0o600, size=record.size, kind=record.kind, record=record)

    return SinceParent(
        {ForkKey(1663, 5, number, fork): happened}, parent_file=parent_file, segment_blocks=segment_blocks
    )


def read_of(
    found: SinceParent, blocks: int, *, name: str = "16384", folder: str = FOLDER, more: int = 0
) -> set[int]:
    """The blocks to be read of a file of that many (and `more` bytes); they have to come in order, apart."""
    file = ListedFile(
        path=f"{folder}/{name}",
        mode=0o600,
        size=blocks * PAGE_SIZE + more,
        relation=parse_relation_name(name),
    )
    result: set[int] = set()
    last = -1
    for chosen in found.to_read(file, blocks=blocks):
        assert chosen.count > 0
        assert chosen.first > last
        last = chosen.first + chosen.count
        result |= set(range(chosen.first, last))
    return result


def test_what_is_not_listed_is_not_read() -> None:
    assert read_of(changes(blocks=[3, 4, 90]), 100) == {3, 4, 90}
    assert read_of(changes(blocks=[3]), 100, name="16385") == set()
    assert read_of(changes(blocks=[3]), 100, folder="base/6") == set()
    assert read_of(changes(blocks=[3]), 100, name="16384_vm") == set()


def test_what_the_parent_does_not_have_is_read() -> None:
    assert read_of(changes(blocks=[3]), 104) == {3, 100, 101, 102, 103}
    assert read_of(changes(parent=None), 10) == set(range(10))
    assert read_of(changes(), 103, name="999") == {100, 101, 102}


def test_everything_from_the_limit_on_is_read_listed_or_not() -> None:
    assert read_of(changes(60, [2, 70]), 90) == {2} | set(range(60, 90))
    assert read_of(changes(0), 90) == set(range(90))
    # A limit above the parent's end protects nothing above that end.
    assert read_of(changes(150, [2], parent=90), 160) == {2} | set(range(90, 160))


def test_blocks_beyond_the_present_end_are_let_go() -> None:
    assert read_of(changes(blocks=[3, 50, 99]), 40) == {3}


def test_a_whole_database_that_was_made_or_dropped_is_read() -> None:
    made = changes(0, number=0)
    assert read_of(made, 50, name="1259") == set(range(50))
    assert read_of(made, 50, name="1259", folder="base/6") == set()
    assert made.nothing_inherited("base/5")
    assert not made.nothing_inherited("base/6")
    assert not changes(0).nothing_inherited("base/5")


def test_shared_and_tablespace_directories_are_named_as_wal_names_them() -> None:
    happened = {
        ForkKey(1664, 0, 1262, Fork.MAIN): ForkChanges(parts=[np.array([1], dtype=np.uint32)]),
        ForkKey(16500, 7, 1262, Fork.MAIN): ForkChanges(parts=[np.array([2], dtype=np.uint32)]),
        ForkKey(1663, 7, 1262, Fork.MAIN): ForkChanges(parts=[np.array([3], dtype=np.uint32)]),
    }
    base = changes(parent=10)
    found = SinceParent(happened, parent_file=base._parent_file, segment_blocks=SEGMENT)
    assert read_of(found, 10, name="1262", folder="global") == {1}
    assert read_of(found, 10, name="1262", folder="pg_tblspc/16500/PG_18_202506291/7") == {2}
    assert read_of(found, 10, name="1262", folder="base/7") == {3}


def test_a_map_of_free_space_is_always_read_and_a_map_of_visibility_when_it_was_cut() -> None:
    assert read_of(changes(), 3, name="16384_fsm") == {0, 1, 2}
    assert read_of(changes(blocks=[1], fork=Fork.VISIBILITY), 3, name="16384_vm") == {1}
    assert read_of(changes(2**31, [1], fork=Fork.VISIBILITY), 3, name="16384_vm") == {0, 1, 2}


@pytest.mark.parametrize("more", [1, PAGE_SIZE - 1])
def test_a_file_of_an_odd_length_is_read_whole(more: int) -> None:
    assert read_of(changes(), 50, more=more) == set(range(50))


def test_a_file_longer_than_a_segment_is_read_whole() -> None:
    assert read_of(changes(segment_blocks=64, parent=64), 64) == set()
    assert read_of(changes(segment_blocks=64, parent=64), 65) == set(range(65))


@pytest.mark.parametrize("block", [65535, 65536, 65537, 131071, 131072, 131073])
def test_a_listed_block_at_the_edge_of_a_chunk_or_segment_is_read_in_its_own_segment(block: int) -> None:
    found = changes(blocks=[block], parent=SEGMENT)
    segment, within = divmod(block, SEGMENT)
    names = ("16384", "16384.1", "16384.2")
    for number, name in enumerate(names):
        assert read_of(found, SEGMENT, name=name) == ({within} if number == segment else set())


@pytest.mark.parametrize("limit", [65535, 65536, 65537, 131071, 131072, 131073])
def test_a_limit_is_cut_to_each_segment(limit: int) -> None:
    found = changes(limit, parent=SEGMENT)
    for segment, name in enumerate(("16384", "16384.1", "16384.2")):
        kept = min(max(limit - segment * SEGMENT, 0), SEGMENT)
        # Of the 32 pages around the limit all are read when at least 24 have to be.
        kept -= kept % 32 if kept % 32 <= 8 else 0
        assert read_of(found, SEGMENT, name=name) == set(range(kept, SEGMENT))


def test_the_last_segment_there_can_be_is_no_special_case() -> None:
    last = 2**32 // SEGMENT - 1
    found = changes(blocks=[2**32 - 2], parent=SEGMENT)
    assert read_of(found, SEGMENT, name=f"16384.{last}") == {SEGMENT - 2}


def test_a_window_of_which_most_changed_is_read_whole() -> None:
    assert read_of(changes(blocks=range(32, 55)), 100) == set(range(32, 55))
    assert read_of(changes(blocks=range(32, 56)), 100) == set(range(32, 64))


@given(
    limit=st.one_of(st.just(NO_LIMIT), st.integers(0, 80)),
    blocks=st.sets(st.integers(0, 90)),
    parent=st.one_of(st.none(), st.integers(0, 70)),
    length=st.integers(0, 90),
    segment=st.integers(0, 2),
)
def test_nothing_that_may_differ_is_inherited(
    limit: int, blocks: set[int], parent: int | None, length: int, segment: int
) -> None:
    """Against the rule in its plainest form, page by page, with segments of 40 pages."""
    size = 40
    length, parent = min(length, size), None if parent is None else min(parent, size)
    found = changes(limit, blocks, parent=parent, segment_blocks=size)
    read = read_of(found, length, name="16384" if segment == 0 else f"16384.{segment}")
    for block in range(length):
        number = segment * size + block
        if parent is None or block >= parent or number in blocks or (limit < NO_LIMIT and number >= limit):
            assert block in read
    assert read <= set(range(length))

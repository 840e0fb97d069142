"""WAL summaries are read as PostgreSQL means them, and every doubt about them is said."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.domain.lsn import Lsn
from stillframe.postgres.files import Fork
from stillframe.postgres.wal_summaries import (
    FOLDER,
    NO_LIMIT,
    ForkChanges,
    ForkKey,
    SummariesUnusable,
    SummaryFile,
    WalRange,
    choose_summaries,
    list_summaries,
    merge_summaries,
)
from support.wal_summaries import Entries, write_summary

pytestmark = pytest.mark.unit

KEY = ForkKey(1663, 5, 16384, Fork.MAIN)
EDGES = (0, 1, 65535, 65536, 65537, 131071, 131072, 131073, 2**32 - 2)


def merged_blocks(*files: SummaryFile) -> list[int]:
    return [int(block) for block in merge_summaries(files)[KEY].blocks()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / FOLDER
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("block", EDGES[:-1])
def test_a_block_at_the_edge_of_a_chunk_is_found_where_it_is(folder: Path, block: int) -> None:
    file = write_summary(folder, {KEY: (NO_LIMIT, [block])}, start=0, end=1)
    assert merged_blocks(file) == [block]


@pytest.mark.parametrize("count", [4095, 4096, 4097, 65535, 65536, 65537, 131071, 131072, 131073])
def test_lists_bitmaps_and_full_chunks_say_the_same(folder: Path, count: int) -> None:
    file = write_summary(folder, {KEY: (NO_LIMIT, range(count))}, start=0, end=1)
    assert merged_blocks(file) == list(range(count))


def test_all_forks_databases_and_whole_databases_are_told_apart(folder: Path) -> None:
    entries: Entries = {
        ForkKey(1663, 5, 16384, fork): (NO_LIMIT, [number]) for number, fork in enumerate(Fork)
    } | {ForkKey(1663, 6, 0, Fork.MAIN): (0, []), ForkKey(1664, 0, 1262, Fork.MAIN): (3, [7, 1])}
    found = merge_summaries([write_summary(folder, entries, start=0, end=1)])
    assert {key: (change.limit, change.blocks().tolist()) for key, change in found.items()} == {
        key: (limit, sorted(blocks)) for key, (limit, blocks) in entries.items()
    }


def test_a_later_limit_takes_earlier_blocks_and_not_its_own(folder: Path) -> None:
    first = write_summary(folder, {KEY: (NO_LIMIT, [1, 10, 20])}, start=0, end=5)
    second = write_summary(folder, {KEY: (10, [15])}, start=5, end=9)
    merged = merge_summaries([first, second])[KEY]
    assert (merged.limit, merged.blocks().tolist()) == (10, [1, 15])


histories = st.lists(
    st.tuples(
        st.one_of(st.just(NO_LIMIT), st.integers(0, 40)),
        st.lists(st.integers(0, 60), max_size=8),
    ),
    max_size=8,
)


@given(histories)
def test_merging_says_at_least_what_a_plain_model_says(history: list[tuple[int, list[int]]]) -> None:
    """Page by page: one is as it was unless it was listed, or was at or above a limit at any time."""
    merged = ForkChanges()
    touched: set[int] = set()
    for limit, blocks in history:
        merged.merge(limit, np.array(blocks, dtype=np.uint32))
        touched |= set(range(limit, 61)) if limit < NO_LIMIT else set()
        touched |= set(blocks)
    found = set(merged.blocks().tolist())
    if merged.limit < NO_LIMIT:
        found |= set(range(merged.limit, 61))
    assert found == touched


@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_the_order_in_a_directory_does_not_matter(rng: random.Random, count: int) -> None:
    files = [
        SummaryFile(path=Path(str(number)), timeline=1, start=Lsn(number * 10), end=Lsn(number * 10 + 10))
        for number in range(count)
    ]
    other = [SummaryFile(path=Path("x"), timeline=2, start=Lsn(0), end=Lsn(10_000))]
    shuffled = files + other
    rng.shuffle(shuffled)
    ordered = sorted(shuffled, key=lambda file: (file.timeline, file.start, file.end))
    wanted = WalRange(timeline=1, start=Lsn(0), end=Lsn(count * 10))
    assert choose_summaries(ordered, [wanted]) == files


def test_a_directory_is_listed_in_the_order_of_history_and_strangers_are_left_out(folder: Path) -> None:
    starts = [30, 10, 20, 0]
    for start in starts:
        write_summary(folder, {}, start=start, end=start + 10)
    write_summary(folder, {}, start=5, end=6, timeline=2)
    (folder / "temp.summary").write_bytes(b"")
    found = list_summaries(folder.parent.parent)
    assert [(file.timeline, file.start) for file in found] == [(1, 0), (1, 10), (1, 20), (1, 30), (2, 5)]


def test_a_cluster_without_a_place_for_summaries_has_none(tmp_path: Path) -> None:
    assert list_summaries(tmp_path) == []


@pytest.mark.parametrize(
    ("starts", "start", "end"),
    [([10, 20], 5, 30), ([0, 20], 0, 30), ([0, 10], 0, 30), ([], 0, 1)],
    ids=["begin", "middle", "end", "all"],
)
def test_a_gap_is_a_doubt(folder: Path, starts: list[int], start: int, end: int) -> None:
    files = [write_summary(folder, {}, start=number, end=number + 10) for number in starts]
    with pytest.raises(SummariesUnusable, match="was not summarised"):
        choose_summaries(files, [WalRange(timeline=1, start=Lsn(start), end=Lsn(end))])


def test_stretches_of_several_timelines_come_in_the_order_of_history(folder: Path) -> None:
    on_two = write_summary(folder, {}, start=15, end=40, timeline=2)
    on_one = write_summary(folder, {}, start=0, end=15)
    beyond = write_summary(folder, {}, start=15, end=90)
    ranges = [
        WalRange(timeline=1, start=Lsn(3), end=Lsn(15)),
        WalRange(timeline=2, start=Lsn(15), end=Lsn(40)),
    ]
    assert choose_summaries([on_one, beyond, on_two], ranges) == [on_one, on_two]


def test_every_changed_byte_and_every_cut_is_a_doubt(folder: Path) -> None:
    file = write_summary(folder, {KEY: (4, [1, 2, 3]), ForkKey(1, 2, 3, Fork.INIT): (0, [])}, start=0, end=1)
    content = file.path.read_bytes()
    for place in range(len(content)):
        file.path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(SummariesUnusable):
            merge_summaries([file])
        file.path.write_bytes(content[:place])
        with pytest.raises(SummariesUnusable):
            merge_summaries([file])
    file.path.unlink()
    with pytest.raises(SummariesUnusable, match="cannot be read"):
        merge_summaries([file])

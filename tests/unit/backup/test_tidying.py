"""A file that is changed here and there in every snapshot does not fall into ever more pieces."""

import random
from collections.abc import Sequence
from itertools import count

import numpy as np
import pytest

from stillframe.backup.changes import WINDOW, BlockRange
from stillframe.backup.tidying import LEAF, MOST_EXTENTS, MOST_FRAMES, Tidying
from stillframe.repository import Places

pytestmark = pytest.mark.unit

PATH = "base/5/16384"
FRESH = LEAF // WINDOW
"""Frames of a leaf that was stored whole."""


class Pages:
    """The page table of one file, as captures leave it: for each page its frame and its place in it."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._names = (number.to_bytes(8, "big") for number in count())
        self._places: list[tuple[bytes, int]] = [(b"", 0)] * blocks
        self.run(0, blocks)

    def parent_places(self, path: str, leaf: int) -> Places | None:
        assert path == PATH
        places = self._places[leaf * LEAF : (leaf + 1) * LEAF]
        if not places:
            return None
        numbers: dict[bytes, int] = {}
        frame = [numbers.setdefault(name, len(numbers) + 1) for name, _ in places]
        return Places(list(numbers), np.array(frame), np.array([index for _, index in places]))

    def leaf(self) -> Places:
        found = self.parent_places(PATH, 0)
        assert found is not None
        return found

    def run(self, first: int, pages: int) -> None:
        """Pages that follow each other, stored in frames that begin at multiples of a window."""
        for page in range(first, first + pages):
            if page == first or page % WINDOW == 0:
                frame = next(self._names)
            self._places[page] = (frame, page % WINDOW)

    def scatter(self, pages: Sequence[int]) -> None:
        """Single pages, up to a window's number in a frame."""
        for at, page in enumerate(pages):
            if at % WINDOW == 0:
                frame = next(self._names)
            self._places[page] = (frame, at % WINDOW)

    def capture(self, changed: set[int]) -> int:
        """Store these pages and what is tidied up; how many pages that are in all."""
        ranges = ranges_of(sorted(changed))
        chosen = Tidying(self, changed=len(changed)).widened(PATH, ranges, blocks=self.blocks)
        read = {page for part in chosen for page in range(part.first, part.first + part.count)}
        assert changed <= read
        for part in chosen:
            if part.count >= WINDOW // 2:
                self.run(part.first, part.count)
        self.scatter([page for part in chosen if part.count < WINDOW // 2 for page in _pages(part)])
        return len(read)


def _pages(part: BlockRange) -> range:
    return range(part.first, part.first + part.count)


def ranges_of(pages: Sequence[int]) -> list[BlockRange]:
    found: list[BlockRange] = []
    for page in pages:
        if found and found[-1].first + found[-1].count == page:
            found[-1] = BlockRange(first=found[-1].first, count=found[-1].count + 1)
        else:
            found.append(BlockRange(first=page, count=1))
    return found


def pieces_of(places: Places) -> int:
    return int(np.count_nonzero(places.begins))


@pytest.mark.parametrize("changes", [1, 3, 10, 50, 200])
def test_no_leaf_is_in_more_pieces_than_allowed_after_200_random_snapshots(changes: int) -> None:
    chance, pages = random.Random(changes), Pages(LEAF)
    for number in range(200):
        pages.capture({chance.randrange(LEAF) for _ in range(changes)})
        if number % 20 == 19:
            # What may be done in one snapshot is bounded, so it may take a few until the limit is kept again.
            assert len(pages.leaf().frames) <= MOST_FRAMES + 8
            assert pieces_of(pages.leaf()) <= MOST_EXTENTS + 8


def test_one_snapshot_reads_a_bounded_number_of_pages_more() -> None:
    chance, pages = random.Random(1), Pages(LEAF)
    for _ in range(200):
        assert pages.capture({chance.randrange(LEAF)}) <= 1 + 2 + WINDOW


def test_tidying_up_costs_a_few_times_what_changed_in_the_long_run() -> None:
    chance, pages = random.Random(2), Pages(LEAF)
    stored = sum(pages.capture({chance.randrange(LEAF)}) for _ in range(400))
    assert stored < 10 * 400


def test_thirty_snapshots_with_one_page_in_a_hundred_changed_are_left_alone() -> None:
    chance, pages = random.Random(3), Pages(4 * LEAF)
    stored = changed = 0
    for _ in range(30):
        these = {chance.randrange(pages.blocks) for _ in range(pages.blocks // 100)}
        changed += len(these)
        stored += pages.capture(these)
    assert stored <= 1.02 * changed


def test_the_same_changes_choose_the_same_pages() -> None:
    tables = []
    for _ in range(2):
        chance, pages = random.Random(4), Pages(LEAF)
        for _ in range(150):
            pages.capture({chance.randrange(LEAF)})
        tables.append(pages.leaf().leaf())
    assert tables[0] == tables[1]


def test_leaves_that_are_not_touched_are_not_asked_about() -> None:
    class Strict(Pages):
        def parent_places(self, path: str, leaf: int) -> Places | None:
            assert leaf == 1
            return super().parent_places(path, leaf)

    pages = Strict(3 * LEAF)
    assert pages.capture({LEAF + 5}) == 1


def test_pages_beyond_the_parents_end_are_read_anyway() -> None:
    pages = Pages(LEAF)
    ranges = [BlockRange(first=7, count=1), BlockRange(first=LEAF, count=100)]
    chosen = Tidying(pages, changed=1).widened(PATH, ranges, blocks=LEAF + 100)
    assert chosen == ranges

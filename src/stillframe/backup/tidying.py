"""Which unchanged pages a capture reads as well, so that a file does not fall into ever more pieces.

Scattered changes are stored together, away from the pages they lie between. After many snapshots the pages of a
leaf (1,024 of them, 8 MiB) would be in as many places, and reading them back take as many requests. So a capture
that touches such a leaf stores some of its windows of 32 pages whole again. How much of that one snapshot does is
bounded by what changed anyway: the page tables of a namespace become tidy over some snapshots, and none of them
becomes large for it.
"""

import threading
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from stillframe.backup.changes import WINDOW, BlockRange, joined_ranges
from stillframe.repository import Places

LEAF: Final = 1024
"""Pages of a leaf of the page table."""
MOST_FRAMES: Final = 96
"""Different frames of a leaf; 32 are the least there can be. Below, nothing is done."""
MOST_EXTENTS: Final = 512
"""Pieces of a leaf. One page in a hundred changed at random comes here after thirty snapshots."""
_PAGES_A_CHANGE: Final = 2
"""Unchanged pages that may be read for each one that changed; and one window always."""

Pages = npt.NDArray[np.bool_]


class ParentPages(Protocol):
    """Where the parent's pages are; the snapshot writer tells."""

    def parent_places(self, path: str, leaf: int) -> Places | None:
        """Where the pages of a leaf of a file are, as far as the parent has them."""
        ...


class Tidying:
    """What is left to do in one snapshot, in which so many pages changed. Safe to use from several threads."""

    def __init__(self, parent: ParentPages, *, changed: int) -> None:
        self._parent = parent
        self._left = WINDOW + _PAGES_A_CHANGE * changed
        self._lock = threading.Lock()

    def widened(self, path: str, ranges: Sequence[BlockRange], *, blocks: int) -> Sequence[BlockRange]:
        """What to read of a file of so many pages: these ranges, and the windows that are to be stored whole.

        Raises what reading the parent's page table raises.
        """
        if len(ranges) == 1 and ranges[0].count == blocks:
            return ranges
        read = np.zeros(blocks, dtype=np.bool_)
        for chosen in ranges:
            read[chosen.first : chosen.first + chosen.count] = True
        added = sum(self._tidied(path, read, start) for start in _partly_read(read))
        return joined_ranges(read) if added else ranges

    def _tidied(self, path: str, read: Pages, start: int) -> int:
        """Add windows of the leaf that begins at `start` to `read`; how many pages more that are."""
        part = read[start : start + LEAF]
        places = self._parent.parent_places(path, start // LEAF)
        if places is None or _surely_tidy(places, changed=int(np.count_nonzero(part))):
            return 0
        leaf = _Leaf(places, part)
        added = 0
        while leaf.untidy:
            pages = leaf.worst_window()
            with self._lock:
                if pages is None or self._left < np.count_nonzero(~part[pages]):
                    break
                self._left -= int(np.count_nonzero(~part[pages]))
            added += int(np.count_nonzero(~part[pages]))
            part[pages] = True
        return added


class _Leaf:
    """How a leaf will be in pieces when the pages in `read` have been stored anew, and the others inherited."""

    def __init__(self, places: Places, read: Pages) -> None:
        self._read = read
        self._numbers = np.arange(len(read))
        self._begins = np.zeros(len(read), dtype=np.bool_)
        self._frames = np.zeros(len(read), dtype=np.int64)
        # Pages beyond the parent's end are read in any case.
        known = min(len(read), len(places.frame))
        self._begins[:known] = places.begins[:known]
        self._frames[:known] = places.frame[:known]

    @property
    def untidy(self) -> bool:
        """Whether it is in too many pieces. Pages that are read come into frames of their own, few of them."""
        frames = len(np.unique(self._frames[~self._read]))
        return frames > MOST_FRAMES or int(np.count_nonzero(self._pieces())) > MOST_EXTENTS

    def worst_window(self) -> slice | None:
        """The pages of the window of most pieces, the first of several; None when all of them are whole."""
        windows = np.add.reduceat(self._pieces().astype(np.int64), np.arange(0, len(self._read), WINDOW))
        worst = int(np.argmax(windows))
        return slice(worst * WINDOW, (worst + 1) * WINDOW) if windows[worst] > 1 else None

    def _pieces(self) -> Pages:
        """Where pieces will begin."""
        before = np.concatenate(([False], self._read[:-1]))
        window = self._numbers % WINDOW == 0
        return np.where(self._read, ~before | window, self._begins | before)


def _surely_tidy(places: Places, *, changed: int) -> bool:
    """A quick answer for most leaves: a page that changes makes at most two pieces more."""
    if int(np.count_nonzero(places.begins)) + 2 * changed > MOST_EXTENTS:
        return False
    return len(places.frames) < MOST_FRAMES


def _partly_read(read: Pages) -> list[int]:
    """The first pages of the leaves of which some pages are read, and others not."""
    starts = range(0, len(read), LEAF)
    return [start for start in starts if 0 < np.count_nonzero(read[start : start + LEAF]) < LEAF]

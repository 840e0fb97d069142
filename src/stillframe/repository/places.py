"""Where each page of a leaf is, as arrays: leaves of hundreds of pieces are changed without a step for each of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stillframe.repository.extents import Extent
from stillframe.repository.nodes import ZERO, LeafNode, split_ids

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Places:
    """By page of a leaf, counted from the leaf's own first: a number for its frame, and where it is in that frame.

    `frames` are the frames' ids, numbered from 1; pages that are all zero have the number 0, and the index 0.
    """

    frames: Sequence[bytes]
    frame: Numbers
    index: Numbers

    @classmethod
    def of_leaf(cls, leaf: LeafNode) -> Self:
        """The pages of a leaf."""
        rows = np.fromiter(chain.from_iterable(leaf.extents), np.int64, 4 * len(leaf.extents)).reshape(-1, 4)
        first, count, number, index = rows.T
        frame = np.repeat(number, count)
        places = np.arange(len(frame)) + np.repeat(index - first, count)
        return cls(list(split_ids(leaf.frames)), frame, np.where(frame == ZERO, 0, places))

    @property
    def begins(self) -> NDArray[np.bool_]:
        """Where an extent begins: a page that does not go on, in its frame, where the one before ends."""
        follows = (self.frame[1:] == ZERO) | (self.index[1:] == self.index[:-1] + 1)
        goes_on = (self.frame[1:] == self.frame[:-1]) & follows
        return np.concatenate(([True], ~goes_on)) if len(self.frame) else np.zeros(0, np.bool_)

    def changed(self, written: Iterable[Extent], *, start: int, blocks: int) -> Self:
        """The same with these extents, of the file's own pages, for a leaf of `blocks` pages from page `start` on.

        What it did not have and is not among the extents counts as zeros.
        """
        frames = list(self.frames)
        numbers = {one: number for number, one in enumerate(frames, 1)}
        frame, index = _resized(self.frame, blocks), _resized(self.index, blocks)
        for extent in written:
            pages = slice(extent.first - start, extent.end - start)
            if extent.frame is None:
                frame[pages], index[pages] = ZERO, 0
                continue
            if extent.frame not in numbers:
                frames.append(extent.frame)
                numbers[extent.frame] = len(frames)
            frame[pages] = numbers[extent.frame]
            index[pages] = np.arange(extent.index, extent.index + extent.count)
        return type(self)(frames, frame, index)

    def leaf(self) -> LeafNode:
        """The leaf of these pages in the canonical form: as few extents as can be, frames in the order of use."""
        first = np.flatnonzero(self.begins)
        count = np.diff(first, append=len(self.frame))
        used = {ZERO: ZERO}
        numbers = [used.setdefault(number, len(used)) for number in self.frame[first].tolist()]
        rows = zip(first.tolist(), count.tolist(), numbers, self.index[first].tolist(), strict=True)
        return LeafNode(b"".join(self.frames[number - 1] for number in used if number != ZERO), list(rows))


def _resized(values: Numbers, length: int) -> Numbers:
    result = np.zeros(length, np.int64)
    kept = min(length, len(values))
    result[:kept] = values[:kept]
    return result

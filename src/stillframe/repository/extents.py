"""Runs of pages of one relation file, and how they are laid into leaves."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from operator import itemgetter

from stillframe.errors import InvalidRequest
from stillframe.repository.format import BLOCK, ID_BYTES, LEAF_BLOCKS
from stillframe.repository.nodes import ZERO, LeafNode


@dataclass(frozen=True, slots=True)
class Extent:
    """Consecutive pages of a file: `count` from page `first`, found in `frame` from page `index` of it.

    `frame` None means that all of them are zero, and stored nowhere.
    """

    first: int
    count: int
    frame: bytes | None
    index: int

    @property
    def end(self) -> int:
        """The page after the last."""
        return self.first + self.count

    def clipped(self, first: int, end: int) -> "Extent":
        """The part of it within [first, end)."""
        start, stop = max(first, self.first), min(end, self.end)
        index = self.index + start - self.first if self.frame is not None else 0
        return Extent(start, stop - start, self.frame, index)

    def continues(self, other: "Extent") -> bool:
        """Whether it goes on where `other` ends, in the file and in the frame."""
        if self.first != other.end or self.frame != other.frame:
            return False
        return self.frame is None or self.index == other.index + other.count


def leaf_count(blocks: int) -> int:
    """Leaves that a file of this many pages has."""
    return -(-blocks // LEAF_BLOCKS)


def blocks_of(size: int) -> int:
    """Pages of a relation file of this many bytes."""
    return size // BLOCK


def leaf_span(number: int, blocks: int) -> tuple[int, int]:
    """First page of a leaf and the page after its last, in a file of this many pages."""
    return number * LEAF_BLOCKS, min(blocks, (number + 1) * LEAF_BLOCKS)


def joined(extents: Iterable[Extent]) -> list[Extent]:
    """The same pages in as few extents as can be; the canonical form. They come sorted."""
    result: list[Extent] = []
    for extent in extents:
        if result and extent.continues(result[-1]):
            result[-1] = replace(result[-1], count=result[-1].count + extent.count)
        else:
            result.append(extent)
    return result


def to_leaf(extents: Sequence[Extent], start: int) -> LeafNode:
    """The leaf of these extents, which begin at page `start` of the file."""
    numbers: dict[bytes, int] = {}
    rows = []
    for extent in joined(extents):
        number = ZERO if extent.frame is None else numbers.setdefault(extent.frame, len(numbers) + 1)
        rows.append((extent.first - start, extent.count, number, extent.index))
    return LeafNode(b"".join(numbers), rows)


def from_leaf(leaf: LeafNode, start: int, *, page: int = 0) -> Iterator[Extent]:
    """The extents of a leaf that begins at page `start` of the file, from the one with the leaf's `page` on."""
    at = bisect_right(leaf.extents, page, key=itemgetter(0)) - 1
    for first, count, number, index in islice(leaf.extents, max(0, at), None):
        frame = None if number == ZERO else leaf.frames[(number - 1) * ID_BYTES : number * ID_BYTES]
        yield Extent(start + first, count, frame, index)


def require_disjoint(extents: Sequence[Extent]) -> None:
    """Raise InvalidRequest when sorted extents give a page twice."""
    for one, other in pairwise(extents):
        if other.first < one.end:
            raise InvalidRequest(f"Page {other.first} was given twice.")


def gaps(extents: Sequence[Extent], first: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of [first, end), as (first, end), that sorted extents leave open."""
    for extent in extents:
        if extent.first > first:
            yield first, extent.first
        first = extent.end
    if first < end:
        yield first, end

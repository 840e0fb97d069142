"""Writing relation files: pages in runs, scattered pages, and pages the parent has."""

import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from stillframe.errors import InvalidRequest
from stillframe.repository.codec import is_zero
from stillframe.repository.crypto import ContentBytes
from stillframe.repository.extents import (
    Extent,
    blocks_of,
    gaps,
    leaf_count,
    leaf_span,
    require_disjoint,
    to_leaf,
)
from stillframe.repository.files import FileContent, FileDone, PageCount
from stillframe.repository.format import BLOCK, FRAME_BLOCKS, FRAME_BYTES, LEAF_BLOCKS, ContentKind
from stillframe.repository.nodes import FileKind, FileRecord, LeafNode, encode
from stillframe.repository.places import Places
from stillframe.repository.reflist import save_refs
from stillframe.repository.tree import Tree
from stillframe.repository.trie import NodeSink


class RelationWriter:
    """A relation file of a known number of pages. Several threads may give pages at once.

    Every page has to come exactly once from `write_run`, `write_scattered` or `write_zeros`, or else from
    `inherit`; a page that was written wins over the same page inherited, in whatever order they came.
    """

    def __init__(self, nodes: NodeSink, layout: "LeafLayout", *, blocks: int, done: FileDone) -> None:
        self._nodes = nodes
        self._layout = layout
        self._blocks = blocks
        self._done = done
        self._lock = threading.Lock()
        self._written: list[Extent] = []
        self._inherited: list[tuple[int, int]] = []
        self._scattered = _ScatteredPages()
        self._closed = False

    def write_run(self, first_block: int, pages: ContentBytes) -> None:
        """Consecutive pages, from number `first_block` of the file on; whole pages, as many as there are.

        They are cut at multiples of 32 pages of the file, so that the same pages give the same frames in every
        capture; give runs that begin and end there where you can. Raises InvalidRequest for pages beyond the
        file's end, and what storing them raised.
        """
        data = memoryview(pages).cast("B")
        self._require(first_block, len(data) // BLOCK, whole=len(data) % BLOCK == 0)
        for start, part in _windows(first_block, data):
            self._add([self._stored_run(start, part)])

    def write_scattered(self, pages: Iterable[tuple[int, ContentBytes]]) -> None:
        """Single pages, as (block, 8,192 bytes), in any order.

        Up to 32 of them share a frame, so that scattered changes cost what they are and not the runs they lie
        in. Raises as `write_run`.
        """
        for block, page in pages:
            self._require(block, 1, whole=len(page) == BLOCK)
            if is_zero(page):
                self._add([Extent(block, 1, None, 0)])
                continue
            with self._lock:
                full = self._scattered.add(block, page)
            if full is not None:
                self._add(self._stored_scattered(full))

    def write_zeros(self, first_block: int, count: int) -> None:
        """Pages that are all zero, without giving their bytes. Raises InvalidRequest."""
        self._require(first_block, count)
        if count:
            self._add([Extent(first_block, count, None, 0)])

    def inherit(self, first_block: int, count: int) -> None:
        """Pages that are as the parent has them; they are neither read nor stored again.

        Raises InvalidRequest when the parent's file does not have all of them.
        """
        self._require(first_block, count)
        if count and first_block + count > self._layout.parent_blocks:
            raise InvalidRequest(
                f"The parent's file has {self._layout.parent_blocks} pages, not {first_block + count}."
            )
        with self._lock:
            self._inherited.append((first_block, first_block + count))

    def close(self) -> None:
        """The file is complete. Raises InvalidRequest when a page is missing or was given twice."""
        if self._closed:
            raise InvalidRequest("The file has been closed.")
        self._closed = True
        if self._scattered.blocks:
            self._add(self._stored_scattered(self._scattered))
        self._written.sort(key=lambda extent: extent.first)
        require_disjoint(self._written)
        leaves = self._layout.leaves(self._written, _united(self._inherited), blocks=self._blocks)
        ref = save_refs(self._nodes, ContentKind.LEAF_LIST, leaves)
        content = FileContent(kind=FileKind.RELATION, size=self._blocks * BLOCK, ref=ref)
        zero = sum(extent.count for extent in self._written if extent.frame is None)
        self._done(content, PageCount(given=sum(extent.count for extent in self._written), zero=zero))

    def _require(self, first_block: int, count: int, *, whole: bool = True) -> None:
        if self._closed:
            raise InvalidRequest("The file has been closed.")
        if not whole:
            raise InvalidRequest(f"Pages are {BLOCK} bytes each.")
        if first_block < 0 or count < 0 or first_block + count > self._blocks:
            raise InvalidRequest(
                f"Pages {first_block} to {first_block + count} are not in a file of {self._blocks}."
            )

    def _add(self, extents: Sequence[Extent]) -> None:
        # A sequence: storing is done, so that other threads never wait here while a frame is compressed.
        with self._lock:
            self._written.extend(extents)

    def _stored_run(self, first: int, pages: memoryview) -> Extent:
        frame = None if is_zero(pages) else self._nodes.save(ContentKind.PAGES, pages)
        return Extent(first, len(pages) // BLOCK, frame, 0)

    def _stored_scattered(self, pages: "_ScatteredPages") -> list[Extent]:
        blocks, data = pages.sorted()
        frame = self._nodes.save(ContentKind.PAGES, data)
        return [Extent(block, 1, frame, index) for index, block in enumerate(blocks)]


class _ScatteredPages:
    """Pages that wait for a frame to be full."""

    def __init__(self) -> None:
        self.blocks: list[int] = []
        self._data = bytearray()

    def add(self, block: int, page: ContentBytes) -> "_ScatteredPages | None":
        """Take a page; when the frame is full, what was collected, and begin anew."""
        self.blocks.append(block)
        self._data += page
        if len(self._data) < FRAME_BYTES:
            return None
        full = _ScatteredPages()
        full.blocks, self.blocks = self.blocks, full.blocks
        full._data, self._data = self._data, full._data
        return full

    def sorted(self) -> tuple[list[int], bytes]:
        """Blocks and their pages, by block."""
        order = sorted(range(len(self.blocks)), key=self.blocks.__getitem__)
        data = b"".join(self._data[at * BLOCK : (at + 1) * BLOCK] for at in order)
        return [self.blocks[at] for at in order], data


class LeafLayout:
    """Lays the pages of one file into leaves, taking over the parent's leaves where all of one is inherited."""

    def __init__(self, nodes: NodeSink, parent: Tree | None, record: FileRecord | None) -> None:
        self._nodes = nodes
        self._tree = parent
        self._record = record
        self.parent_blocks = blocks_of(record.size) if record is not None else 0

    def leaves(
        self, written: Sequence[Extent], inherited: Sequence[tuple[int, int]], *, blocks: int
    ) -> list[bytes | None]:
        """The leaves of a file of `blocks` pages, stored; both sequences sorted and disjoint.

        Raises InvalidRequest when a page comes from neither.
        """
        by_leaf = _by_leaf(written, blocks)
        parent_leaves = self._parent_leaves() if inherited else []
        result: list[bytes | None] = []
        for number in range(leaf_count(blocks)):
            start, end = leaf_span(number, blocks)
            open_parts = list(gaps(by_leaf[number], start, end))
            _require_inherited(open_parts, inherited)
            whole = open_parts == [(start, end)] and leaf_span(number, self.parent_blocks) == (start, end)
            if whole:
                result.append(parent_leaves[number])
            else:
                inherited_leaf = parent_leaves[number] if open_parts else None
                leaf = self._leaf(by_leaf[number], inherited_leaf, number=number, blocks=end - start)
                result.append(self._nodes.save(ContentKind.LEAF, encode(leaf)))
        return result

    def _parent_leaves(self) -> list[bytes]:
        if self._tree is None or self._record is None:
            return []
        return list(self._tree.leaf_ids(self._record))

    def _leaf(
        self, written: Sequence[Extent], inherited: bytes | None, *, number: int, blocks: int
    ) -> LeafNode:
        """The written extents of one leaf, and the inherited leaf's between them."""
        start = number * LEAF_BLOCKS
        if inherited is None:
            return to_leaf(written, start)
        assert self._tree is not None
        first, end = leaf_span(number, self.parent_blocks)
        places = Places.of_leaf(self._tree.leaf(inherited, blocks=end - first))
        return places.changed(written, start=start, blocks=blocks).leaf()


def _windows(first: int, data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Pages cut at multiples of 32 pages of the file."""
    position = 0
    while position < len(data):
        block = first + position // BLOCK
        length = (FRAME_BLOCKS - block % FRAME_BLOCKS) * BLOCK
        yield block, data[position : position + length]
        position += length


def _by_leaf(extents: Sequence[Extent], blocks: int) -> list[list[Extent]]:
    """Sorted extents, cut at the borders of leaves, for each leaf."""
    result: list[list[Extent]] = [[] for _ in range(leaf_count(blocks))]
    for extent in extents:
        for number in range(extent.first // LEAF_BLOCKS, (extent.end - 1) // LEAF_BLOCKS + 1):
            result[number].append(extent.clipped(*leaf_span(number, blocks)))
    return result


def _united(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted ranges without overlap, that cover the same."""
    result: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if result and first <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((first, end))
    return result


def _require_inherited(parts: Iterable[tuple[int, int]], inherited: Sequence[tuple[int, int]]) -> None:
    for first, end in parts:
        at = bisect_right(inherited, first, key=lambda part: part[0]) - 1
        if at < 0 or inherited[at][1] < end:
            raise InvalidRequest(f"Not all of the pages {first} to {end} were given.")

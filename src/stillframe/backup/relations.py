"""Copying relation files page by page, with every page checked (rules 22, 24-27)."""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from stillframe.backup.changes import BlockRange
from stillframe.backup.parallel import Unit
from stillframe.backup.reading import CopyContext, DamagedPage, open_to_read, read_into
from stillframe.postgres.files import Fork, ListedFile, RelationFile
from stillframe.postgres.pages import BATCH_PAGES, PAGE_SIZE, block_numbers, judge_pages
from stillframe.repository import RelationWriter

_REREADS = 5
_REREAD_PAUSE_SECONDS = 0.02
_LEAST_OF_A_RUN = 16
"""Half of a frame."""
_MOST_OF_A_UNIT = 128
"""Pieces of a unit, each of which may be of another file: a process may have a thousand files open, or fewer."""


class RelationCopy:
    """One relation file on its way into the snapshot; its pieces may be copied by several threads."""

    def __init__(self, context: CopyContext, file: ListedFile) -> None:
        assert file.relation is not None
        self._context = context
        self._file = file
        self.relation = file.relation
        # A partial last page counts as absent: it is being added, and WAL has it (rule 26).
        self._blocks = file.size // PAGE_SIZE
        self._ranges = _ranges(context, file, self._blocks)
        self._sparse = sum(chosen.count for chosen in self._ranges) < self._blocks
        self._unfinished = sum(1 for _ in self.pieces()) or 1
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._target: RelationWriter | None = None
        self._absent = False

    @property
    def path(self) -> str:
        """Where the file is, relative to the data directory."""
        return self._file.path

    @property
    def first_block(self) -> int:
        """The number of the file's first page in its relation."""
        return self.relation.segment * self._context.segment_blocks

    def page(self, block: int) -> DamagedPage:
        """One of its pages, as a finding names it."""
        return DamagedPage(path=self.path, relation=self.relation, block=block)

    def pieces(self) -> Iterator[BlockRange]:
        """What has to be read, in pieces of a batch at most, that begin at multiples of a batch."""
        for chosen in self._ranges:
            end = chosen.first + chosen.count
            first = chosen.first
            while first < end:
                count = min(BATCH_PAGES - first % BATCH_PAGES, end - first)
                yield BlockRange(first=first, count=count)
                first += count

    def read(self, piece: BlockRange, buffer: memoryview) -> bool:
        """Fill `buffer` with the pages of the piece; False when the file has vanished.

        What lies beyond the file's end by now was truncated after the start, and reads as zeros (rule 26).
        """
        descriptor = self._opened()
        if descriptor is None:
            return False
        got = read_into(descriptor, buffer, offset=piece.first * PAGE_SIZE, path=self.path)
        whole = got - got % PAGE_SIZE
        buffer[whole:] = bytes(len(buffer) - whole)
        self._context.findings.add_read(got)
        return True

    def read_page(self, block: int) -> bytes | None:
        """One page once more, or None when it has been truncated away."""
        descriptor = self._opened()
        assert descriptor is not None
        page = bytearray(PAGE_SIZE)
        got = read_into(descriptor, memoryview(page), offset=block * PAGE_SIZE, path=self.path)
        return bytes(page) if got == PAGE_SIZE else None

    def write(self, piece: BlockRange, pages: memoryview) -> None:
        """Hand checked pages to the snapshot.

        Few pages among inherited ones share frames with others of their kind: a frame each would cost more than
        they do.
        """
        assert self._target is not None
        if self._sparse and piece.count < _LEAST_OF_A_RUN:
            self._target.write_scattered(_numbered(piece, pages))
        else:
            self._target.write_run(piece.first, pages)
        self._context.progress.advance(len(pages))

    def finish_piece(self) -> None:
        """A piece is done; with the last one, so is the file."""
        with self._lock:
            self._unfinished -= 1
            last = self._unfinished == 0
        if last and self._opened() is not None:
            assert self._target is not None
            self._inherit_rest(self._target)
            self._target.close()
        if last:
            self.release()

    def release(self) -> None:
        """Close what is open; nothing happens the second time."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _inherit_rest(self, target: RelationWriter) -> None:
        position = 0
        for chosen in self._ranges:
            if chosen.first > position:
                target.inherit(position, chosen.first - position)
            position = chosen.first + chosen.count
        if position < self._blocks:
            target.inherit(position, self._blocks - position)

    def _opened(self) -> int | None:
        """The file's descriptor, opened by whoever comes first, or None when there is nothing to copy."""
        with self._lock:
            if self._descriptor is None and not self._absent:
                self._descriptor = self._open()
                self._absent = self._descriptor is None
            return self._descriptor

    def _open(self) -> int | None:
        path = self._context.root / self._file.path
        # Listed before its init fork was: an unlogged relation after all, which recovery makes anew (rule 22).
        if self.relation.fork is not Fork.INIT and _init_fork(path, self.relation).exists():
            self._context.writer.remove(self._file.path)
            return None
        descriptor = open_to_read(path)
        if descriptor is None:
            # Dropped after the start: WAL says so too (rule 27).
            self._context.add_vanished(self._file.path)
            return None
        self._target = self._context.writer.relation(
            self._file.path, mode=self._file.mode, blocks=self._blocks
        )
        return descriptor


def _ranges(context: CopyContext, file: ListedFile, blocks: int) -> Sequence[BlockRange]:
    """What is read of a file."""
    changed = tuple(context.changes.to_read(file, blocks=blocks))
    if context.tidying is None or not changed:
        return changed
    ranges = context.tidying.widened(file.path, changed, blocks=blocks)
    more = sum(chosen.count for chosen in ranges) - sum(chosen.count for chosen in changed)
    if more:
        context.progress.expect(more * PAGE_SIZE)
    return ranges


def _numbered(piece: BlockRange, pages: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Each page with the number it has in its file."""
    for index in range(piece.count):
        yield piece.first + index, pages[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]


def relation_units(context: CopyContext, files: Iterable[ListedFile]) -> Iterator[Unit]:
    """The work of copying these relation files, in units of at most one batch of pages each.

    Small files share a unit, so that their pages are checked together; not too many, because all of them are
    open at once.
    """
    batch: list[tuple[RelationCopy, BlockRange]] = []
    pages = 0
    for copy in (RelationCopy(context, file) for file in files):
        for piece in chain(copy.pieces(), _if_empty(copy)):
            if pages + piece.count > BATCH_PAGES or len(batch) == _MOST_OF_A_UNIT:
                yield partial(_copy_batch, context, batch)
                batch, pages = [], 0
            batch.append((copy, piece))
            pages += piece.count
    if batch:
        yield partial(_copy_batch, context, batch)


def _if_empty(copy: RelationCopy) -> Iterator[BlockRange]:
    """A file of which nothing is read still has to be entered: an empty piece does it."""
    if next(copy.pieces(), None) is None:
        yield BlockRange(first=0, count=0)


def _copy_batch(context: CopyContext, batch: list[tuple[RelationCopy, BlockRange]]) -> None:
    try:
        with context.buffers.lent(sum(piece.count for _, piece in batch) * PAGE_SIZE) as buffer:
            _copy_pages(context, batch, buffer)
        for copy, _ in batch:
            copy.finish_piece()
    except BaseException:
        for copy, _ in batch:
            copy.release()
        raise


def _copy_pages(
    context: CopyContext, batch: list[tuple[RelationCopy, BlockRange]], buffer: memoryview
) -> None:
    parts = _read_batch(batch, buffer)
    if context.verify_pages:
        _check_batch(context, parts, buffer)
    for copy, piece, pages in parts:
        copy.write(piece, pages)


Part = tuple[RelationCopy, BlockRange, memoryview]


def _read_batch(batch: list[tuple[RelationCopy, BlockRange]], buffer: memoryview) -> list[Part]:
    """The pieces whose files are still there, each with its pages, one behind the other in the buffer."""
    parts: list[Part] = []
    position = 0
    for copy, piece in batch:
        pages = buffer[position : position + piece.count * PAGE_SIZE]
        if copy.read(piece, pages):
            parts.append((copy, piece, pages))
            position += len(pages)
    return parts


def _check_batch(context: CopyContext, parts: list[Part], buffer: memoryview) -> None:
    """Check the pages of all parts at once; those that look wrong are read again, in place."""
    places = [
        (copy, block) for copy, piece, _ in parts for block in range(piece.first, piece.first + piece.count)
    ]
    if not places:
        return
    blocks = np.concatenate(
        [block_numbers(copy.first_block + piece.first, piece.count) for copy, piece, _ in parts],
    )
    checked = buffer[: len(places) * PAGE_SIZE]
    with context.checking:
        verdict = judge_pages(checked, blocks=blocks, start_lsn=context.start_lsn)
    for index, lsn in verdict.newer:
        copy, block = places[index]
        context.findings.add_newer(copy.page(block), lsn)
    for index in verdict.suspicious:
        copy, block = places[index]
        page = checked[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]
        page[:] = _settled_page(context, copy, block=block, seen=bytes(page))


def _settled_page(context: CopyContext, copy: RelationCopy, *, block: int, seen: bytes) -> bytes:
    """What to store for a page that looked wrong: read again until it passes or changes, else as it is (rule 24).

    A page that changes between two reads is being written, so WAL since the start restores it whole.
    """
    numbers = block_numbers(copy.first_block + block, 1)
    for _ in range(_REREADS):
        context.cancel.wait(_REREAD_PAUSE_SECONDS)
        again = copy.read_page(block)
        if again is None:
            return bytes(PAGE_SIZE)
        verdict = judge_pages(again, blocks=numbers, start_lsn=context.start_lsn)
        if again != seen or not verdict.suspicious:
            return again
    context.findings.add_damage(copy.page(block))
    return seen


def _init_fork(path: Path, relation: RelationFile) -> Path:
    return path.with_name(f"{relation.number}_{Fork.INIT}")

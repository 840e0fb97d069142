"""Checking pages many at a time (PostgreSQL: bufpage.h, storage/checksum_impl.h, verify_page_checksum())."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stillframe.domain.lsn import Lsn

PAGE_SIZE: Final = 8192
BATCH_PAGES: Final = 512
"""Pages checked in one call when there is a choice: 4 MiB keep numpy busy and its sums in the cache."""

_LANES = 32
_ROUNDS = PAGE_SIZE // (4 * _LANES)
_PRIME = np.uint32(16777619)
_SHIFT = np.uint32(17)
# The algorithm's constants; they are part of PostgreSQL's on-disk format.
_BASE = np.array(
    [
        0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
        0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
        0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
        0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
    ],
    dtype=np.uint32,
)  # fmt: skip

Buffer = bytes | bytearray | memoryview


def page_checksums(pages: Buffer, *, blocks: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """The checksum that each page should carry (PostgreSQL: pg_checksum_page()).

    `pages` is a whole number of pages; `blocks` has the number of each, counted over all segments of its
    relation. They may be of different relations: one call for many pages is what makes this fast.
    """
    words = np.frombuffer(pages, dtype="<u4").reshape(-1, _ROUNDS, _LANES)
    folded = np.bitwise_xor.reduce(_mixed(words), axis=1)
    sums: NDArray[np.uint16] = ((folded ^ blocks) % np.uint32(65535) + np.uint32(1)).astype(np.uint16)
    return sums


def block_numbers(first: int, count: int) -> NDArray[np.uint32]:
    """The numbers of `count` pages that follow each other; they wrap as PostgreSQL's own do."""
    return np.arange(first, first + count, dtype=np.uint64).astype(np.uint32)


def _mixed(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The 32 running sums of every page, in one array that is reused for each of its 64 rows."""
    sums = np.repeat(_BASE[np.newaxis, :], len(words), axis=0)
    scratch = np.empty_like(sums)
    for number in range(_ROUNDS):
        row = words[:, number, :]
        # The page's own checksum is the low half of the third word, and counts as zero.
        _step(sums, _without_checksum(row) if number == 0 else row, scratch)
    zero = np.zeros((1, _LANES), dtype=np.uint32)
    _step(sums, zero, scratch)
    _step(sums, zero, scratch)
    return sums


def _without_checksum(row: NDArray[np.uint32]) -> NDArray[np.uint32]:
    cleared = row.copy()
    cleared[:, 2] &= np.uint32(0xFFFF0000)
    return cleared


def _step(sums: NDArray[np.uint32], row: NDArray[np.uint32], scratch: NDArray[np.uint32]) -> None:
    np.bitwise_xor(sums, row, out=sums)
    np.right_shift(sums, _SHIFT, out=scratch)
    np.multiply(sums, _PRIME, out=sums)
    np.bitwise_xor(sums, scratch, out=sums)


def page_lsns(pages: Buffer) -> NDArray[np.uint64]:
    """The WAL position at which each page was last changed (its first eight bytes, high half first)."""
    halves = np.frombuffer(pages, dtype="<u4").reshape(-1, PAGE_SIZE // 4)[:, :2].astype(np.uint64)
    return (halves[:, 0] << np.uint64(32)) | halves[:, 1]


def new_pages(pages: Buffer) -> NDArray[np.bool_]:
    """Which pages were never initialised (PostgreSQL: PageIsNew(), pd_upper is 0)."""
    new: NDArray[np.bool_] = np.frombuffer(pages, dtype="<u2").reshape(-1, PAGE_SIZE // 2)[:, 7] == 0
    return new


@dataclass(frozen=True, slots=True, kw_only=True)
class PageVerdict:
    """Which pages of a batch fail their checksum, by index.

    `suspicious` may not be taken as they are. `newer` say they were changed since the start of the backup: WAL
    replaces them, provided that their LSN is true, so it has to be compared with the backup's end.
    """

    suspicious: tuple[int, ...] = ()
    newer: tuple[tuple[int, Lsn], ...] = ()


def judge_pages(pages: Buffer, *, blocks: NDArray[np.uint32], start_lsn: Lsn) -> PageVerdict:
    """Check the pages of a copy made since `start_lsn` (rule 24).

    A page is fine when it is all zero or its checksum is right. The checksum comes first: it covers the LSN too.
    """
    stored = np.frombuffer(pages, dtype="<u2").reshape(-1, PAGE_SIZE // 2)[:, 4]
    wrong = np.flatnonzero(stored != page_checksums(pages, blocks=blocks))
    if not len(wrong):
        return PageVerdict()
    view = memoryview(pages)
    failed = [index for index in map(int, wrong) if np.frombuffer(_page(view, index), dtype="<u8").any()]
    lsns = {index: _claimed_lsn(_page(view, index)) for index in failed}
    return PageVerdict(
        suspicious=tuple(index for index, lsn in lsns.items() if lsn < start_lsn),
        newer=tuple((index, lsn) for index, lsn in lsns.items() if lsn >= start_lsn),
    )


def _claimed_lsn(page: memoryview) -> Lsn:
    """What the page says; a page that looks new but is not empty says nothing (PageIsNew looks at one field)."""
    return Lsn(0) if bool(new_pages(page)[0]) else Lsn(int(page_lsns(page)[0]))


def _page(pages: memoryview, index: int) -> memoryview:
    return pages[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]

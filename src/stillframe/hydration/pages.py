"""Which pages of one file have arrived: arithmetic without files."""

from collections.abc import Iterator
from typing import Final

PAGE_SIZE: Final = 8192


def pages_in(length: int) -> int:
    """How many pages a length in bytes takes, a part of one counted as one."""
    return -(-length // PAGE_SIZE)


class PageMap:
    """One byte a page below the limit: 1 is there, 0 is not. What lies beyond counts as there: nobody fills it.

    Questions may be asked while another thread changes it: pages only ever become there, or fall off the end.
    """

    __slots__ = ("_pages", "missing")

    def __init__(self, limit: int) -> None:
        """Nothing has arrived of a file whose snapshot has `limit` bytes."""
        self._pages = bytearray(pages_in(limit))
        self.missing = len(self._pages)

    def __len__(self) -> int:
        return len(self._pages)

    def is_there(self, offset: int, count: int) -> bool:
        """Whether every page that these bytes touch is there."""
        return self._pages.find(0, offset // PAGE_SIZE, pages_in(offset + count)) < 0

    def missing_runs(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The runs of pages in [first, last) that are not there, as (first, last)."""
        start = self._pages.find(0, first, last)
        while start >= 0:
            found = self._pages.find(1, start, last)
            end = min(last, len(self._pages)) if found < 0 else found
            yield start, end
            start = self._pages.find(0, end, last)

    def arrived(self, first: int, last: int) -> int:
        """Note that the pages in [first, last) are there; how many were not before."""
        last = min(last, len(self._pages))
        if first >= last:
            return 0
        new = self._pages.count(0, first, last)
        self._pages[first:last] = b"\1" * (last - first)
        self.missing -= new
        return new

    def lost(self, page: int) -> None:
        """Note that a page is not there after all; only before anybody asks."""
        self.missing += self._pages[page]
        self._pages[page] = 0

    def retire(self, pages: int) -> int:
        """Keep that many pages at the front, forget the others; how many of those were not there."""
        gone = self._pages.count(0, pages)
        del self._pages[pages:]
        self.missing -= gone
        return gone

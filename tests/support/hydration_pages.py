"""A reader that no server knows of: looks at single pages of a half-arrived directory, and judges every one it gets."""

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

from stillframe.hydration.tags import limit_of
from stillframe.postgres.pages import PAGE_SIZE, block_numbers, page_checksums

_RELATION = re.compile(r"\d+(?:_fsm|_vm|_init)?(?:\.(?P<segment>\d+))?")
_SEGMENT_PAGES = (1 << 30) // PAGE_SIZE
_TORN_READS = 50


class HoleWasRead(AssertionError):
    """A page was read as zeros that the snapshot has, and that nobody has taken away."""


class PageReader:
    """`base` is the same snapshot, complete, if there is one. A server may write while pages are read."""

    def __init__(self, base: Path | None) -> None:
        self._base = base

    def read_some(self, data: Path, count: int, chance: random.Random) -> int:
        """Look at `count` pages of any relation files; how many of them were there to be judged."""
        files = list(relation_files(data))
        seen = 0
        for path in chance.choices(files, k=count):
            # Dropped since: nobody asks for its pages any more.
            size = path.stat().st_size if path.exists() else 0
            if size:
                seen += self.judge(data, path, chance.randrange(-(-size // PAGE_SIZE)))
        return seen

    def read_all(self, data: Path) -> int:
        """Look at every page; how many there were."""
        return sum(
            self.judge(data, path, number)
            for path in relation_files(data)
            for number in range(path.stat().st_size // PAGE_SIZE)
        )

    def judge(self, data: Path, path: Path, number: int) -> int:
        """1 if the page was there and is right, 0 if it was not there. Raises AssertionError."""
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return 0
        try:
            page = _steady(descriptor, path, number)
            if page == bytes(PAGE_SIZE) and self._should_be_there(descriptor, data, path, number):
                raise HoleWasRead(f"page {number} of {path.relative_to(data)}")
        finally:
            os.close(descriptor)
        return int(len(page) == PAGE_SIZE)

    def _should_be_there(self, descriptor: int, data: Path, path: Path, number: int) -> bool:
        limit = limit_of(descriptor)
        if limit is None or (number + 1) * PAGE_SIZE > limit:
            # Complete, or beyond a truncation: the server's own zeros.
            return False
        if self._base is None:
            return False
        with (self._base / path.relative_to(data)).open("rb") as base:
            base.seek(number * PAGE_SIZE)
            return any(base.read(PAGE_SIZE))


def relation_files(data: Path) -> Iterator[Path]:
    """The files that consist of pages, temporary ones left out."""
    for path in sorted([*data.glob("base/*/*"), *data.glob("global/*")]):
        if _RELATION.fullmatch(path.name):
            yield path


def is_whole(page: bytes, name: str, number: int) -> bool:
    """Whether a page is zero or carries the checksum of this page of a file of this name."""
    found = _RELATION.fullmatch(name)
    assert found is not None
    block = int(found["segment"] or 0) * _SEGMENT_PAGES + number
    return not any(page) or int.from_bytes(page[8:10], "little") == int(
        page_checksums(page, blocks=block_numbers(block, 1))[0]
    )


def _steady(descriptor: int, path: Path, number: int) -> bytes:
    """The page, read again while a server is just writing it."""
    for _ in range(_TORN_READS):
        page = os.pread(descriptor, PAGE_SIZE, number * PAGE_SIZE)
        if len(page) < PAGE_SIZE or is_whole(page, path.name, number):
            return page
    raise AssertionError(f"page {number} of {path} fails its checksum")

"""What has arrived of a file, told by the file itself: a hole has not, nor a page that is half a hole.

After the machine stopped, pages may also be there that the disk never got. Such a page reads as zeros or fails its
checksum, and is fetched once more. That is right for PostgreSQL: what its server wrote before its last checkpoint
was made durable by that checkpoint, and what it wrote after is in the WAL, whole (full_page_writes), so a page that
is lost is either as the snapshot has it, or about to be replaced.

Two kinds of files are exceptions. Free space maps are not logged at all; PostgreSQL takes any content of them, also
an old one. In visibility maps older releases clear bits without an image of the page in the WAL (visibilitymap_clear();
18.6 writes one): the snapshot's page would bring back bits that were cleared before the last checkpoint, and with them
hide changes of rows. A torn page of such a map becomes zeros, for good: that is always right, and what PostgreSQL makes
of it, too (vm_readbuf()). One that is zero on the disk never had anything else on it, and comes from the snapshot.
"""

import os
import re
from collections.abc import Iterator
from typing import Final

from stillframe.hydration.file import ArrivingFile
from stillframe.hydration.holes import punch_hole
from stillframe.hydration.pages import PAGE_SIZE, pages_in
from stillframe.hydration.source import PageCheck

_CHUNK: Final = 128 * PAGE_SIZE
_VISIBILITY_MAP: Final = re.compile(r"\d+_vm(\.\d+)?")


def note_arrived(file: ArrivingFile, descriptor: int) -> None:
    """Enter the pages that are allocated. Raises OSError."""
    for start, end in _allocated(descriptor, file.limit):
        last = len(file.pages) if end >= file.limit else end // PAGE_SIZE
        file.pages.arrived(pages_in(start), last)


def drop_damaged(file: ArrivingFile, descriptor: int, page_is_whole: PageCheck) -> None:
    """Make holes of pages that are there but zero or torn: the next look must not believe them.

    The file's limit ends where a page must not come from the snapshot again. Raises OSError, OperatorError.
    """
    # After a write that failed the pages are in memory still, and look as if the disk had them.
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    for start, end in list(_allocated(descriptor, file.limit)):
        for offset in range(start // PAGE_SIZE * PAGE_SIZE, end, _CHUNK):
            # Less when a page before has brought the limit down.
            length = min(_CHUNK, file.limit - offset)
            if length > 0:
                _drop_damaged(file, descriptor, offset, os.pread(descriptor, length, offset), page_is_whole)


def _drop_damaged(
    file: ArrivingFile, descriptor: int, offset: int, chunk: bytes, page_is_whole: PageCheck
) -> None:
    for at in range(0, len(chunk), PAGE_SIZE):
        number, page = (offset + at) // PAGE_SIZE, chunk[at : at + PAGE_SIZE]
        if any(page) and page_is_whole(file.path, number, page):
            continue
        if any(page) and _is_visibility_map(file.path):
            # First, so that the hole is not taken for a page that is still to come.
            file.retire(descriptor, number * PAGE_SIZE)
        punch_hole(descriptor, number * PAGE_SIZE, len(page))
        if number < len(file.pages):
            file.pages.lost(number)


def _is_visibility_map(path: str) -> bool:
    return _VISIBILITY_MAP.fullmatch(path.rpartition("/")[2]) is not None


def _allocated(descriptor: int, limit: int) -> Iterator[tuple[int, int]]:
    """The stretches below the limit that are no holes, as (start, end) in bytes; lseek(2), SEEK_DATA."""
    end = 0
    while end < limit:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:
            # ENXIO: nothing but a hole follows.
            return
        if start >= limit:
            return
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), limit)
        yield start, end

"""What has arrived of a file, told by the file itself: a hole has not, nor a page that is half a hole.

After the machine stopped, pages may also be there that the disk never got. Such a page reads as zeros or fails its
checksum, and is fetched once more. That is right for PostgreSQL: what its server wrote before its last checkpoint
was made durable by that checkpoint, and what it wrote after is in the WAL, whole (full_page_writes), so a page that
is lost is either as the snapshot has it, or about to be replaced. Free space maps are the exception, not logged at
all; PostgreSQL takes any content of them, also an old one.
"""

import os
from collections.abc import Iterator

from stillframe.hydration.file import ArrivingFile
from stillframe.hydration.holes import punch_hole
from stillframe.hydration.pages import PAGE_SIZE, pages_in
from stillframe.hydration.source import PageCheck

_CHUNK = 128 * PAGE_SIZE


def note_arrived(file: ArrivingFile, descriptor: int) -> None:
    """Enter the pages that are allocated. Raises OSError."""
    for start, end in _allocated(descriptor, file.limit):
        last = len(file.pages) if end >= file.limit else end // PAGE_SIZE
        file.pages.arrived(pages_in(start), last)


def drop_damaged(file: ArrivingFile, descriptor: int, page_is_whole: PageCheck) -> None:
    """Make holes of pages that are there but zero or torn: the next look must not believe them. Raises OSError."""
    # After a write that failed the pages are in memory still, and look as if the disk had them.
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    for start, end in list(_allocated(descriptor, file.limit)):
        for offset in range(start // PAGE_SIZE * PAGE_SIZE, end, _CHUNK):
            _drop_damaged(file, descriptor, offset, page_is_whole)


def _drop_damaged(file: ArrivingFile, descriptor: int, offset: int, page_is_whole: PageCheck) -> None:
    chunk = os.pread(descriptor, min(_CHUNK, file.limit - offset), offset)
    for at in range(0, len(chunk), PAGE_SIZE):
        number, page = (offset + at) // PAGE_SIZE, chunk[at : at + PAGE_SIZE]
        if not any(page) or not page_is_whole(file.path, number, page):
            punch_hole(descriptor, number * PAGE_SIZE, len(page))
            file.pages.lost(number)


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

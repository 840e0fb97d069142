"""One file that is arriving: its pages, its tag and the only code that writes into it.

Every change is made under the file's lock, the write included: a page is either still missing, or there with its
bytes, whoever looks. Nothing is fetched under it.
"""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from stillframe.hydration import tags
from stillframe.hydration.pages import PAGE_SIZE, PageMap, pages_in

Data = bytes | bytearray | memoryview
Identity = tuple[int, int]

_ZEROS = bytes(PAGE_SIZE)


class ArrivingFile:
    """`limit` is the length in bytes below which pages may be missing; it only ever shrinks.

    `path` is relative to the directory. `settling` counts truncations that were answered and have not been seen to
    take effect. `demand_end` is where the last access that had to wait ended, `window` what is fetched for the next.
    `wished`: it is asked for often.
    """

    __slots__ = (
        "_descriptor",
        "_lock",
        "_place",
        "deleted",
        "demand_end",
        "finished",
        "identity",
        "limit",
        "pages",
        "path",
        "settling",
        "window",
        "wished",
    )

    def __init__(self, path: str, place: str, *, descriptor: int, identity: Identity, limit: int) -> None:
        """Take `descriptor` over, which was opened before anybody marked the file at `place`."""
        self.path = path
        self._place = place
        self._descriptor: int | None = descriptor
        self._lock = threading.Lock()
        self.identity = identity
        self.limit = limit
        self.pages = PageMap(limit)
        self.settling = 0
        self.deleted = False
        self.finished = False
        self.demand_end = -1
        self.window = 0
        self.wished = False

    @property
    def complete(self) -> bool:
        """Whether every page below the limit is there."""
        return self.pages.missing == 0

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor for reading and writing. Raises FileNotFoundError when the path leads elsewhere now."""
        descriptor = self._copy()
        try:
            if identity_of(descriptor) != self.identity:
                raise FileNotFoundError(self.path)
            yield descriptor
        finally:
            os.close(descriptor)

    def missing(self, offset: int, count: int) -> list[tuple[int, int]]:
        """What has not arrived of these bytes, as (offset, length) of whole pages up to the limit."""
        first, last = offset // PAGE_SIZE, pages_in(offset + count)
        with self._lock:
            return [self._bytes(*run) for run in self.pages.missing_runs(first, last)]

    def fill(self, descriptor: int, offset: int, data: Data) -> int:
        """Write those pages of `data` that are still missing; how many bytes arrived by that. Raises OSError.

        `offset` begins a page, and `data` ends with one or at the limit. The file is never made longer.
        """
        return self.fill_parts(descriptor, [(offset, data)])

    def fill_parts(self, descriptor: int, parts: Iterable[tuple[int, Data]]) -> int:
        """As `fill`, for several parts of the file, each an offset and its bytes; what arrived of all of them."""
        with self._lock:
            self._forget_beyond(descriptor)
            return sum(self._fill(descriptor, offset, memoryview(data).cast("B")) for offset, data in parts)

    def retire(self, descriptor: int, length: int) -> int:
        """Forget what has not arrived beyond `length`, in the tag, too; how many bytes were missing there.

        Below it, the page in which `length` lies must have arrived. Raises OSError, OperatorError.
        """
        with self._lock:
            limit = length // PAGE_SIZE * PAGE_SIZE
            if limit >= self.limit or self.finished:
                return 0
            if limit < length:
                # The tag can not protect half a page: it has to be safe without.
                os.fdatasync(descriptor)
            if not self.deleted:
                tags.tag(descriptor, limit)
            return self._shrink(limit)

    def finish(self) -> None:
        """Make everything that arrived durable, then remove the tag. Raises OSError, OperatorError.

        Only for a file that is complete; a truncation that comes later needs no tag to be lowered.
        """
        with self.opened() as descriptor:
            os.fsync(descriptor)
            with self._lock:
                self.finished = True
                tags.untag(descriptor)

    @property
    def missing_bytes(self) -> int:
        """What has not arrived, in bytes."""
        with self._lock:
            return self._missing_bytes()

    def release(self) -> None:
        """Close what is held open."""
        with self._lock:
            kept, self._descriptor = self._descriptor, None
        if kept is not None:
            os.close(kept)

    def forsake_if_deleted(self) -> bool:
        """Give up a file without a name, so that its space comes back with its last user; whether it is one now.

        What a user that has it open still asks for is brought through the user's own event.
        """
        with self.opened() as descriptor:
            self.deleted = os.fstat(descriptor).st_nlink == 0
        if self.deleted:
            self.release()
        return self.deleted

    def settled(self, change: int) -> None:
        """Count a truncation that was answered (1), or took effect (-1)."""
        with self._lock:
            self.settling += change

    def _copy(self) -> int:
        # A copy of its own for every user: the number of a closed descriptor soon belongs to another file.
        with self._lock:
            if self._descriptor is not None:
                return os.dup(self._descriptor)
        late = os.open(self._place, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        if tags.limit_of(late) is None:
            # Another file, also if it got the number of the one that was here.
            os.close(late)
            raise FileNotFoundError(self.path)
        return late

    def _fill(self, descriptor: int, offset: int, view: memoryview) -> int:
        last = min((offset + len(view)) // PAGE_SIZE, len(self.pages))
        if offset + len(view) >= self.limit:
            last = len(self.pages)
        runs = list(self.pages.missing_runs(offset // PAGE_SIZE, last))
        return sum(self._write(descriptor, run, offset, view) for run in runs)

    def _write(self, descriptor: int, run: tuple[int, int], base: int, view: memoryview) -> int:
        start, length = self._bytes(*run)
        part = view[start - base : start - base + length]
        # What is zero in the snapshot is right already: a hole reads the same.
        if not _is_zero(part):
            _write_whole(descriptor, part, start)
        self.pages.arrived(*run)
        return length

    def _bytes(self, first: int, last: int) -> tuple[int, int]:
        start = first * PAGE_SIZE
        return start, min(last * PAGE_SIZE, self.limit) - start

    def _forget_beyond(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if size < self.limit and not self.finished:
            # Somebody shortened it without an event (open(2) with O_TRUNC raises none).
            tags.tag(descriptor, size)
            self._shrink(size)

    def _shrink(self, limit: int) -> int:
        before = self._missing_bytes()
        self.pages.retire(pages_in(limit))
        self.limit = limit
        return before - self._missing_bytes()

    def _missing_bytes(self) -> int:
        runs = self.pages.missing_runs(0, len(self.pages))
        return sum(length for _, length in (self._bytes(*run) for run in runs))


def identity_of(descriptor: int) -> Identity:
    """What tells an open file from every other. Raises OSError."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _is_zero(part: memoryview) -> bool:
    if any(part[:32]):
        # These nearly always tell.
        return False
    for at in range(0, len(part), PAGE_SIZE):
        page = bytes(part[at : at + PAGE_SIZE])
        if page != _ZEROS[: len(page)]:
            return False
    return True


def _write_whole(descriptor: int, part: memoryview, offset: int) -> None:
    while part:
        written = os.pwrite(descriptor, part, offset)
        part, offset = part[written:], offset + written

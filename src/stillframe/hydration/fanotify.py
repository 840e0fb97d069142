"""Pre-content events of fanotify (fanotify(7), fanotify_init(2), fanotify_mark(2)): the only home of these calls.

Seen on Linux 6.18 and relied on: the range of an event is widened to whole 4 KiB; truncate and ftruncate raise an
event before they take effect, whose range begins at the new length; a descriptor that was opened before its file
was marked raises none; an access waits in a killable state for as long as one copy of the group's descriptor is
open anywhere, also when the process that had read its event is dead.
"""

import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from stillframe.hydration.failures import translating_os_errors

_CLOEXEC = 0x00000001
_NONBLOCK = 0x00000002
_CLASS_PRE_CONTENT = 0x00000008
_UNLIMITED_QUEUE = 0x00000010
_UNLIMITED_MARKS = 0x00000020
_REPORT_TID = 0x00000100
_FLAGS = _CLOEXEC | _NONBLOCK | _CLASS_PRE_CONTENT | _UNLIMITED_QUEUE | _UNLIMITED_MARKS | _REPORT_TID
_MARK_ADD = 0x00000001
_MARK_REMOVE = 0x00000002
_MARK_FLUSH = 0x00000080
_PRE_ACCESS = 0x00100000
_RANGE = 6
_AT_FDCWD = -100
_ALLOW = 1

# struct fanotify_event_metadata, fanotify_event_info_range, fanotify_response
_EVENT = struct.Struct("=IBBHQii")
_INFO = struct.Struct("=BBH")
_INFO_RANGE = struct.Struct("=BBHIQQ")
_RESPONSE = struct.Struct("=iI")
_READ_BYTES: Final = 48 * 64


@dataclass(slots=True, kw_only=True)
class Event:
    """An access that waits. `descriptor` is open on its file for reading and writing, until the answer.

    `offset` and `count` are bytes, whole 4 KiB; `thread` is the one that waits.
    """

    descriptor: int
    thread: int
    offset: int
    count: int


class Group:
    """A notification group; when the last copy of its descriptor is closed, every waiting access goes on."""

    def __init__(self) -> None:
        """Raises PermissionMissing without CAP_SYS_ADMIN, OperatorError where the kernel knows no such groups."""
        with translating_os_errors("Making a fanotify group"):
            self.descriptor = _checked(
                _libc().fanotify_init(_FLAGS, os.O_RDWR | os.O_LARGEFILE | os.O_CLOEXEC)
            )

    def mark(self, descriptor: int) -> None:
        """Hold accesses through descriptors that are opened from now on. Raises OSError."""
        _checked(_libc().fanotify_mark(self.descriptor, _MARK_ADD, _PRE_ACCESS, descriptor, None))

    def unmark(self, descriptor: int) -> None:
        """Hold no more accesses of this file. Raises OSError."""
        _checked(_libc().fanotify_mark(self.descriptor, _MARK_REMOVE, _PRE_ACCESS, descriptor, None))

    def flush(self) -> None:
        """Hold no accesses of any file. Raises OperatorError."""
        with translating_os_errors("Removing the marks of all files"):
            _checked(_libc().fanotify_mark(self.descriptor, _MARK_FLUSH, 0, _AT_FDCWD, None))

    def events(self) -> list[Event]:
        """The accesses that wait and were not seen yet, some of them; empty when there are none. Raises OSError."""
        try:
            return list(_parsed(os.read(self.descriptor, _READ_BYTES)))
        except BlockingIOError:
            return []

    def allow(self, event: Event) -> None:
        """Let the access go on, and close the event's descriptor. Raises OSError if it waits no more."""
        try:
            os.write(self.descriptor, _RESPONSE.pack(event.descriptor, _ALLOW))
        finally:
            os.close(event.descriptor)

    def close(self) -> None:
        """Give this copy of the descriptor up."""
        os.close(self.descriptor)


def _parsed(read: bytes) -> Iterator[Event]:
    start = 0
    while start < len(read):
        length, _version, _, header, _mask, descriptor, thread = _EVENT.unpack_from(read, start)
        offset, count = _range(read, start + header, start + length)
        yield Event(descriptor=descriptor, thread=thread, offset=offset, count=count)
        start += length


def _range(read: bytes, start: int, end: int) -> tuple[int, int]:
    while start < end:
        kind, _, length = _INFO.unpack_from(read, start)
        if kind == _RANGE:
            _, _, _, _, offset, count = _INFO_RANGE.unpack_from(read, start)
            return offset, count
        start += length
    # An access whose place is not told may be anywhere.
    return 0, 1 << 62


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.fanotify_init.argtypes = [ctypes.c_uint, ctypes.c_uint]
    library.fanotify_mark.argtypes = [
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint64,
        ctypes.c_int,
        ctypes.c_char_p,
    ]
    return library

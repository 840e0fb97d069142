"""Pages that somebody is about to write as a whole: what they had before need not be fetched.

Recovery does little else. The images of pages in the WAL of a snapshot replace what the snapshot's files have, unread,
and an event does not tell a write from a read. So the waiting thread is asked; the page it writes is taken out of its
memory, and is in the file before the write goes on. Nobody else ever finds a page that is neither old nor new.
"""

import ctypes
import os
from functools import cache

from stillframe.hydration.calls import Call, call_of
from stillframe.hydration.fanotify import Event
from stillframe.hydration.file import identity_of
from stillframe.hydration.pages import PAGE_SIZE


class _Stretch(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("address", ctypes.c_void_p), ("length", ctypes.c_size_t))


def page_being_written(event: Event, *, patiently: bool) -> bytes | None:
    """The one page that the waiting thread writes as a whole; None if it does anything else, or cannot be asked.

    Never a page of zeros: in a file it could not be told from one that has not arrived. `patiently` as in `call_of`.
    """
    if event.count != PAGE_SIZE or event.offset % PAGE_SIZE:
        return None
    call = call_of(event.thread, patiently=patiently)
    if not isinstance(call, Call) or call.name != "pwrite64":
        return None
    descriptor, address, count, offset, *_ = call.arguments
    if (count, offset) != (PAGE_SIZE, event.offset) or not _is_open_as(event, descriptor):
        return None
    page = _read_memory(event.thread, address)
    return page if page is not None and any(page) else None


def _is_open_as(event: Event, descriptor: int) -> bool:
    """Whether the thread has that file open as this descriptor: its number may have passed to a thread elsewhere."""
    try:
        status = os.stat(f"/proc/{event.thread}/fd/{descriptor}")  # noqa: PTH116 - somebody waits
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == identity_of(event.descriptor)


def _read_memory(thread: int, address: int) -> bytes | None:
    """One page at this address of the thread's process (process_vm_readv(2)); None if it is gone or does not let us."""
    page = ctypes.create_string_buffer(PAGE_SIZE)
    here = _Stretch(ctypes.addressof(page), PAGE_SIZE)
    there = _Stretch(address, PAGE_SIZE)
    read = _libc().process_vm_readv(thread, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    return page.raw if read == PAGE_SIZE else None


@cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.process_vm_readv.restype = ctypes.c_ssize_t
    library.process_vm_readv.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_ulong,
        ctypes.c_void_p,
        ctypes.c_ulong,
        ctypes.c_ulong,
    ]
    return library

"""syncfs(2), sync_file_range(2) and cachestat(2), which Python does not offer."""

import ctypes
import mmap
import os
import sys
from functools import cache
from pathlib import Path
from typing import Final

from stillframe.hydration.failures import translating_os_errors

_WRITE: Final = 2
_WRITE_AND_WAIT: Final = 7
"""SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER."""
_CACHESTAT: Final = 451
"""The number of the call, the same on every architecture (cachestat(2), Linux 6.5)."""


def write_out(descriptor: int, offset: int, length: int, *, wait: bool) -> None:
    """Have these bytes of a file written to the disk from now on, or until this returns; nothing is durable by that.

    Raises OSError; a write that fails is told to whoever makes the file durable, too.
    """
    if _libc().sync_file_range(descriptor, offset, length, _WRITE_AND_WAIT if wait else _WRITE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class _Range(ctypes.Structure):
    """struct cachestat_range."""

    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Cached(ctypes.Structure):
    """struct cachestat."""

    _fields_ = tuple(
        (name, ctypes.c_uint64) for name in ("cached", "dirty", "written", "evicted", "recently_evicted")
    )


def is_in_memory(descriptor: int, offset: int, length: int) -> bool:
    """Whether all of these bytes of a file can be read without the disk, a hole not among them.

    Yes where the kernel does not tell, which is elsewhere, before Linux 6.5, and for files of somebody else.
    """
    if sys.platform != "linux":
        return True
    asked, found = _Range(offset, length), _Cached()
    if _libc().syscall(_CACHESTAT, descriptor, ctypes.byref(asked), ctypes.byref(found), 0) != 0:
        return True
    first, last = offset // mmap.PAGESIZE, -(-(offset + length) // mmap.PAGESIZE)
    return int(found.cached) >= last - first


def sync_file_system(directory: Path) -> None:
    """Make everything durable that was written to the file system of this directory: many new files by one call.

    Raises OperatorError and its kinds when that fails, as Linux reports a failed write of any file there once
    (syncfs(2)).
    """
    with translating_os_errors(f"Making the file system of {directory} durable"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _libc().syncfs(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(descriptor)


@cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return library

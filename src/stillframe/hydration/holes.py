"""Giving a stretch of a file back to the file system (fallocate(2)), which Python does not offer."""

import ctypes
import os
from functools import cache
from typing import Final

_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02


def punch_hole(descriptor: int, offset: int, length: int) -> None:
    """Make a hole of these bytes; the file keeps its length. Raises OSError."""
    result = _libc().fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, length)
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return library

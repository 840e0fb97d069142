"""syncfs(2), which Python does not offer: many new files made durable by one call."""

import ctypes
import os
from pathlib import Path

from stillframe.errors import OperatorError

_libc = ctypes.CDLL(None, use_errno=True)


def sync_file_system(directory: Path) -> None:
    """Make everything durable that was written to the file system of this directory.

    Raises OperatorError when that fails, as Linux reports a failed write of any file there once (syncfs(2)).
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise OperatorError(f"The file system of {directory} could not be made durable: {reason}")
    finally:
        os.close(descriptor)

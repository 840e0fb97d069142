"""syncfs(2), which Python does not offer: many new files made durable by one call."""

import ctypes
import os
from functools import cache
from pathlib import Path

from stillframe.hydration.failures import translating_os_errors


def sync_file_system(directory: Path) -> None:
    """Make everything durable that was written to the file system of this directory.

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
    return ctypes.CDLL(None, use_errno=True)

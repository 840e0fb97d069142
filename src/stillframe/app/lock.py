"""Locks that the operating system gives back when their process ends, however it ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stillframe.errors import DataDirectoryInUse

_PAUSE = 0.02


@contextmanager
def held_lock(path: Path, *, patience: float, message: str, hint: str | None = None) -> Iterator[None]:
    """Hold the lock for the length of the block, waiting up to `patience` seconds for it.

    Raises DataDirectoryInUse with `message` when another process keeps it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _lock(descriptor, until=time.monotonic() + patience):
            raise DataDirectoryInUse(message, hint=hint)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, until: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_PAUSE)
        else:
            return True

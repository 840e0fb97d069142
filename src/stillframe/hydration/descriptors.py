"""Descriptors: one for every file that is arriving."""

import fcntl
import os
import resource
from typing import Final

RESERVED: Final = 1024
"""Kept free for events: the kernel denies an access when it can not open its file for us."""
_BEFOREHAND: Final = 1 << 14


def prepare_descriptors() -> None:
    """Let this process have as many descriptors as the system allows, and have the table for thousands made now.

    To be called before there are threads. A table that threads share grows only when no processor can be looking at
    the old one any more (Linux: expand_fdtable()), some ten milliseconds each of the five times that it doubles for a
    thousand files.
    """
    hard = _allow_all()
    # Whatever can be opened will do: its copy gets the highest number that is wanted.
    copied = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        os.close(fcntl.fcntl(copied, fcntl.F_DUPFD_CLOEXEC, min(hard, _BEFOREHAND) - 1))
    finally:
        os.close(copied)


def free_descriptors() -> int:
    """How many files may be held open: all that the system allows, less a reserve."""
    hard = _allow_all()
    taken = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough, and many
    return max(0, hard - taken - max(RESERVED, hard // 8))


def _allow_all() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard

"""Telling a truncation from other accesses: an event says only where, and the kernel widens that to 4 KiB.

A truncation's range is empty, or the one 4 KiB block in which the new length lies. Short reads look the same, so the
waiting thread is asked which system call it is in (proc_pid_syscall(5)).
"""

import platform
import time
from functools import cache
from pathlib import Path
from typing import Final

_BLOCK: Final = 4096
_LOOKS: Final = 100
_LOOK_SECONDS: Final = 0.001
_RUNNING: Final = "running"
_UNTOLD: Final = "untold"
# The numbers of truncate(2) and ftruncate(2).
_TRUNCATE = {"x86_64": frozenset({76, 77}), "aarch64": frozenset({45, 46})}


class UnknownCall:
    """The thread would not tell, or may not be asked."""


UNKNOWN: Final = UnknownCall()


def may_truncate(count: int) -> bool:
    """Whether an event with a range of `count` bytes may be a truncation."""
    return count <= _BLOCK


def new_length(thread: int) -> int | UnknownCall | None:
    """The length that the waiting thread truncates a file to; None if it does something else, or lives no more."""
    for _ in range(_LOOKS):
        words = _call(thread)
        # It has raised its event and is about to fall asleep.
        if words != [_RUNNING]:
            return None if words == [] else _length_in(words)
        time.sleep(_LOOK_SECONDS)
    return UNKNOWN


def _length_in(words: list[str]) -> int | UnknownCall | None:
    numbers = _TRUNCATE.get(_machine())
    if numbers is None or len(words) < 3:
        return UNKNOWN
    return int(words[2], 16) if int(words[0]) in numbers else None


def _call(thread: int) -> list[str]:
    """The words of the thread's system call; none at all when it is gone."""
    if thread <= 0:
        return [_UNTOLD]
    try:
        return Path(f"/proc/{thread}/syscall").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    except OSError:
        return [_UNTOLD]


@cache
def _machine() -> str:
    return platform.machine()

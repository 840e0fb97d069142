"""Which system call a thread waits in, and with what arguments (proc_pid_syscall(5)).

The events of fanotify tell neither whether somebody reads or writes, nor that a file is about to be truncated.
"""

import os
import platform
import time
from dataclasses import dataclass
from functools import cache
from typing import Final

_RUNNING: Final = "running"
_UNTOLD: Final = "untold"
_ARGUMENTS: Final = 6
_OUTSIDE: Final = 3
"""Words about a thread that waits outside of any call: -1 and two pointers."""
_MOST_TEXT: Final = 512
_QUICK_LOOKS: Final = 20
_PATIENT_LOOKS: Final = 100
_LOOK_SECONDS: Final = 0.001
_NAMES: Final = {
    "x86_64": {18: "pwrite64", 76: "truncate", 77: "ftruncate"},
    "aarch64": {68: "pwrite64", 45: "truncate", 46: "ftruncate"},
}


@dataclass(frozen=True, slots=True)
class Call:
    """A system call: its name, "" for one that nobody asks about here, and its arguments as they are in registers."""

    name: str
    arguments: tuple[int, ...]


class UnknownCall:
    """The thread would not tell, or may not be asked."""


UNKNOWN: Final = UnknownCall()


def call_of(thread: int, *, patiently: bool = True) -> Call | UnknownCall | None:
    """The call in which a thread waits; None for one that waits in none, or lives no more.

    A thread that has just raised its event may still be about to fall asleep: it is asked again for a tenth of a
    second, or only as often as takes no time worth mentioning.
    """
    for _ in range(_PATIENT_LOOKS if patiently else _QUICK_LOOKS):
        words = _words(thread)
        if words != [_RUNNING]:
            return None if words == [] else _parsed(words)
        time.sleep(_LOOK_SECONDS if patiently else 0)
    return UNKNOWN


def _parsed(words: list[str]) -> Call | UnknownCall | None:
    names = _NAMES.get(_machine())
    if names is None or len(words) < _OUTSIDE:
        return UNKNOWN
    if len(words) == _OUTSIDE:
        return None
    return Call(names.get(int(words[0]), ""), tuple(int(word, 16) for word in words[1 : _ARGUMENTS + 1]))


def _words(thread: int) -> list[str]:
    """What the kernel says; nothing at all of a thread that is gone."""
    if thread <= 0:
        return [_UNTOLD]
    try:
        # Not a Path: that takes four times as long, while somebody waits.
        descriptor = os.open(f"/proc/{thread}/syscall", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, _MOST_TEXT).decode().split()
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        return []
    except OSError:
        return [_UNTOLD]


@cache
def _machine() -> str:
    return platform.machine()

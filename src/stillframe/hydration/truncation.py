"""Telling a truncation from other accesses: an event says only where, and the kernel widens that to 4 KiB.

A truncation's range is empty, or the one 4 KiB block in which the new length lies. Short reads look the same, so the
waiting thread is asked which system call it is in.
"""

from typing import Final

from stillframe.hydration.calls import UnknownCall, call_of

_BLOCK: Final = 4096


def may_truncate(count: int) -> bool:
    """Whether an event with a range of `count` bytes may be a truncation."""
    return count <= _BLOCK


def new_length(thread: int) -> int | UnknownCall | None:
    """The length that the waiting thread truncates a file to; None if it does something else, or lives no more."""
    call = call_of(thread)
    if call is None or isinstance(call, UnknownCall):
        return call
    return call.arguments[1] if call.name in {"truncate", "ftruncate"} else None

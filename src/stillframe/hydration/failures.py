"""What the operating system's refusals mean for files that are arriving."""

from contextlib import AbstractContextManager
from typing import Final

from stillframe import system
from stillframe.errors import StillframeError

_ADVICE: Final = system.Advice(
    "Free some space on that file system; the arrival goes on by itself.",
    "Hydration needs CAP_SYS_ADMIN and the files of its directory.",
)


def os_error(error: OSError, doing: str) -> StillframeError:
    """The error of ours that says the same as `error`, which happened while `doing` (a gerund phrase)."""
    return system.os_error(error, doing, _ADVICE)


def translating_os_errors(doing: str) -> AbstractContextManager[None]:
    """Turn an OSError of the block into the matching error of ours."""
    return system.translating_os_errors(doing, _ADVICE)

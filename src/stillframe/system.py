"""What the operating system's refusals mean, for every layer."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from stillframe.errors import DiskFull, OperatorError, PermissionMissing, StillframeError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


class Advice(NamedTuple):
    """What to do when there is no space, or no permission."""

    when_full: str
    when_refused: str


_ADVICE = Advice(
    "Free some space on that file system, or move the data directory.",
    "Check the owner and mode of the path and its parents.",
)


def says_full(error: OSError) -> bool:
    """Whether it is that no space is left, of the file system or of a quota."""
    return error.errno in _NO_SPACE


def says_refused(error: OSError) -> bool:
    """Whether it is that we may not."""
    return error.errno in _REFUSED


def reason_of(error: OSError) -> str:
    """The operating system's words for it."""
    return os.strerror(error.errno) if error.errno else str(error) or "unknown error"


def os_error(error: OSError, doing: str, advice: Advice = _ADVICE) -> StillframeError:
    """The error of ours that says the same as `error`, which happened while `doing` (a gerund phrase)."""
    where = f" ({error.filename})" if error.filename else ""
    message = f"{doing} failed: {reason_of(error)}{where}"
    if says_full(error):
        return DiskFull(message, hint=advice.when_full)
    if says_refused(error):
        return PermissionMissing(message, hint=advice.when_refused)
    return OperatorError(message)


@contextmanager
def translating_os_errors(doing: str, advice: Advice = _ADVICE) -> Iterator[None]:
    """Turn an OSError of the block into the matching error of ours."""
    try:
        yield
    except OSError as error:
        raise os_error(error, doing, advice) from error

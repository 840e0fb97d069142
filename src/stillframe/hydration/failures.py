"""What the operating system's refusals mean for files that are arriving."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from stillframe.errors import DiskFull, OperatorError, PermissionMissing, StillframeError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def os_error(error: OSError, doing: str) -> StillframeError:
    """The error of ours that says the same as `error`, which happened while `doing` (a gerund phrase)."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    message = f"{doing} failed: {reason}"
    if error.errno in _NO_SPACE:
        return DiskFull(message, hint="Free some space on that file system; the arrival goes on by itself.")
    if error.errno in _REFUSED:
        return PermissionMissing(
            message, hint="Hydration needs CAP_SYS_ADMIN and the files of its directory."
        )
    return OperatorError(message)


@contextmanager
def translating_os_errors(doing: str) -> Iterator[None]:
    """Turn an OSError of the block into the matching error of ours."""
    try:
        yield
    except OSError as error:
        raise os_error(error, doing) from error

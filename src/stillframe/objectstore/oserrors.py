"""What the operating system's errors mean for a store that keeps files."""

import errno
import os
from typing import NoReturn

from stillframe.errors import DiskFull, PermissionMissing, StoreUnavailable

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}


def translate_os_error(error: OSError, what: str) -> NoReturn:
    """Raise DiskFull, PermissionMissing or StoreUnavailable for an error met at `what`."""
    reason = os.strerror(error.errno) if error.errno else "unknown error"
    if error.errno in _NO_SPACE:
        raise DiskFull(
            f"No space is left for {what}.", hint="Free space on the file system of the object store."
        ) from error
    if error.errno in _NO_ACCESS:
        raise PermissionMissing(
            f"The operating system refused access to {what}: {reason}.",
            hint="The directory of the object store must belong to the user of the service.",
        ) from error
    raise StoreUnavailable(f"{what} could not be reached: {reason}.") from error

"""What the operating system's errors mean for a store that keeps files."""

from typing import NoReturn

from stillframe.errors import DiskFull, PermissionMissing, StoreUnavailable
from stillframe.system import reason_of, says_full, says_refused


def translate_os_error(error: OSError, what: str) -> NoReturn:
    """Raise DiskFull, PermissionMissing or StoreUnavailable for an error met at `what`."""
    if says_full(error):
        raise DiskFull(
            f"No space is left for {what}.", hint="Free space on the file system of the object store."
        ) from error
    if says_refused(error):
        raise PermissionMissing(
            f"The operating system refused access to {what}: {reason_of(error)}.",
            hint="The directory of the object store must belong to the user of the service.",
        ) from error
    raise StoreUnavailable(f"{what} could not be reached: {reason_of(error)}.") from error

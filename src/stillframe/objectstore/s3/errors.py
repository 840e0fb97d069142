"""What the driver's errors mean. The driver has few classes, so HTTP's status and S3's code are read from its text.

The text itself stays out of our messages: an answer may repeat what was sent.
"""

import re
from dataclasses import dataclass
from typing import NoReturn, Self

from obstore.exceptions import BaseError

from stillframe.errors import DiskFull, PermissionMissing, StoreUnavailable

DRIVER_ERRORS = (BaseError, OSError, ValueError)
"""All that a call of the driver raises; an OSError is mostly FileNotFoundError, for HTTP's 404."""

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_DETAILS = "\n\nDebug source:"

_FULL = {
    "QuotaExceeded", "QuotaExceededException", "StorageFull", "InsufficientStorage", "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
}  # fmt: skip
_REFUSED = {401, 403}
_INSUFFICIENT_STORAGE = 507


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the store answered: HTTP's status and S3's code of the error, None where there was none."""

    status: int | None
    code: str | None

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Read from the text of an error of the driver."""
        text = str(error).partition(_DETAILS)[0]
        status, code = _STATUS.search(text), _CODE.search(text)
        return cls(status=int(status[1]) if status else None, code=code[1] if code else None)

    def __str__(self) -> str:
        if self.status is None:
            return "there was no answer, or not a complete one"
        return f"HTTP status {self.status}{f', {self.code}' if self.code else ''}"


def translate(error: Exception, what: str) -> NoReturn:
    """Raise DiskFull, PermissionMissing or StoreUnavailable for an error of the driver met at `what`."""
    answer = Answer.of(error)
    if answer.status == _INSUFFICIENT_STORAGE or answer.code in _FULL:
        raise DiskFull(
            f"The object store has no space left for {what} ({answer}).",
            hint="Give the bucket more room, or delete snapshots.",
        ) from error
    if answer.status in _REFUSED:
        raise PermissionMissing(
            f"The object store refused access to {what} ({answer}).",
            hint="Check the repository's credentials, what they may do, and this machine's clock.",
        ) from error
    if answer.code == "NoSuchBucket":
        raise StoreUnavailable(
            f"The bucket of {what} is not there.", hint="Check repository_url and the endpoint."
        ) from error
    raise StoreUnavailable(f"{what} could not be reached: {answer}.") from error

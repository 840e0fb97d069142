"""Every error Stillframe raises on purpose, grouped by what a handler would do about it.

The message states a fact. Advice for the reader goes into `hint`. `kind` is stable: programs may rely on it,
logs and metrics are labelled with it. Driver errors are translated where the driver lives, so nothing above a
driver's home catches anything but these.
"""

from typing import ClassVar


class StillframeError(Exception):
    """The root. `facts` are the values a log line or a JSON answer shows beside the message; never a secret."""

    kind: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = facts


# --- The caller has to change the request -------------------------------------------------------------------


class RequestError(StillframeError):
    """The request cannot be carried out as it was made; repeating it unchanged is pointless."""

    kind = "request"


class InvalidRequest(RequestError):
    """A value is malformed, out of range, or does not go with another one."""

    kind = "invalid_request"


class NotFound(RequestError):
    """The named thing does not exist for this caller."""

    kind = "not_found"

    def __init__(self, message: str, *, resource_name: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, resource_name=resource_name)
        self.resource_name = resource_name


class TooManyTags(RequestError):
    """A resource would carry more tags than it may."""

    kind = "too_many_tags"

    def __init__(self, message: str, *, resource_name: str) -> None:
        super().__init__(message, resource_name=resource_name)
        self.resource_name = resource_name


class QuotaExceeded(RequestError):
    """A configured quota would be exceeded."""

    kind = "quota_exceeded"


class AccessDenied(RequestError):
    """The caller is known but may not do this."""

    kind = "access_denied"


# --- The caller may repeat the request later ----------------------------------------------------------------


class RetryLater(StillframeError):
    """Nothing is wrong with the request, but it cannot be served at this moment."""

    kind = "retry_later"


class Conflict(RetryLater):
    """The resource is in a state, or busy with another operation, that excludes this one."""

    kind = "conflict"


class StoreUnavailable(RetryLater):
    """The object store did not answer, or answered with a passing error."""

    kind = "store_unavailable"


class ServerUnavailable(RetryLater):
    """A PostgreSQL server did not start, did not answer, or went away."""

    kind = "server_unavailable"


class CatalogUnavailable(RetryLater):
    """The catalog database did not answer."""

    kind = "catalog_unavailable"


class KeyManagementUnavailable(RetryLater):
    """The key-management service did not answer, or answered with a passing error."""

    kind = "key_management_unavailable"


# --- The operator of this machine has to act ----------------------------------------------------------------


class OperatorError(StillframeError):
    """The machine or its configuration prevents the work; `hint` says what to change."""

    kind = "operator"


class DiskFull(OperatorError):
    """A file system has no space (or no inodes, or no quota) left."""

    kind = "disk_full"


class PermissionMissing(OperatorError):
    """The operating system refused an access that the work needs."""

    kind = "permission_missing"


class DataDirectoryInUse(OperatorError):
    """Another service already runs on this data directory."""

    kind = "data_directory_in_use"


class Unsupported(OperatorError):
    """This machine, PostgreSQL build or namespace has a property the work cannot deal with."""

    kind = "unsupported"


class ConfigurationInvalid(OperatorError):
    """A setting is missing or contradicts another one."""

    kind = "configuration_invalid"


class KeyUnavailable(OperatorError):
    """A key that data is encrypted under is missing, disabled or not accessible."""

    kind = "key_unavailable"


# --- Data is not what it was ---------------------------------------------------------------------------------


class DataError(StillframeError):
    """Stored or source data is wrong. Never retried, never papered over."""

    kind = "data"


class ObjectMissing(DataError):
    """An object that must exist is not in the store (which did answer)."""

    kind = "object_missing"


class StoredDataCorrupt(DataError):
    """Stored bytes fail authentication, decode to something else, or contradict what refers to them."""

    kind = "stored_data_corrupt"


class SourceDataCorrupt(DataError):
    """The live cluster's files are damaged: checksum mismatch, missing WAL, invalid control file."""

    kind = "source_data_corrupt"


class FormatUnknown(DataError):
    """A stored document has a version or kind this release does not know."""

    kind = "format_unknown"


# --- The rest -----------------------------------------------------------------------------------------------


class Cancelled(StillframeError):
    """The work was stopped because somebody asked for it."""

    kind = "cancelled"


class NotBuilt(StillframeError):
    """A part of the product that does not exist yet, said plainly."""

    kind = "not_built"


class InternalError(StillframeError):
    """An invariant of ours does not hold: a bug."""

    kind = "internal"

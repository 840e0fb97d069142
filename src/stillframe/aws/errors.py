"""The one table between our errors and those of the API.

Statuses and names are those of the service model and of the API reference's page on common errors. A failure
that is not the caller's is answered without any of its details; the request id leads to the log.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar

from stillframe.errors import RequestError, StillframeError


class ProtocolCode(StrEnum):
    """What can be wrong with a request before any operation looks at it."""

    SERIALIZATION = "SerializationException"
    UNKNOWN_OPERATION = "UnknownOperationException"
    MISSING_AUTHENTICATION = "MissingAuthenticationTokenException"
    INCOMPLETE_SIGNATURE = "IncompleteSignatureException"
    UNRECOGNIZED_CLIENT = "UnrecognizedClientException"
    INVALID_SIGNATURE = "InvalidSignatureException"
    EXPIRED_TOKEN = "ExpiredTokenException"  # noqa: S105 - the name of an error
    MALFORMED_HTTP = "MalformedHttpRequestException"
    TOO_LARGE = "RequestEntityTooLarge"
    TIMEOUT = "RequestTimeout"
    UNAVAILABLE = "ServiceUnavailable"
    VALIDATION = "ValidationException"


_PROTOCOL_STATUS: Mapping[ProtocolCode, int] = MappingProxyType(
    {
        ProtocolCode.SERIALIZATION: 400,
        ProtocolCode.UNKNOWN_OPERATION: 404,
        ProtocolCode.MISSING_AUTHENTICATION: 403,
        ProtocolCode.INCOMPLETE_SIGNATURE: 403,
        ProtocolCode.UNRECOGNIZED_CLIENT: 403,
        ProtocolCode.INVALID_SIGNATURE: 403,
        ProtocolCode.EXPIRED_TOKEN: 403,
        ProtocolCode.MALFORMED_HTTP: 400,
        ProtocolCode.TOO_LARGE: 413,
        ProtocolCode.TIMEOUT: 408,
        ProtocolCode.UNAVAILABLE: 503,
        ProtocolCode.VALIDATION: 400,
    }
)


class ProtocolError(RequestError):
    """The request never reached an operation: it is malformed, unsigned, too large, or names nothing."""

    kind: ClassVar[str] = "protocol"

    def __init__(self, code: ProtocolCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class WireError:
    """An error as the client sees it. `members` stand beside the message in the body."""

    code: str
    status: int
    message: str
    members: Mapping[str, str] = field(default_factory=dict)


INTERNAL = "InternalServerException"

# kind -> name and status. A kind that is not here takes that of the class it is derived from.
_NAMES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "request": ("ValidationException", 400),
        "invalid_request": ("ValidationException", 400),
        "not_found": ("ResourceNotFoundException", 400),
        "too_many_tags": ("TooManyTagsException", 400),
        "quota_exceeded": ("ServiceQuotaExceededException", 400),
        "conflict": ("ConflictException", 400),
        "access_denied": ("AccessDeniedException", 403),
        # What AWS answers for a key that the caller named, or whose snapshot the caller names.
        "key_unavailable": ("ValidationException", 400),
        "invalid_pagination": ("InvalidPaginationException", 400),
        "not_built": ("UnknownOperationException", 404),
        "error": (INTERNAL, 500),
    }
)


def to_wire(error: Exception, *, request_id: str, modelled: frozenset[str] = frozenset()) -> WireError:
    """The error as the API words it; `modelled` are the names that the operation's model lists.

    Every exception has an answer: what is not in the table becomes InternalServerException, without its text.
    """
    if isinstance(error, ProtocolError):
        return WireError(code=str(error.code), status=_PROTOCOL_STATUS[error.code], message=error.message)
    code, status = _name(error)
    if code == INTERNAL or not isinstance(error, StillframeError):
        return internal_error(request_id)
    code, status = _as_modelled(code, status, modelled)
    return WireError(code=code, status=status, message=_text(error), members=_members(error))


def internal_error(request_id: str) -> WireError:
    """A failure of ours: nothing but the id under which the log has the rest."""
    message = f"The request could not be carried out because of an internal error. Request id: {request_id}"
    return WireError(code=INTERNAL, status=500, message=message)


def _name(error: Exception) -> tuple[str, int]:
    for cls in type(error).__mro__:
        kind = cls.__dict__.get("kind")
        if isinstance(kind, str) and kind in _NAMES:
            return _NAMES[kind]
    return INTERNAL, 500


def _as_modelled(code: str, status: int, modelled: frozenset[str]) -> tuple[str, int]:
    if code == "InvalidPaginationException" and code not in modelled:
        # Half of the list operations have no such error; strict clients know only the modelled ones.
        return "ValidationException", status
    if code == "AccessDeniedException" and code in modelled:
        # 403 is its status among the common errors, 400 where an operation models it.
        return code, 400
    return code, status


def _text(error: StillframeError) -> str:
    if not error.hint:
        return error.message
    stop = "" if error.message.endswith((".", "!", "?")) else "."
    return f"{error.message}{stop} {error.hint}"


def _members(error: StillframeError) -> Mapping[str, str]:
    resource_name = getattr(error, "resource_name", None)
    return {"resourceName": resource_name} if isinstance(resource_name, str) else {}

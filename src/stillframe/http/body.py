"""Reading a request's body without trusting its length or its pace."""

from dataclasses import dataclass

import anyio
from starlette.requests import ClientDisconnect, Request

from stillframe.aws.errors import ProtocolCode, ProtocolError

# A client that is still sending does not read: it gets to see the refusal only if the rest is taken in.
_MOST_DISCARDED = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """The greatest length in bytes, and the seconds until the last of them must have come."""

    length: int = 1024 * 1024
    seconds: float = 20.0


async def read_body(request: Request, limits: BodyLimits) -> bytes:
    """The whole body; never keeps more than `limits.length` bytes of it.

    Raises a ProtocolError: RequestEntityTooLarge, RequestTimeout, or MalformedHttpRequestException when the
    client went away.
    """
    if _refused_in_advance(request, limits):
        raise too_large(limits)
    try:
        with anyio.fail_after(limits.seconds):
            return await _collect(request, limits)
    except TimeoutError:
        raise ProtocolError(
            ProtocolCode.TIMEOUT, f"The request body did not arrive within {limits.seconds:g} seconds."
        ) from None
    except ClientDisconnect:
        raise ProtocolError(ProtocolCode.MALFORMED_HTTP, "The connection ended within the request.") from None


def too_large(limits: BodyLimits) -> ProtocolError:
    """The refusal of a body beyond the limit."""
    return ProtocolError(ProtocolCode.TOO_LARGE, f"The request body is larger than {limits.length} bytes.")


def _refused_in_advance(request: Request, limits: BodyLimits) -> bool:
    # A client that asks first (Expect: 100-continue) need not be made to send what will be refused.
    declared = request.headers.get("content-length", "")
    asks = request.headers.get("expect", "").lower() == "100-continue"
    return asks and declared.isascii() and declared.isdigit() and int(declared[:20]) > limits.length


async def _collect(request: Request, limits: BodyLimits) -> bytes:
    kept = bytearray()
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received <= limits.length:
            kept += chunk
        elif received > limits.length + _MOST_DISCARDED:
            break
    if received > limits.length:
        raise too_large(limits)
    return bytes(kept)

"""What goes over the control socket: one line of JSON each way."""

from typing import Literal

import msgspec

from stillframe.errors import InvalidRequest

LONGEST_LINE = 1 << 14
DO_STATUS = "status"
DO_DESCRIPTOR = "descriptor"
DO_BACKGROUND = "background"
DO_STOP = "stop"


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`do` says what: tell the status, hand the group's descriptor out, begin the background, or stop."""

    do: Literal["status", "descriptor", "background", "stop"]


class Done(msgspec.Struct, frozen=True):
    """It was done. The group's descriptor comes with it as ancillary data, if that was asked for."""

    done: bool = True


def request(line: bytes) -> Request:
    """Raises InvalidRequest."""
    try:
        return msgspec.json.decode(line, type=Request)
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"No request of the hydrator: {error}") from error


def line(message: msgspec.Struct) -> bytes:
    """As it goes over the socket."""
    return msgspec.json.encode(message) + b"\n"

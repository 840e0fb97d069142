"""What is said over the control socket: one JSON object a line, a request and its reply."""

from pathlib import Path
from typing import Any

import msgspec

from stillframe.endpoint.routes import DrainResult, Route, RouteStatus
from stillframe.errors import InvalidRequest, ServerUnavailable

CONTROL_VERSION = 1
"""Raised when an older service could no longer talk to a newer endpoint, or the other way round."""

MAX_LINE_BYTES = 16 * 1024 * 1024
"""About forty thousand routes."""


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="ping"):
    """Who is there?"""


class Sync(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="sync"):
    """Make these routes all there is."""

    routes: tuple[Route, ...]


class Open(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="open"):
    """Add or change one route."""

    route: Route


class Pause(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="pause"):
    """Let new connections of a route wait."""

    route_id: str


class Resume(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="resume"):
    """Relay new connections of a route again."""

    route_id: str


class Close(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="close"):
    """Unbind a route's port and end its connections."""

    route_id: str


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="drain"):
    """End a route's connections."""

    route_id: str
    seconds: float


class Status(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="status"):
    """All routes as they are."""


class Shutdown(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="shutdown"):
    """End all connections and the process."""

    seconds: float


Request = Ping | Sync | Open | Pause | Resume | Close | Drain | Status | Shutdown


class Pong(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="pong"):
    """Stillframe's version, the version of this language, and the process."""

    version: str
    control_version: int
    pid: int


class Routes(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="routes"):
    """The routes asked for, or changed."""

    routes: tuple[RouteStatus, ...]


class Drained(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="drained"):
    """How connections ended."""

    result: DrainResult


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="failed"):
    """An error of `stillframe.errors`, by its kind."""

    kind: str
    message: str


Reply = Pong | Routes | Drained | Failed


def encode(message: Request | Reply) -> bytes:
    """The message as one line."""
    return msgspec.json.encode(message, enc_hook=_write_path) + b"\n"


def decode_request(line: bytes) -> Request:
    """Read a request; raise InvalidRequest for anything else."""
    try:
        return _REQUESTS.decode(line)
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"Not a request to the endpoint: {error}") from None


def decode_reply(line: bytes) -> Reply:
    """Read a reply; raise ServerUnavailable for anything else (such as a line cut short by a crash)."""
    try:
        return _REPLIES.decode(line)
    except msgspec.MsgspecError as error:
        raise ServerUnavailable(f"The endpoint process gave no proper answer: {error}") from None


def _write_path(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"no JSON form for {type(value)}")


def _read_path(kind: type, value: Any) -> Path:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError("a path must be a string")


_REQUESTS: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request, dec_hook=_read_path)
_REPLIES: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply, dec_hook=_read_path)

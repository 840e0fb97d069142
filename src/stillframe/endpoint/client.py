"""What the service calls to have its workgroups' ports relayed."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stillframe.endpoint import messages
from stillframe.endpoint.messages import Drained, Failed, Pong, Reply, Request, Routes
from stillframe.endpoint.routes import DrainResult, Route, RouteOutcome, RouteStatus
from stillframe.endpoint.socketpath import short_name
from stillframe.errors import (
    Conflict,
    InternalError,
    InvalidRequest,
    NotFound,
    PermissionMissing,
    ServerUnavailable,
    StillframeError,
    Unsupported,
)

_ALREADY_RUNNING = 3
_RETRY_SECONDS = 0.02
_ReplyT = TypeVar("_ReplyT", bound=Reply)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds the endpoint process gives others; see `stillframe.endpoint.relay.Limits`."""

    startup: float = 60.0
    pause: float = 10.0
    connect: float = 5.0


class EndpointClient:
    """The endpoint process behind one control socket.

    `user` is the unprivileged system user the process becomes when this one is root (required then): one
    that may enter the servers' socket directories and that no server's pg_ident maps to the service role.
    Every call waits at most `deadline` seconds, and raises ServerUnavailable if the process is not there or
    does not answer.
    """

    def __init__(
        self,
        control: Path,
        *,
        user: str | None = None,
        timeouts: Timeouts | None = None,
        deadline: float = 10.0,
    ) -> None:
        self._control = control
        self._user = user
        self._timeouts = timeouts or Timeouts()
        self._deadline = deadline

    def ensure_running(self) -> Pong:
        """Start the process unless it runs already; who answers. It has no routes until `sync`.

        Raises ServerUnavailable if it cannot be started (the message says why), Unsupported if the one that
        runs speaks another version of the control language.
        """
        try:
            return self.ping()
        except ServerUnavailable:
            self._start_detached()
        return self._first_ping()

    def ping(self) -> Pong:
        """Version and process id. Raises Unsupported for another version of the control language."""
        pong = self._ask(messages.Ping(), expected=Pong)
        if pong.control_version != messages.CONTROL_VERSION:
            raise Unsupported(
                f"The running endpoint process {pong.pid} is of another release ({pong.version})",
                hint="End that process; connections through it will break, and a new one will be started.",
            )
        return pong

    def sync(self, routes: tuple[Route, ...]) -> tuple[RouteStatus, ...]:
        """Make `routes` all there is; one status a route, in order: look at its `outcome` (a port may be
        taken).

        Routes that are not given are closed. Raises InvalidRequest for routes that contradict each other.
        """
        return self._ask(messages.Sync(routes=routes), expected=Routes).routes

    def open(self, route: Route) -> RouteStatus:
        """Add this route, or switch it to a new target, state or address.

        Established connections stay, unless the target is another server: those to the old one are ended.

        Raises Conflict if the port is taken, ServerUnavailable if it cannot be bound for another reason.
        """
        status = self._ask(messages.Open(route=route), expected=Routes).routes[0]
        return _bound_or_raise(status)

    def pause(self, route_id: str) -> RouteStatus:
        """Let new connections wait, then be told to try again; established ones stay. Raises NotFound."""
        return self._ask(messages.Pause(route_id=route_id), expected=Routes).routes[0]

    def resume(self, route_id: str) -> RouteStatus:
        """Relay again, those that wait first. Raises NotFound; Conflict if a closed route's port is now
        taken."""
        status = self._ask(messages.Resume(route_id=route_id), expected=Routes).routes[0]
        return _bound_or_raise(status)

    def close(self, route_id: str) -> RouteStatus:
        """Give the port back and end the route's connections; the route stays known. Raises NotFound."""
        return self._ask(messages.Close(route_id=route_id), expected=Routes).routes[0]

    def drain(self, route_id: str, *, seconds: float) -> DrainResult:
        """End the route's connections: with a message where the protocol allows, after `seconds` without.
        NotFound."""
        return self._ask(
            messages.Drain(route_id=route_id, seconds=seconds), expected=Drained, extra=seconds
        ).result

    def status(self) -> tuple[RouteStatus, ...]:
        """All routes with their connection counts."""
        return self._ask(messages.Status(), expected=Routes).routes

    def shutdown(self, *, seconds: float = 5.0) -> DrainResult:
        """End every connection and the process; returns when it no longer answers."""
        result = self._ask(messages.Shutdown(seconds=seconds), expected=Drained, extra=seconds).result
        self._await_end()
        return result

    def _ask(self, request: Request, *, expected: type[_ReplyT], extra: float = 0.0) -> _ReplyT:
        reply = messages.decode_reply(
            self._exchange(messages.encode(request), seconds=self._deadline + extra)
        )
        if isinstance(reply, Failed):
            raise _as_error(reply)
        if not isinstance(reply, expected):
            raise InternalError(f"The endpoint answered {type(request).__name__} with {type(reply).__name__}")
        return reply

    def _exchange(self, line: bytes, *, seconds: float) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connected:
                connected.settimeout(seconds)
                with short_name(self._control) as name:
                    connected.connect(name)
                connected.sendall(line)
                return _read_line(connected, seconds=seconds)
        except PermissionError as error:
            raise PermissionMissing(
                f"The endpoint's control socket {self._control} may not be used"
            ) from error
        except OSError as error:
            raise ServerUnavailable(f"The endpoint process does not answer: {error}") from error

    def _start_detached(self) -> None:
        command = [sys.executable, "-m", "stillframe.endpoint", "--detach", "--control", str(self._control)]
        command += [] if self._user is None else ["--user", self._user]
        for name in ("startup", "pause", "connect"):
            command += [f"--{name}-timeout", str(getattr(self._timeouts, name))]
        try:
            ended = subprocess.run(
                command, env=_environment(), cwd="/", capture_output=True, timeout=self._deadline, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ServerUnavailable(f"The endpoint process could not be started: {error}") from error
        if ended.returncode not in {0, _ALREADY_RUNNING}:
            reason = ended.stderr.decode(errors="replace").strip() or f"exit status {ended.returncode}"
            raise ServerUnavailable(f"The endpoint process could not be started: {reason}")

    def _first_ping(self) -> Pong:
        """Somebody else may be starting it at the same moment: then it holds the lock, but does not answer
        yet."""
        deadline = time.monotonic() + self._deadline
        while True:
            try:
                return self.ping()
            except ServerUnavailable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_SECONDS)

    def _await_end(self) -> None:
        deadline = time.monotonic() + self._deadline
        while time.monotonic() < deadline:
            try:
                self.ping()
            except ServerUnavailable:
                return
            time.sleep(_RETRY_SECONDS)
        raise ServerUnavailable("The endpoint process was told to end, but still answers")


def _environment() -> dict[str, str]:
    """Only what Python needs to find us: whatever secrets are in our environment stay out of a network
    process."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
    ours = [str(Path(__file__).parents[2]), *filter(os.path.isabs, sys.path)]
    return kept | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(ours)), "PYTHONSAFEPATH": "1"}


def _read_line(connected: socket.socket, *, seconds: float) -> bytes:
    deadline = time.monotonic() + seconds
    received = bytearray()
    while not received.endswith(b"\n"):
        connected.settimeout(max(0.001, deadline - time.monotonic()))
        chunk = connected.recv(65536)
        if not chunk:
            raise ConnectionResetError("it closed the connection before it answered")
        received += chunk
    return bytes(received)


def _bound_or_raise(status: RouteStatus) -> RouteStatus:
    match status.outcome:
        case RouteOutcome.PORT_TAKEN:
            raise Conflict(
                f"Port {status.port} of {status.host} is taken by another program",
                hint="Choose another port for the workgroup, or end that program.",
            )
        case RouteOutcome.ERROR:
            raise ServerUnavailable(f"Port {status.port} of {status.host} cannot be bound: {status.detail}")
        case _:
            return status


def _as_error(failed: Failed) -> StillframeError:
    if failed.kind == NotFound.kind:
        return NotFound(failed.message, resource_name="route")
    if failed.kind == InvalidRequest.kind:
        return InvalidRequest(failed.message)
    return InternalError(failed.message)

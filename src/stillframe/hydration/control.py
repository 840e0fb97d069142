"""The hydrator's side of its control socket."""

import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

import structlog

from stillframe.errors import InvalidRequest
from stillframe.hydration import messages
from stillframe.hydration.failures import translating_os_errors
from stillframe.hydration.ledger import HydrationStatus
from stillframe.hydration.socketname import socket_name

log = structlog.get_logger(__name__)

_CALLER_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What callers may ask for. `group` is the descriptor that is handed out; None while no server may start: who asks
    for it then is answered with the next `Control.hand_out`.
    """

    status: Callable[[], HydrationStatus]
    background: Callable[[], None]
    stop: Callable[[], None]
    group: Callable[[], int | None]


class Control:
    """Answers one caller after the other, in a thread of its own."""

    def __init__(self, path: Path, actions: Actions) -> None:
        self._path = path
        self._actions = actions
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._lock = threading.Lock()
        self._waiting: list[socket.socket] = []

    def start(self) -> None:
        """Listen, in the place of a socket that is left from before. Raises PermissionMissing, OperatorError."""
        with translating_os_errors(f"Listening on {self._path}"), socket_name(self._path) as name:
            self._path.unlink(missing_ok=True)
            # Nobody can connect before it listens, and by then its mode is right.
            self._listener.bind(name)
            self._path.chmod(0o600)
            self._listener.listen(16)
        self._thread.start()

    def hand_out(self) -> None:
        """Give the group to everybody who has asked for it too early."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            group = self._actions.group()
        for caller in waiting:
            # Some may have lost their patience.
            with suppress(OSError), caller:
                _send(caller, group)

    def end(self) -> None:
        """Answer nobody any more."""
        os.eventfd_write(self._wake, 1)
        if self._thread.ident is not None:
            self._thread.join()
            self._path.unlink(missing_ok=True)
        for caller in self._waiting:
            caller.close()
        self._listener.close()
        os.close(self._wake)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not any(ready == self._wake for ready, _ in poll.poll()):
            # Whatever goes wrong with one caller, the next one is answered.
            with suppress(OSError):
                caller, _ = self._listener.accept()
                with caller:
                    caller.settimeout(_CALLER_SECONDS)
                    self._answer(caller)

    def _answer(self, caller: socket.socket) -> None:
        try:
            asked = messages.request(read_line(caller))
        except InvalidRequest as error:
            log.warning("control_request_invalid", reason=error.message)
            return
        match asked.do:
            case "status":
                caller.sendall(messages.line(self._actions.status()))
            case "descriptor":
                self._hand_out_or_keep(caller)
            case "background":
                self._actions.background()
                caller.sendall(messages.line(messages.Done()))
            case "stop":
                caller.sendall(messages.line(messages.Done()))
                self._actions.stop()
            case _:
                assert_never(asked.do)

    def _hand_out_or_keep(self, caller: socket.socket) -> None:
        with self._lock:
            group = self._actions.group()
            if group is None:
                self._waiting.append(caller.dup())
                return
        _send(caller, group)


def _send(caller: socket.socket, group: int | None) -> None:
    socket.send_fds(caller, [messages.line(messages.Done())], [] if group is None else [group])


def read_line(connection: socket.socket) -> bytes:
    """One line; less if the other side ends before. Raises OSError (TimeoutError after the socket's time-out)."""
    read = b""
    while not read.endswith(b"\n") and len(read) < messages.LONGEST_LINE:
        more = connection.recv(4096)
        if not more:
            break
        read += more
    return read

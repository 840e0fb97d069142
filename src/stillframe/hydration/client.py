"""Asking a hydrator, from another process."""

import array
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from stillframe.errors import ServerUnavailable
from stillframe.hydration import messages
from stillframe.hydration.control import read_line
from stillframe.hydration.ledger import HydrationStatus
from stillframe.hydration.socketname import socket_name

_Answer = TypeVar("_Answer", bound=msgspec.Struct)


class HydratorClient:
    """The hydrator behind a control socket.

    Every call raises ServerUnavailable when there is none, or none that answers within `deadline` seconds.
    """

    def __init__(self, control: Path, *, deadline: float = 10.0) -> None:
        self._control = control
        self._deadline = deadline

    def status(self) -> HydrationStatus:
        """How far it is."""
        with self._asked(messages.DO_STATUS) as connection:
            return self._decoded(read_line(connection), HydrationStatus)

    def background(self) -> None:
        """Have everything come that nobody asks for, too. Asked again, it changes nothing."""
        self._done(messages.DO_BACKGROUND)

    def stop(self) -> None:
        """Have it end; accesses that wait are not answered. Only when no server is left to wait."""
        self._done(messages.DO_STOP)

    def descriptor(self) -> int:
        """A copy of the group's descriptor, which the caller closes: what a server has to inherit.

        It comes as soon as every file is marked.
        """
        with self._asked(messages.DO_DESCRIPTOR) as connection:
            line, ancillary, _, _ = connection.recvmsg(
                messages.LONGEST_LINE, socket.CMSG_SPACE(array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
            )
            received = array.array("i")
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    received.frombytes(data[: len(data) - len(data) % received.itemsize])
        if len(received) != 1:
            for descriptor in received:
                os.close(descriptor)
            raise ServerUnavailable(f"The hydrator at {self._control} gave no descriptor: {line[:100]!r}")
        return received[0]

    def _done(self, what: str) -> None:
        with self._asked(what) as connection:
            self._decoded(read_line(connection), messages.Done)

    @contextmanager
    def _asked(self, what: str) -> Iterator[socket.socket]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
                connection.settimeout(self._deadline)
                with socket_name(self._control) as name:
                    connection.connect(name)
                connection.sendall(msgspec.json.encode({"do": what}) + b"\n")
                yield connection
        except OSError as error:
            raise ServerUnavailable(f"No hydrator answers at {self._control}: {error}") from error

    def _decoded(self, line: bytes, kind: type[_Answer]) -> _Answer:
        try:
            return msgspec.json.decode(line, type=kind)
        except msgspec.MsgspecError as error:
            raise ServerUnavailable(f"The hydrator at {self._control} answered {line[:100]!r}") from error

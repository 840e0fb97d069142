"""A process that forks hydrators: a fork of everything that is imported costs a tenth of a new program's start.

It is taken off the worker before the worker has threads, and ends with it. What it forks does not. It keeps the right
to administer the system, which the worker then gives up.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec
import structlog
from setproctitle import setproctitle

from stillframe.app.children import close_all_but
from stillframe.app.programs import ProgramLauncher
from stillframe.config import Settings
from stillframe.hydration import Probe, probe
from stillframe.service.hydrations import HydratorOrder

log = structlog.get_logger(__name__)

_LONGEST_ORDER = 1 << 16
_ANSWER_SECONDS = 20.0

Hydrate = Callable[[Settings, HydratorOrder], int]


class ProbeOrder(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """To try whether files can arrive in this directory."""

    directory: str


Order = HydratorOrder | ProbeOrder


class Nursery:
    """The worker's side: gives orders, gets pids. Safe to use from several threads."""

    def __init__(self, settings: Settings, hydrate: Hydrate) -> None:
        """Fork it; only while this process has one thread. Systems where a fork is not safe get programs instead."""
        self._programs = ProgramLauncher(settings)
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        if sys.platform == "linux":
            self._line = _forked(settings, hydrate)

    def launch(self, order: HydratorOrder) -> int:
        """A hydrator's pid. Raises ServerUnavailable."""
        with self._lock:
            answer = self._asked(order)
            return int(answer) if answer else self._programs.launch(order)

    def probe(self, directory: Path) -> Probe:
        """Whether a hydrator could bring files into this directory."""
        with self._lock:
            answer = self._asked(ProbeOrder(directory=str(directory)))
            return msgspec.json.decode(answer, type=Probe) if answer else self._programs.probe(directory)

    def _asked(self, order: Order) -> bytes | None:
        if self._line is None:
            return None
        with suppress(OSError):
            self._line.send(msgspec.json.encode(order))
            if answer := self._line.recv(_LONGEST_ORDER):
                return answer
        # It is gone: from now on every hydrator is a program.
        log.warning("nursery_is_gone")
        self._line.close()
        self._line = None
        return None


def _forked(settings: Settings, hydrate: Hydrate) -> socket.socket:
    """The nursery's end of a line to it; it ends when the line does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        _be_nursery(theirs, settings, hydrate)
    theirs.close()
    ours.settimeout(_ANSWER_SECONDS)
    return ours


def _be_nursery(line: socket.socket, settings: Settings, hydrate: Hydrate) -> NoReturn:
    status = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        close_all_but(line.fileno())
        setproctitle(f"stillframe.app.nursery --data {settings.data}")
        while order := line.recv(_LONGEST_ORDER):
            match msgspec.json.decode(order, type=Order):
                case ProbeOrder(directory=directory):
                    line.send(_probed(Path(directory)))
                case HydratorOrder() as wanted:
                    line.send(str(_give_birth(line, settings, wanted, hydrate)).encode())
        status = 0
    except OSError:
        # The worker is gone.
        status = 0
    finally:
        os._exit(status)


def _probed(directory: Path) -> bytes:
    """What trying it says, which is left to another process, because it needs threads."""

    def answer(sending: int) -> None:
        os.write(sending, msgspec.json.encode(probe(directory)))

    return _told_by_a_child(answer) or msgspec.json.encode(Probe(supported=False, reason="Trying it failed."))


def _give_birth(line: socket.socket, settings: Settings, order: HydratorOrder, hydrate: Hydrate) -> int:
    """The pid of a new hydrator, which is nobody's child: a short-lived process in between forks it."""

    def answer(sending: int) -> None:
        child = os.fork()
        if child == 0:
            os.close(sending)
            _be_hydrator(line, settings, order, hydrate)
        os.write(sending, str(child).encode())

    return int(_told_by_a_child(answer))


def _told_by_a_child(answer: Callable[[int], None]) -> bytes:
    """What a short-lived process writes to the descriptor that it gets; nothing when it fails."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        answer(sending)
        os._exit(0)
    os.close(sending)
    with open(receiving, "rb") as told:  # noqa: PTH123 - a descriptor
        found = told.read()
    os.waitpid(child, 0)
    return found


def _be_hydrator(line: socket.socket, settings: Settings, order: HydratorOrder, hydrate: Hydrate) -> NoReturn:
    status = 1
    try:
        line.close()
        os.setsid()
        status = hydrate(settings, order)
    except BaseException as error:
        log.error("hydrator_failed", exc_info=error)
    finally:
        sys.stderr.flush()
        os._exit(status)

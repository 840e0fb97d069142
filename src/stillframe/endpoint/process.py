"""The endpoint process: one a data directory, started detached, alive until told to end.

Its files lie beside the control socket: `<control>.lock` is held for the life of the process and contains its
process id, `<control>.log` gets what it has to say. Imports are kept few, because a client waits for the
ports.
"""

import argparse
import asyncio
import fcntl
import json
import logging
import os
import pwd
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvloop

from stillframe import __version__
from stillframe.endpoint.control import ControlServer
from stillframe.endpoint.relay import Limits
from stillframe.endpoint.socketpath import short_name
from stillframe.endpoint.table import RouteTable
from stillframe.errors import (
    ConfigurationInvalid,
    DataDirectoryInUse,
    OperatorError,
    PermissionMissing,
    StillframeError,
)

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_ALREADY_RUNNING = 3

_LOG = logging.getLogger(__name__)
_SPARE_DESCRIPTORS = 64
_DESCRIPTORS_EACH = 2
_MANY_DESCRIPTORS = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the process runs. `user` is whom it becomes when started as root; seconds where a time is meant."""

    control: Path
    user: str | None = None
    detach: bool = False
    shutdown_grace: float = 5.0
    watch_interval: float = 1.0
    limits: Limits = field(default_factory=Limits)

    @property
    def lock(self) -> Path:
        """Held by the running process."""
        return self.control.with_name(self.control.name + ".lock")

    @property
    def log(self) -> Path:
        """One JSON object a line."""
        return self.control.with_name(self.control.name + ".log")


def main(arguments: list[str] | None = None) -> int:
    """Run the endpoint; the exit status: 0 ended on request (detached: is ready), 1 failed, 2 usage, 3 runs
    already."""
    options = _parse(arguments)
    try:
        return detach(options) if options.detach else run(options)
    except DataDirectoryInUse as error:
        return _complain(error, EXIT_ALREADY_RUNNING)
    except StillframeError as error:
        return _complain(error, EXIT_FAILED)


def detach(options: Options) -> int:
    """Run in a process that is nobody's child but init's; return when it listens (0) or has failed (its
    status)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        os.waitpid(child, 0)
        with os.fdopen(reading, "rb") as pipe:
            status = pipe.read(1)
        return status[0] if status else EXIT_FAILED
    os.close(reading)
    os.setsid()
    if os.fork():
        os._exit(0)
    return _run_detached(options, writing)


def run(options: Options, *, ready: int | None = None) -> int:
    """Take the lock, bind the control socket, give up root, and relay until told to end.

    One byte is written to the descriptor `ready` when requests are answered. Raises DataDirectoryInUse if
    another endpoint runs here, ConfigurationInvalid or PermissionMissing if this one can not.
    """
    with _sole_instance(options.lock) as lock, _bound(options.control) as bound:
        log = _open_log(options.log)
        limits = _raise_limits(options.limits)
        _become(options.user)
        uvloop.run(_Service(options, limits=limits, lock=lock, log=log).run(bound, ready=ready))
    return EXIT_OK


class _Service:
    """The event loop's part of the process."""

    def __init__(self, options: Options, *, limits: Limits, lock: int, log: int) -> None:
        self._options = options
        self._lock = lock
        self._log = log
        self._stop = asyncio.Event()
        self._table = RouteTable(limits)

    async def run(self, bound: socket.socket, *, ready: int | None) -> None:
        control = ControlServer(self._table, stop=self._stop)
        await control.listen(bound)
        self._obey_signals()
        self._watch_directory()
        _LOG.info("endpoint_started", extra={"facts": {"version": __version__, "pid": os.getpid()}})
        _announce(ready, log=self._log)
        await self._stop.wait()
        result = await self._table.close(seconds=self._options.shutdown_grace)
        control.close()
        _LOG.info("endpoint_ended", extra={"facts": {"told": result.told, "cut": result.cut}})

    def _obey_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)

    def _watch_directory(self) -> None:
        """End when the data directory was deleted: by the lock's link count, which needs no right to enter
        it."""
        if os.fstat(self._lock).st_nlink == 0:
            _LOG.warning("data_directory_gone")
            self._stop.set()
            return
        asyncio.get_running_loop().call_later(self._options.watch_interval, self._watch_directory)


class _JsonLines(logging.Formatter):
    """A record as one JSON object: time, level, event and the fields under `facts`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"time": f"{moment}.{int(record.msecs):03d}Z", "level": record.levelname.lower()}
        line |= {"event": record.getMessage(), **getattr(record, "facts", {})}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _run_detached(options: Options, ready: int) -> int:
    try:
        return run(options, ready=ready)
    except DataDirectoryInUse as error:
        status = _complain(error, EXIT_ALREADY_RUNNING)
    except StillframeError as error:
        status = _complain(error, EXIT_FAILED)
    os.write(ready, bytes([status]))
    return status


def _announce(ready: int | None, *, log: int) -> None:
    if ready is None:
        return
    # Whoever waits for us hears nothing more: its pipes must not stay open for our life. What Python itself may
    # have to say when it dies belongs into the log.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.write(ready, bytes([EXIT_OK]))
    os.close(ready)


@contextmanager
def _sole_instance(path: Path) -> Iterator[int]:
    """Hold the lock file (yielded as a descriptor), with our process id in it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _cannot("open", path, error) from error
    try:
        _lock(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataDirectoryInUse(f"Another endpoint process already holds {path}") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


@contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    """The control socket, for its owner only; what a crashed process left is replaced (we hold the lock)."""
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        bound = _bind(path)
    except OSError as error:
        raise _cannot("bind", path, error) from error
    finally:
        os.umask(before)
    with bound:
        yield bound


def _bind(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_name(path) as name:
            bound.bind(name)
        bound.settimeout(0)
    except BaseException:
        bound.close()
        raise
    return bound


def _open_log(path: Path) -> int:
    """Log to this file, for our eyes only, from now on; its descriptor."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _cannot("write", path, error) from error
    handler = logging.StreamHandler(os.fdopen(descriptor, "w"))
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    return descriptor


def _raise_limits(limits: Limits) -> Limits:
    """Ask for all the descriptors we may have; each relayed connection takes two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MANY_DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, _MANY_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    room = (most - _SPARE_DESCRIPTORS) // _DESCRIPTORS_EACH
    return replace(limits, connections=max(1, min(limits.connections, room)))


def _become(user: str | None) -> None:
    """Give up root for good. Raises ConfigurationInvalid when root has nobody to become, or not an ordinary
    user.

    The service's own PostgreSQL role is authenticated by `peer`, and root is who may be it: a relay running
    as root would lend that identity to everybody who connects.
    """
    if os.geteuid() != 0:
        return
    account = _account(user)
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)


def _account(user: str | None) -> pwd.struct_passwd:
    if user is None:
        raise ConfigurationInvalid("The endpoint does not run as root: it needs the name of a user to become")
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise ConfigurationInvalid(f"There is no user {user!r} for the endpoint to become") from None
    if account.pw_uid == 0 or account.pw_gid == 0:
        raise ConfigurationInvalid(
            f"The endpoint does not run as {user!r}: this user is root or in its group"
        )
    return account


def _cannot(verb: str, path: Path, error: OSError) -> OperatorError:
    kind = PermissionMissing if isinstance(error, PermissionError) else ConfigurationInvalid
    return kind(f"The endpoint cannot {verb} {path}: {error.strerror}")


def _complain(error: StillframeError, status: int) -> int:
    sys.stderr.write(f"{error.message}\n")
    sys.stderr.flush()
    return status


def _parse(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="stillframe.endpoint", description="Relay workgroup ports to their servers"
    )
    parser.add_argument("--control", type=Path, required=True, help="path of the control socket")
    parser.add_argument("--user", help="whom to become when started as root")
    parser.add_argument("--detach", action="store_true", help="run in the background, return when ready")
    parser.add_argument("--shutdown-grace", type=float, default=5.0, metavar="SECONDS")
    for name in ("startup", "pause", "connect"):
        parser.add_argument(
            f"--{name}-timeout", type=float, default=getattr(Limits(), name), metavar="SECONDS"
        )
    given = parser.parse_args(arguments)
    return Options(
        control=given.control,
        user=given.user,
        detach=given.detach,
        shutdown_grace=given.shutdown_grace,
        limits=Limits(
            startup=given.startup_timeout, pause=given.pause_timeout, connect=given.connect_timeout
        ),
    )

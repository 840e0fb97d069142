"""The worker process as the service sees it: started, watched, started again, ended.

The first one is a fork of the service, taken when everything is imported and nothing is running yet: that halves
what a start costs. Later ones, and those of systems where a fork is not safe, are programs of their own.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Protocol

import structlog

import stillframe
from stillframe.app.privileges import handing_down_administration
from stillframe.config import Settings
from stillframe.errors import ServerUnavailable

log = structlog.get_logger(__name__)

_RESTART_SECONDS = 1.0
_END_SECONDS = 30.0
_POLL_SECONDS = 0.02


class Child(Protocol):
    """A running worker and the pipe to it."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    def say(self, text: bytes) -> None:
        """Write to its pipe; nothing happens when it has ended already."""
        ...

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        ...

    def close(self) -> None:
        """Close the pipe."""
        ...


class Worker:
    """Keeps one worker process alive until it is stopped."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._child: Child | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def start(self, run_in_fork: Callable[[int], int] | None = None) -> None:
        """Start the process; it waits for the catalog. Raises ServerUnavailable.

        `run_in_fork` is what a fork of this process does with its end of the pipe; without it, and where forking
        is not safe, a new program is started.
        """
        if run_in_fork is not None and sys.platform == "linux":
            self._child = _fork(run_in_fork)
        else:
            self._child = _launch(self._settings)

    def catalog_is_ready(self) -> None:
        """Let the worker begin, and from now on watch over it."""
        if self._child is not None:
            self._child.say(b".")
        threading.Thread(target=self._keep_alive, name="worker-watch", daemon=True).start()

    def stop(self) -> None:
        """End the worker: running work is asked to stop, then it is killed."""
        with self._lock:
            self._stopping.set()
            child = self._child
        if child is None or child.poll() is not None:
            return
        os.kill(child.pid, signal.SIGTERM)
        if not _ended(child, seconds=_END_SECONDS):
            os.kill(child.pid, signal.SIGKILL)
            _ended(child, seconds=_END_SECONDS)
        child.close()

    def _keep_alive(self) -> None:
        while not self._stopping.wait(_RESTART_SECONDS):
            with self._lock:
                if self._child is None or self._child.poll() is None or self._stopping.is_set():
                    continue
                log.error("worker_ended", status=self._child.poll())
                self._child.close()
                self._restart()

    def _restart(self) -> None:
        try:
            self._child = _launch(self._settings)
            self._child.say(b".")
        except ServerUnavailable as error:
            log.error("worker_does_not_start", reason=error.message)


class _Program:
    """A worker that is a program of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, text: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text)
        except BrokenPipeError:
            # It has ended already; the watch starts another one.
            return

    def poll(self) -> int | None:
        return self._process.poll()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()


class _Fork:
    """A worker that was forked from this process."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe = pipe
        self._status: int | None = None
        self._lock = threading.Lock()

    def say(self, text: bytes) -> None:
        try:
            os.write(self._pipe, text)
        except BrokenPipeError:
            # It has ended already; the watch starts another one.
            return

    def poll(self) -> int | None:
        with self._lock:
            if self._status is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self._status = os.waitstatus_to_exitcode(status) if pid else None
            return self._status

    def close(self) -> None:
        os.close(self._pipe)


def _fork(run: Callable[[int], int]) -> Child:
    receiving, sending = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_worker(run, receiving)
    os.close(receiving)
    return _Fork(pid, sending)


def _be_worker(run: Callable[[int], int], receiving: int) -> NoReturn:
    """The forked process: nothing of the service's stays open in it, and it never returns into its code."""
    status = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        close_all_but(receiving)
        _be_silent()
        os.chdir("/")
        status = run(receiving)
    except BaseException as error:
        log.error("worker_failed", exc_info=error)
    finally:
        sys.stderr.flush()
        os._exit(status)


def close_all_but(kept: int) -> None:
    """Close every descriptor but the standard ones and this one."""
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def _be_silent() -> None:
    """Standard output belongs to the service's one line."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _launch(settings: Settings) -> Child:
    try:
        with handing_down_administration():
            process = subprocess.Popen(
                [sys.executable, "-m", "stillframe.app.worker"],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=program_environment(),
                cwd="/",
            )
    except OSError as error:
        raise ServerUnavailable(f"The worker process could not be started: {error.strerror}") from error
    child = _Program(process)
    child.say(settings.handed_down())
    return child


def _ended(child: Child, *, seconds: float) -> bool:
    nap = threading.Event()
    for _ in range(int(seconds / _POLL_SECONDS)):
        if child.poll() is not None:
            return True
        nap.wait(_POLL_SECONDS)
    return child.poll() is not None


def program_environment() -> dict[str, str]:
    """Ours without what belongs to PostgreSQL's clients, and without settings: those are handed down.

    The AWS SDK's variables stay, for they may be how buckets and keys are reached, and so does the search path,
    for it may be how this package was found.
    """
    source = str(Path(stillframe.__file__).parent.parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "STILLFRAME_"))}
    path = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}

"""Recognising the server process of a data directory, and signalling it and nobody else."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stillframe.errors import PermissionMissing
from stillframe.postgres.identity import clean_environment

PID_FILE = "postmaster.pid"
_LINUX = sys.platform == "linux"


@dataclass(frozen=True, slots=True, kw_only=True)
class PidFile:
    """postmaster.pid: the server's own note of its process and state (PostgreSQL: utils/pidfile.h)."""

    pid: int
    started_at: int
    status: str

    @property
    def accepting(self) -> bool:
        """Whether the server said that it takes connections and has left recovery."""
        return self.status == "ready"

    @property
    def recovering(self) -> bool:
        """Whether it has begun to start, far enough to take signals, and takes no connections yet."""
        return self.status in {"starting", "standby"}


def read_pid_file(data_directory: Path) -> PidFile | None:
    """The note in a data directory, or None when there is none, or not yet a whole one."""
    try:
        lines = (data_directory / PID_FILE).read_text(errors="replace").splitlines()
        pid, started_at = abs(int(lines[0])), int(lines[2])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    status = lines[7].strip() if len(lines) > 7 else ""
    return PidFile(pid=pid, started_at=started_at, status=status)


class ServerProcess:
    """One process, known to be a server of one data directory, and held: its pid cannot pass to another."""

    def __init__(self, pid: int, *, pidfd: int | None) -> None:
        self.pid = pid
        self._pidfd = pidfd

    def send(self, number: signal.Signals) -> None:
        """Signal it; nothing happens when it has ended. Raises PermissionMissing."""
        try:
            if self._pidfd is None:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise PermissionMissing(f"The server process {self.pid} belongs to another user") from error

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most that long; whether it has."""
        if self._pidfd is not None:
            poller = select.poll()
            poller.register(self._pidfd, select.POLLIN)
            return bool(poller.poll(max(seconds, 0) * 1000))
        until = time.monotonic() + seconds
        while _exists(self.pid):
            if time.monotonic() >= until:
                return False
            time.sleep(0.01)
        return True


@contextmanager
def hold_process(pid: int, *, data_directory: Path) -> Iterator[ServerProcess | None]:
    """The process `pid` if it is a server process of that data directory at this moment, else None."""
    pidfd = _open_pidfd(pid)
    try:
        # Looked at only once it is held: the number cannot change its owner in between.
        ours = _exists(pid) and _serves(pid, data_directory)
        yield ServerProcess(pid, pidfd=pidfd) if ours else None
    finally:
        if pidfd is not None:
            os.close(pidfd)


@contextmanager
def hold_postmaster(data_directory: Path) -> Iterator[ServerProcess | None]:
    """The running server of a data directory, or None when it has none."""
    note = read_pid_file(data_directory)
    if note is None:
        yield None
        return
    with hold_process(note.pid, data_directory=data_directory) as process:
        yield process


def server_processes(data_directory: Path) -> list[int]:
    """Pids of all processes that serve this directory, also those a killed server left behind (Linux)."""
    if not _LINUX:
        return []
    pids = (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())
    return [pid for pid in pids if _serves(pid, data_directory)]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet collected does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except (OSError, IndexError):
        return not Path("/proc/self/stat").exists()


def _open_pidfd(pid: int) -> int | None:
    if not _LINUX:
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _serves(pid: int, data_directory: Path) -> bool:
    """A server and its children stand in their data directory and are called postgres."""
    if not _LINUX:
        return _command_names(pid, data_directory)
    try:
        return Path(f"/proc/{pid}/cwd").samefile(data_directory) and _called_postgres(pid)
    except OSError:
        return False


def _called_postgres(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().strip() in {"postgres", "postmaster"}


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _command_names(pid: int, data_directory: Path) -> bool:
    shown = subprocess.run(
        ["/bin/ps", "-o", "command=", "-p", str(pid)],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return "postgres" in shown.stdout and f"-D {data_directory}" in shown.stdout

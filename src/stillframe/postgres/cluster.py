"""One PostgreSQL cluster's life: made, started, reloaded, stopped, found again.

The server is nobody's child: it goes on when this process is killed, and the next one finds it again.
"""

import hashlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from stillframe.errors import Conflict, OperatorError, ServerUnavailable, StillframeError
from stillframe.postgres.control import CONTROL_FILE, ControlFile, read_control_file
from stillframe.postgres.identity import ServerIdentity, clean_environment
from stillframe.postgres.installation import Installation
from stillframe.postgres.osfiles import publish, remove, spread_subdirectories, sync_directory, sync_tree
from stillframe.postgres.postmaster import (
    PID_FILE,
    ServerProcess,
    hold_postmaster,
    hold_process,
    is_alive,
    read_pid_file,
    server_processes,
)
from stillframe.postgres.settings import (
    MAIN_FILE,
    MEGABYTE,
    REFUSING_FILE,
    SERVICE_FILE,
    SERVICE_ROLE,
    ServerSettings,
    render_hba,
    render_ident,
    render_settings,
    settings_for_major,
)
from stillframe.system import translating_os_errors

SOCKET_PORT = 5432
"""Only the number in the socket's file name: nothing listens on a network port."""

ARRIVAL_FILE = "stillframe.arriving"
"""In a data directory whose files are not all there yet."""

STANDBY_FILE = "standby.signal"
"""In the data directory of a server that replays what WAL there is and then waits for more."""

PROMOTE_FILE = "promote"
"""What a standby looks for when it is told that it may leave recovery."""

_SOCKET_PATH_LIMIT = 107
_START_LOG = "start.log"
_LOG_PREFIXES = ("start", "postgresql")
_LOG_TAIL_BYTES = 4000
_COLLECTOR_SECONDS = 1.0
_LONGEST_PAUSE = 0.005
"""Between two looks at a server that starts: somebody waits for it, and a look costs a fiftieth of that."""


class StopMode(Enum):
    """How a server is asked to end: by a shutdown checkpoint, or at once with recovery at the next start."""

    FAST = signal.SIGINT
    IMMEDIATE = signal.SIGQUIT
    KILL = signal.SIGKILL


class ClusterState(Enum):
    """What a data directory is at this moment."""

    ABSENT = "absent"
    RUNNING = "running"
    STOPPED = "stopped"
    CRASHED = "crashed"
    """No server, and the last one did not end cleanly: the next start recovers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """State and, when running, the server's pid."""

    state: ClusterState
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InitOptions:
    """What is decided once for a cluster. `wal_segment_size` is bytes, a power of two from 1 MiB to 1 GiB.

    Beginning and ending a snapshot each fill up a segment with zeros and wait until the disk has it: small segments
    make both quick (ADR 9).
    """

    wal_segment_size: int = 2 * MEGABYTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A data directory, and where its server's socket and log are.

    The directories belong to this cluster alone. The socket's path is limited (`short_socket_directory`).
    """

    installation: Installation
    identity: ServerIdentity
    data_directory: Path
    socket_directory: Path
    log_directory: Path
    socket_port: int = SOCKET_PORT

    @property
    def socket_path(self) -> Path:
        """The Unix socket that the running server listens on."""
        return self.socket_directory / f".s.PGSQL.{self.socket_port}"

    # --- making ---------------------------------------------------------------------------------------------

    def initialize(self, options: InitOptions | None = None, *, deadline: float = 60) -> ControlFile:
        """Make a new, durable cluster in the data directory, which has to be absent or empty.

        Text is UTF-8 and sorts by code point whatever the machine; pages have checksums.
        Raises Conflict when something is there, OperatorError when initdb fails.
        """
        self._prepare_data_directory()
        try:
            self._run_initdb(options or InitOptions(), deadline=deadline)
            self._write_fixed_files()
            with translating_os_errors("making the new cluster durable"):
                sync_tree(self.data_directory)
                sync_directory(self.data_directory.parent)
        except StillframeError:
            self._empty_data_directory()
            raise
        return read_control_file(self.data_directory)

    def prepare_parent(self) -> None:
        """Make the directory that holds the data directory and its siblings. Raises as `initialize`."""
        self.identity.make_directory(self.data_directory.parent)
        spread_subdirectories(self.data_directory.parent)

    def _prepare_data_directory(self) -> None:
        with translating_os_errors("looking at the data directory"):
            occupied = self.data_directory.is_dir() and any(self.data_directory.iterdir())
        if occupied:
            raise Conflict(f"The directory {self.data_directory} is not empty")
        self.identity.make_directory(self.data_directory)
        self.identity.require_reachable(self.data_directory, what="the data directory")

    def _run_initdb(self, options: InitOptions, *, deadline: float) -> None:
        command = [
            str(self.installation.program("initdb")),
            "--pgdata", str(self.data_directory),
            "--username", SERVICE_ROLE,
            "--auth", "reject",
            "--encoding", "UTF8",
            "--locale-provider", "builtin",
            "--builtin-locale", "C.UTF-8",
            "--locale", "C",
            "--data-checksums",
            "--wal-segsize", str(options.wal_segment_size // MEGABYTE),
            # Synced once, at the end, together with what we add.
            "--no-sync",
            "--no-instructions",
        ]  # fmt: skip
        result = self.identity.run(command, deadline=deadline)
        if result.returncode != 0:
            detail = (result.stderr or result.stdout).strip()[-600:]
            raise OperatorError(f"initdb ended with status {result.returncode}: {detail}")

    def _write_fixed_files(self, *, durable: bool = True) -> None:
        main = MAIN_FILE if self.arrival_note() is None else REFUSING_FILE
        self._publish("postgresql.conf", main, durable=durable)
        self._publish(
            "postgresql.auto.conf", "# Not used: Stillframe writes stillframe.conf.\n", durable=durable
        )

    def _empty_data_directory(self) -> None:
        self.identity.run(["find", str(self.data_directory), "-mindepth", "1", "-delete"], deadline=60)

    # --- starting -------------------------------------------------------------------------------------------

    def start(
        self,
        settings: ServerSettings,
        *,
        deadline: float = 60,
        inherited: Sequence[int] = (),
        promote: bool = False,
    ) -> int:
        """Start the server and wait until it takes connections; its pid. Recovers first when it has to.

        A server that runs already is taken as it is, after being told to read its settings again. All its
        processes hold the descriptors `inherited` open for as long as they live; a directory that is still
        arriving is started with its hydrator's only. With `promote`, one that would go on waiting for WAL as a
        standby leaves recovery when it has replayed what there is.
        Raises ServerUnavailable with the end of the server's log when it ends or is not ready in time
        (then it is stopped again), OperatorError or PermissionMissing when the machine is in the way, Conflict
        for a half-arrived directory without a descriptor.
        """
        until = time.monotonic() + deadline
        self.write_settings(settings)
        if (running := self.adopt()) is not None:
            self.reload()
            return running
        if self.arrival_note() is not None and not inherited:
            raise Conflict(f"The files of {self.data_directory} are still arriving, and nobody brings them")
        self._prepare_directories()
        self._end_leftovers(until)
        self._forget_server()
        pid = self._launch(inherited)
        self._wait_until_ready(pid, until=until, promote=promote)
        return pid

    def write_settings(self, settings: ServerSettings, *, durable: bool = True) -> None:
        """Write the configuration and access files; a running server has to be reloaded (or restarted) then.

        Not `durable` is for settings of one start only, which no power cut shall bring back.
        Raises ConfigurationInvalid, DiskFull, PermissionMissing or OperatorError.
        """
        text = render_settings(
            settings,
            socket_directory=self.socket_directory,
            socket_port=self.socket_port,
            log_directory=self.log_directory,
        )
        ident = render_ident(service_user=self.identity.service_user)
        self._publish(SERVICE_FILE, settings_for_major(text, major=self.installation.major), durable=durable)
        self._publish("pg_hba.conf", render_hba(), durable=durable)
        self._publish("pg_ident.conf", ident, durable=durable)
        self._write_fixed_files()

    def _publish(self, name: str, text: str, *, durable: bool = True) -> None:
        """Unchanged files are left alone: an fsync costs more than a comparison."""
        path = self.data_directory / name
        content = text.encode()
        with translating_os_errors(f"reading {name}"):
            same = path.is_file() and path.read_bytes() == content
        if not same:
            publish(path, content, owner=self.identity.owner, durable=durable)

    def _prepare_directories(self) -> None:
        if len(os.fsencode(self.socket_path)) > _SOCKET_PATH_LIMIT:
            raise OperatorError(
                f"The path of the socket, {self.socket_path}, is longer than {_SOCKET_PATH_LIMIT} bytes",
                hint="Choose a shorter data directory.",
            )
        # Others may pass, so that the endpoint's user reaches the socket; only its owner may list it.
        self.identity.make_directory(self.socket_directory, mode=0o711)
        self.identity.make_directory(self.log_directory)
        for path, what in (
            (self.data_directory / CONTROL_FILE, "the data directory"),
            (self.socket_path, "the socket's directory"),
            (self.log_directory / _START_LOG, "the log's directory"),
        ):
            self.identity.require_reachable(path, what=what)

    def _launch(self, inherited: Sequence[int]) -> int:
        """Start the server through a shell that ends at once, so that it belongs to nobody."""
        log = self.log_directory / _START_LOG
        with translating_os_errors("preparing the server's log"):
            self._open_log(log)
        # No descriptor of its own: it might be one that the server has to inherit.
        script = 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!'
        server = str(self.installation.program("postgres"))
        command = ["/bin/sh", "-c", script, "sh", str(log), server, "-D", str(self.data_directory)]
        command += ["-c", f"config_file={self.data_directory / SERVICE_FILE}"]
        started = subprocess.run(
            command,
            env=clean_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            umask=0o077,
            timeout=20,
            check=False,
            pass_fds=inherited,
            user=self.identity.uid if self.identity.switch else None,
            group=self.identity.gid if self.identity.switch else None,
            extra_groups=[] if self.identity.switch else None,
        )
        if started.returncode != 0 or not started.stdout.strip().isdigit():
            raise ServerUnavailable("The PostgreSQL server could not be launched", status=started.returncode)
        return int(started.stdout)

    def _open_log(self, log: Path) -> None:
        """An empty log for this start, which the server's user may write."""
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if self.identity.owner is not None:
                os.fchown(descriptor, *self.identity.owner)
        finally:
            os.close(descriptor)

    def _wait_until_ready(self, pid: int, *, until: float, promote: bool) -> None:
        pause = 0.002
        while True:
            note = read_pid_file(self.data_directory)
            if note is not None and note.pid == pid:
                if note.accepting:
                    return
                if promote and note.recovering:
                    self._ask_to_promote()
            if not is_alive(pid):
                raise ServerUnavailable(f"The PostgreSQL server ended while it started: {self._last_words()}")
            if time.monotonic() >= until:
                self.stop(StopMode.FAST, deadline=10)
                raise ServerUnavailable(
                    f"The PostgreSQL server was not ready in time, and was stopped again: {self.log_tail()}",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _ask_to_promote(self) -> None:
        """As pg_ctl does. Asked again and again: a server that has not begun to recover takes no notice of it."""
        if not (self.data_directory / PROMOTE_FILE).exists():
            publish(self.data_directory / PROMOTE_FILE, b"", owner=self.identity.owner, durable=False)
        with hold_postmaster(self.data_directory) as process:
            if process is not None:
                process.send(signal.SIGUSR1)

    def _end_leftovers(self, until: float) -> None:
        """End what a killed server left behind: as long as it lives, a new one cannot start."""
        for pid in server_processes(self.data_directory):
            with hold_process(pid, data_directory=self.data_directory) as process:
                # They notice by themselves that their server is gone, normally within milliseconds.
                if process is not None and not process.wait(min(1.0, until - time.monotonic())):
                    process.send(signal.SIGKILL)
                    process.wait(max(until - time.monotonic(), 1.0))

    def log_tail(self) -> str:
        """The last lines of the server's newest log, for an error message; never empty."""
        try:
            newest = self._newest_log()
            with newest.open("rb") as file:
                file.seek(max(newest.stat().st_size - _LOG_TAIL_BYTES, 0))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except (OSError, ValueError):
            return "(it wrote no log)"
        return " | ".join(line.strip() for line in lines[-8:]) or "(it wrote no log)"

    def _last_words(self) -> str:
        """The end of the log of a server that has ended; its log collector outlives it until all is written."""
        until = time.monotonic() + _COLLECTOR_SECONDS
        while server_processes(self.data_directory) and time.monotonic() < until:
            time.sleep(_LONGEST_PAUSE)
        return self.log_tail()

    def _newest_log(self) -> Path:
        """The one written last that is not empty. Raises ValueError when there is none, or OSError."""
        logs = [
            path
            for path in self.log_directory.glob("*.log")
            if path.name.startswith(_LOG_PREFIXES) and path.stat().st_size
        ]
        # The clock of file systems is coarse: of two at the same time, the collector's is the later one.
        return max(logs, key=lambda path: (path.stat().st_mtime_ns, path.name != _START_LOG))

    # --- while its files arrive -----------------------------------------------------------------------------

    def announce_arrival(self, note: bytes) -> None:
        """What `begin_arrival` will say, as long as nothing is there that a server could start on.

        Durable with whatever else is made there. Raises DiskFull, PermissionMissing or OperatorError.
        """
        publish(self.data_directory / ARRIVAL_FILE, note, owner=self.identity.owner, durable=False)

    def begin_arrival(self, note: bytes, *, durable: bool = True) -> None:
        """From now on the directory is known to be half there, and no server is started on it in any other way
        than with its hydrator's descriptor: not even by PostgreSQL's own tools.

        `note` says how to go on after a crash. Not `durable` when the whole directory is made so later, before a
        server starts there. Raises DiskFull, PermissionMissing or OperatorError.
        """
        if durable or self.arrival_note() != note:
            publish(self.data_directory / ARRIVAL_FILE, note, owner=self.identity.owner, durable=durable)
        self._write_fixed_files(durable=durable)

    def arrival_note(self) -> bytes | None:
        """What `begin_arrival` was given, until the last file has arrived."""
        with translating_os_errors("looking at the data directory"):
            try:
                return (self.data_directory / ARRIVAL_FILE).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def end_arrival(self) -> None:
        """All files are there, and durable: the directory is like any other."""
        remove(self.data_directory / ARRIVAL_FILE)
        self._write_fixed_files()

    # --- running --------------------------------------------------------------------------------------------

    def adopt(self) -> int | None:
        """The pid of the running server of this directory, whoever started it, or None."""
        with hold_postmaster(self.data_directory) as process:
            return process.pid if process is not None else None

    def takes_connections(self) -> bool:
        """Whether its server runs and has left recovery."""
        note = read_pid_file(self.data_directory)
        return note is not None and note.accepting and self.adopt() is not None

    def status(self) -> ClusterStatus:
        """What this directory is at this moment. Raises what read_control_file raises."""
        if (pid := self.adopt()) is not None:
            return ClusterStatus(state=ClusterState.RUNNING, pid=pid)
        with translating_os_errors("looking at the data directory"):
            if not (self.data_directory / CONTROL_FILE).exists():
                return ClusterStatus(state=ClusterState.ABSENT)
        clean = read_control_file(self.data_directory).cleanly_stopped
        stale = (self.data_directory / PID_FILE).exists()
        return ClusterStatus(state=ClusterState.STOPPED if clean and not stale else ClusterState.CRASHED)

    def reload(self) -> None:
        """Make the running server read its settings and access files again. Raises ServerUnavailable."""
        with hold_postmaster(self.data_directory) as process:
            if process is None:
                raise ServerUnavailable("The server does not run, so it cannot be told to read its settings")
            process.send(signal.SIGHUP)

    # --- stopping -------------------------------------------------------------------------------------------

    def stop(self, mode: StopMode = StopMode.FAST, *, deadline: float = 60) -> None:
        """End the server, and return when none of its processes is left. Nothing happens when none runs.

        When it lives after half of `deadline` seconds it is asked more firmly: fast, immediate, killed.
        Raises ServerUnavailable when it lives even then.
        """
        until = time.monotonic() + deadline
        with hold_postmaster(self.data_directory) as process:
            if process is not None:
                _stop_process(process, mode, deadline=deadline)
        self._end_leftovers(max(until, time.monotonic() + 5))
        self._forget_server()

    def _forget_server(self) -> None:
        """Remove the notes of a killed server.

        PostgreSQL takes any process that has the noted pid for the old server, also a stranger that got the
        number, or an ended one that nobody collected, and would refuse to start.
        """
        with translating_os_errors("removing what the last server left"):
            if self.adopt() is None:
                (self.data_directory / PID_FILE).unlink(missing_ok=True)
            lock = self.socket_path.with_name(self.socket_path.name + ".lock")
            if _is_stale(lock):
                lock.unlink(missing_ok=True)
                self.socket_path.unlink(missing_ok=True)


_HARDER = {
    StopMode.FAST: (StopMode.FAST, StopMode.IMMEDIATE, StopMode.KILL),
    StopMode.IMMEDIATE: (StopMode.IMMEDIATE, StopMode.KILL),
    StopMode.KILL: (StopMode.KILL,),
}


def _stop_process(process: ServerProcess, mode: StopMode, *, deadline: float) -> None:
    patience = deadline / 2
    for step in _HARDER[mode]:
        process.send(step.value)
        if process.wait(patience):
            return
        patience = max(patience / 2, 1.0)
    raise ServerUnavailable(f"The server process {process.pid} did not end, although it was killed")


def _is_stale(lock: Path) -> bool:
    """Whether the server that wrote this socket lock (its pid, its data directory) has ended."""
    try:
        lines = lock.read_text(errors="replace").splitlines()
        pid, data_directory = int(lines[0]), Path(lines[1])
    except FileNotFoundError:
        return False
    except (IndexError, ValueError):
        return True
    with hold_process(pid, data_directory=data_directory) as process:
        return process is None


def short_socket_directory(preferred: Path, *, identity: ServerIdentity) -> Path:
    """`preferred` when a socket in it has a legal path, else a short directory that stands for it.

    The stand-in is the same at every call, and lies where only root or ourselves may create entries.
    """
    if len(os.fsencode(preferred / f".s.PGSQL.{SOCKET_PORT}")) <= _SOCKET_PATH_LIMIT:
        return preferred
    name = hashlib.blake2b(os.fsencode(preferred.absolute()), digest_size=9).hexdigest()
    if identity.switch:
        return Path("/run/stillframe") / name
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    # Whoever connects checks the owner of the socket, so a directory all can write to is good enough.
    base = Path(runtime) if runtime else Path(tempfile.gettempdir()) / f"stillframe-{identity.uid}"
    return base / "stillframe" / name

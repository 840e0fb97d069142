"""What is known of a directory whose files are still arriving, and ending its processes in the right order."""

import fcntl
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec
import structlog

from stillframe.errors import Conflict, ServerUnavailable
from stillframe.hydration import HydrationStatus, HydratorClient
from stillframe.postgres.cluster import Cluster, StopMode
from stillframe.service.local_bases import BaseNote
from stillframe.system import translating_os_errors

log = structlog.get_logger(__name__)

HYDRATOR_TITLE = "stillframe.app.hydrator"
"""How the process calls itself."""

_END_SECONDS = 30.0
_PATIENCE_SECONDS = 10.0
_TURN_SECONDS = 2.0
_POLL_SECONDS = 0.002


class ArrivalNote(msgspec.Struct, frozen=True, kw_only=True):
    """In a half-arrived directory: where its files come from. `boot_id` names the machine's run it was armed in.

    `layout_id` tells this making of the directory from an earlier one under the same name. `base` has some of its
    pages, perhaps.
    """

    version: int = 1
    layout_id: uuid.UUID
    region: str
    pin_id: uuid.UUID
    boot_id: str
    background: bool
    base: BaseNote | None = None

    def relies_on(self, cluster: Cluster) -> bool:
        """Whether that cluster's files are the ones that have some of the pages, and for long enough."""
        base = self.base
        return (
            self.background and base is not None and str(base.incarnation_id) == cluster.data_directory.name
        )


def arrival_note(cluster: Cluster) -> ArrivalNote | None:
    """The note in a half-arrived directory; None for any other."""
    raw = cluster.arrival_note()
    return None if raw is None else msgspec.json.decode(raw, type=ArrivalNote)


def remember_boot(cluster: Cluster, boot_id: str) -> None:
    """In this run of the machine every page that is there has been looked at. For the hydrator, before it ends."""
    note = arrival_note(cluster)
    if note is not None and note.boot_id != boot_id:
        cluster.begin_arrival(msgspec.json.encode(msgspec.structs.replace(note, boot_id=boot_id)))


def hydrator_of(cluster: Cluster) -> HydratorClient:
    """The client of the process that brings this cluster's files; whether there is one, calls tell."""
    return HydratorClient(control_socket(cluster))


def control_socket(cluster: Cluster) -> Path:
    """Where that process listens."""
    return cluster.socket_directory / "hydrator.sock"


def hydration_status(cluster: Cluster) -> HydrationStatus | None:
    """How far it is; None when everything is there, or nobody brings anything at this moment."""
    if cluster.arrival_note() is not None:
        with suppress(ServerUnavailable):
            return hydrator_of(cluster).status()
    return None


def is_orphaned(cluster: Cluster) -> bool:
    """Whether files are arriving and nobody brings them. One who does not answer still brings them, or will."""
    if cluster.arrival_note() is None:
        return False
    with suppress(Conflict), _locked(cluster, shared=True):
        # Asked again only now: the hydrator ends when everything has arrived.
        return cluster.arrival_note() is not None
    return False


def end_orphaned(cluster: Cluster) -> None:
    """Kill the server of an orphaned directory: it can only wait for ever, for nobody answers its accesses.

    Nobody else may read in there until every file is marked again, which the next start does.
    """
    if is_orphaned(cluster) and cluster.adopt() is not None:
        log.error("hydrator_is_gone", directory=str(cluster.data_directory))
        cluster.stop(StopMode.KILL)


def stop_cluster(cluster: Cluster, mode: StopMode = StopMode.FAST) -> None:
    """End a server and, when its files are arriving, then the hydrator. Raises as `Cluster.stop`."""
    end_orphaned(cluster)
    cluster.stop(mode)
    if cluster.arrival_note() is not None:
        _stop_hydrator(cluster, patience=_PATIENCE_SECONDS if mode is StopMode.FAST else 0)


def _stop_hydrator(cluster: Cluster, *, patience: float) -> None:
    """Return when nobody brings anything any more, also who had only just begun. Raises ServerUnavailable.

    There is no server that could read what it leaves: one that does not stop in time when it is asked is killed.
    """
    began = time.monotonic()
    while (waited := time.monotonic() - began) < _END_SECONDS:
        if is_orphaned(cluster) or cluster.arrival_note() is None:
            return
        if waited >= patience:
            _kill_hydrator(cluster)
        else:
            with suppress(ServerUnavailable):
                hydrator_of(cluster).stop()
        time.sleep(_POLL_SECONDS)
    raise ServerUnavailable(f"The hydrator of {cluster.data_directory} did not end within {_END_SECONDS:g} s")


def _kill_hydrator(cluster: Cluster) -> None:
    with suppress(OSError, ValueError):
        pid = int(_pid_file(cluster).read_text())
        if HYDRATOR_TITLE in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)


@contextmanager
def sole_hydrator(cluster: Cluster) -> Iterator[None]:
    """For the length of the block this process alone brings files into the directory. Raises Conflict.

    Two of them would each fill a page once: the second time over what the server has made of it.
    """
    deadline = time.monotonic() + _TURN_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(_locked(cluster, shared=False))
                break
            except Conflict:
                # Perhaps somebody only looks.
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
        _pid_file(cluster).write_text(str(os.getpid()))
        yield


@contextmanager
def _locked(cluster: Cluster, *, shared: bool) -> Iterator[None]:
    """The lock that a hydrator holds as long as it lives, on the directory itself. Raises Conflict."""
    with translating_os_errors("locking the directory"):
        try:
            descriptor = os.open(cluster.data_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Conflict(f"The directory {cluster.data_directory} is gone") from None
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Somebody brings files into {cluster.data_directory} already") from None
        yield
    finally:
        os.close(descriptor)


def _pid_file(cluster: Cluster) -> Path:
    return cluster.socket_directory / "hydrator.pid"

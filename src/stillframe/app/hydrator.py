"""The process that brings the files of one restored directory while its server runs already.

It belongs to nobody: it goes on when the service ends or is killed, until everything is there or it is told to stop.
"""

import gc
import os
import signal
import sys
import time
from pathlib import Path

import msgspec
import structlog
from setproctitle import setproctitle

from stillframe.app.clock import clock_for
from stillframe.backup.arrival import SnapshotSource
from stillframe.config import Settings
from stillframe.domain.identifiers import parse_region
from stillframe.errors import Conflict
from stillframe.hydration import Hydrator, Surroundings, prepare_descriptors
from stillframe.kms.opening import key_management
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.control import CONTROL_FILE
from stillframe.postgres.machine import Machine, find_machine, namespace_cluster
from stillframe.postgres.wal_activity import WalActivity
from stillframe.service.arrivals import (
    HYDRATOR_TITLE,
    ArrivalNote,
    arrival_note,
    remember_boot,
    sole_hydrator,
)
from stillframe.service.hydrations import HydratorOrder
from stillframe.service.local_bases import files_of_base
from stillframe.service.repositories import Repositories
from stillframe.telemetry.logging import configure_logging

log = structlog.get_logger(__name__)

_FILES_SECONDS = 600.0
_SWITCH_SECONDS = 0.0005
_OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""A plan makes so many and drops them by itself: looking through them for garbage took as long as making them."""


def main() -> int:
    """The hydrator as a program of its own: settings and order come as two lines of standard input."""
    # What is imported stays: no collection of garbage has to go through it.
    gc.freeze()
    settings = Settings.model_validate_json(sys.stdin.buffer.readline())
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=HydratorOrder)
    configure_logging(settings.log_level, json=settings.log_json)
    machine = find_machine(settings.postgres_bin, server_user=settings.server_user)
    return hydrate(machine, settings, order)


def hydrate(machine: Machine, settings: Settings, order: HydratorOrder) -> int:
    """Bring the files of a directory; 0 when all are there, 1 when it was told to stop before, or is not needed."""
    setproctitle(f"{HYDRATOR_TITLE} --data {settings.data} {order.incarnation_id}")
    # An access that waits must not wait for a thread that computes, too: the interpreter's 5 ms add up.
    sys.setswitchinterval(_SWITCH_SECONDS)
    prepare_descriptors()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    # Its server needs it until the very end, and says when that is.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cluster = namespace_cluster(settings, machine, order.namespace_id, order.incarnation_id)
    _log_to_file(cluster)
    try:
        with sole_hydrator(cluster):
            return _hydrate(settings, order, cluster)
    except Conflict as error:
        log.info("hydrator_not_needed", reason=error.message)
        return 1


def _hydrate(settings: Settings, order: HydratorOrder, cluster: Cluster) -> int:
    note = _note(cluster, order)
    clock = clock_for(settings.clock_offset_file)
    repository = Repositories(settings, key_management(settings, clock), clock).of(parse_region(order.region))
    with (
        repository.open_pinned(order.pin_id) as reader,
        files_of_base(settings, note.base, kept_for=cluster.data_directory) as local,
    ):
        server_writes = WalActivity(cluster.data_directory)
        if local is not None:
            local.read_ahead = lambda: not server_writes()
        source = SnapshotSource(reader.beside(local))
        hydrator = Hydrator(
            cluster.data_directory,
            source,
            control=Path(order.control),
            page_is_whole=source.page_is_whole,
            # One waits for the disk while the others decode.
            threads=settings.copy_threads + 1,
            surroundings=Surroundings(
                local_bytes=lambda: 0 if local is None else local.taken_bytes,
                server_writes=server_writes,
            ),
        )
        hydrator.arm(check_pages=order.check_pages, is_made=_Making(cluster, order))
        remember_boot(cluster, order.boot_id)
        log.info("hydration_armed", incarnation=str(order.incarnation_id), pid=os.getpid())
        complete = hydrator.run(on_complete=cluster.end_arrival)
    if complete:
        repository.unpin(order.pin_id)
        status = hydrator.status()
        log.info(
            "hydration_complete",
            incarnation=str(order.incarnation_id),
            fetched_bytes=status.fetched_bytes,
            local_bytes=status.local_bytes,
        )
    return 0 if complete else 1


def _note(cluster: Cluster, order: HydratorOrder) -> ArrivalNote:
    note = arrival_note(cluster)
    if note is None or note.layout_id != order.layout_id:
        # Asked for by a process that was killed then; the directory has been made anew since.
        raise Conflict("The directory is no longer the one that was to be brought")
    return note


class _Making:
    """Whether every file has been made: this process is started while that goes on, and pg_control comes last.

    Raises Conflict when the directory is no longer the one, or was not finished in time.
    """

    def __init__(self, cluster: Cluster, order: HydratorOrder) -> None:
        self._cluster = cluster
        self._order = order
        self._until = time.monotonic() + _FILES_SECONDS

    def __call__(self) -> bool:
        done = (self._cluster.data_directory / CONTROL_FILE).exists()
        _note(self._cluster, self._order)
        if not done and time.monotonic() > self._until:
            raise Conflict("The directory was not finished")
        return done


def _log_to_file(cluster: Cluster) -> None:
    """Beside the server's log: whoever reads our parent's standard error may be gone long before us."""
    cluster.identity.make_directory(cluster.log_directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(cluster.log_directory / "hydrator.log", flags, 0o600)
    os.dup2(descriptor, 2)
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())

"""Beginning and resuming the arrival of files under a running server, and noticing when nobody brings them any more.

The order that keeps zeros from being read as pages (docs/explanation/instant-restore.md): every file is marked
before a server starts, the server holds the marks' group for as long as it lives, and a server whose hydrator is
gone is killed before anything begins anew.
"""

import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from stillframe.backup.local_clone import clone_problem
from stillframe.backup.restore import Arrival
from stillframe.config import RestoreStrategy
from stillframe.domain.identifiers import parse_region
from stillframe.domain.snapshot import Snapshot
from stillframe.errors import ServerUnavailable, StillframeError, Unsupported
from stillframe.hydration import HydrationStatus, Probe
from stillframe.postgres.cluster import ARRIVAL_FILE, Cluster, StopMode
from stillframe.postgres.control import CONTROL_FILE
from stillframe.postgres.machine import Machine, namespace_cluster
from stillframe.postgres.postmaster import is_alive
from stillframe.service.arrivals import (
    ArrivalNote,
    arrival_note,
    control_socket,
    end_orphaned,
    hydration_status,
    hydrator_of,
    is_orphaned,
)
from stillframe.service.foundation import Foundation
from stillframe.service.local_bases import BaseNote, drop_base, free_bytes, is_needed, kept_bases
from stillframe.service.repositories import Repositories
from stillframe.service.room import RESERVE

log = structlog.get_logger(__name__)

_ARMING_SECONDS = 600.0
_POLL_SECONDS = 0.002
_TURNS = 64


class Strategy(StrEnum):
    """How the files of a restore come: while the server runs, or before it starts as clones or as copies."""

    HYDRATION = "hydration"
    REFLINK = "reflink"
    EAGER = "eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A strategy, and a sentence that says why. `doubt` is in one word why files were not cloned, if that was tried."""

    strategy: Strategy
    reason: str
    doubt: str = ""


class HydratorOrder(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a hydrator process is started with: its socket, and the machine's run.

    `check_pages` is for the first time in a run of the machine: what was written in the last one may be lost.
    """

    namespace_id: uuid.UUID
    incarnation_id: uuid.UUID
    layout_id: uuid.UUID
    region: str
    pin_id: uuid.UUID
    control: str
    boot_id: str
    check_pages: bool


class HydratorLauncher(Protocol):
    """Starts hydrator processes, which outlive this one."""

    def launch(self, order: HydratorOrder) -> int:
        """Start one, which answers at its control socket soon; its pid. Raises ServerUnavailable."""
        ...

    def probe(self, directory: Path) -> Probe:
        """Whether one could bring files into this directory, which exists."""
        ...


class Hydrations:
    """Safe to use from several threads of the one process that starts servers."""

    def __init__(
        self,
        foundation: Foundation,
        machine: Machine,
        repositories: Repositories,
        launcher: HydratorLauncher,
    ) -> None:
        self._base = foundation
        self._machine = machine
        self._repositories = repositories
        self._launcher = launcher
        self._probed: dict[int, Chosen] = {}
        self._pins = threading.Lock()
        self._turns = tuple(threading.Lock() for _ in range(_TURNS))

    def strategy(self, directory: Path) -> Chosen:
        """How files come to this directory, which exists. Raises Unsupported when the settings want what cannot be."""
        wanted = self._base.settings.restore_strategy
        if wanted is RestoreStrategy.EAGER:
            return Chosen(strategy=Strategy.EAGER, reason="The settings say so.")
        device = directory.stat().st_dev
        if device not in self._probed:
            chosen = self._probed[device] = self._try(directory, wanted)
            log.info("restore_strategy", strategy=chosen.strategy.value, reason=chosen.reason)
        return self._probed[device]

    def _try(self, directory: Path, wanted: RestoreStrategy) -> Chosen:
        if wanted is not RestoreStrategy.REFLINK:
            found = self._launcher.probe(directory)
            if found.supported:
                return Chosen(strategy=Strategy.HYDRATION, reason=found.reason)
            if wanted is RestoreStrategy.HYDRATION:
                raise Unsupported(f"Restores by hydration are not possible here: {found.reason}")
        problem = clone_problem(directory)
        if problem is None:
            return Chosen(strategy=Strategy.REFLINK, reason="Files can be cloned here.")
        if wanted is RestoreStrategy.REFLINK:
            raise Unsupported(
                f"Restores by reflinks are not possible here: files can not be cloned ({problem})"
            )
        return Chosen(strategy=Strategy.EAGER, reason=f"{found.reason} Files can not be cloned ({problem}).")

    def arrival(
        self, snapshot: Snapshot, cluster: Cluster, *, background: bool, base: BaseNote | None
    ) -> Arrival:
        """What is said of this cluster's directory, which exists already, and what is done while its files are made.

        That is to keep the snapshot's content for it, and to start its hydrator, which waits for the files.
        """
        note = ArrivalNote(
            layout_id=self._base.new_id(),
            region=snapshot.region,
            pin_id=uuid.UUID(cluster.data_directory.name),
            boot_id=_boot_id(),
            background=background,
            base=base,
        )
        prepare = partial(self._prepare, snapshot, cluster, note)
        return Arrival(note=msgspec.json.encode(note), prepare=prepare)

    def _prepare(self, snapshot: Snapshot, cluster: Cluster, note: ArrivalNote) -> None:
        with self._pins:
            self._repositories.of(snapshot.region).pin_snapshot(snapshot.id, pin_id=note.pin_id)
        with self._turn_on(cluster):
            self._begin(cluster, note)

    @contextmanager
    def held(self, cluster: Cluster) -> Iterator[tuple[int, ...]]:
        """What a server of this directory has to inherit: the descriptor of its hydrator's group, if it needs one.

        A hydrator is started when there is none; every file is marked then. Raises ServerUnavailable.
        """
        descriptor = self._descriptor(cluster)
        try:
            yield () if descriptor is None else (descriptor,)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def bring_rest(self, cluster: Cluster) -> None:
        """Have what nobody asks for come, too, if it is to; asked again it changes nothing."""
        note = arrival_note(cluster)
        if note is not None and note.background and cluster.takes_connections():
            with suppress(ServerUnavailable):
                # It does not answer at this moment: it is asked again at the next look.
                hydrator_of(cluster).background()

    def forget(self, note: ArrivalNote | None) -> None:
        """The directory is gone: its snapshot's content is needed no longer. What fails is left to a sweep."""
        if note is None:
            return
        try:
            with self._pins:
                self._repositories.of(parse_region(note.region)).unpin(note.pin_id)
        except StillframeError as error:
            log.warning("pin_left", pin=str(note.pin_id), kind=error.kind, reason=error.message)

    def statuses(self) -> Iterator[HydrationStatus | None]:
        """How far every half-arrived directory is; None for one that nobody brings anything to."""
        return (hydration_status(cluster) for cluster in self._arriving())

    def watch(self) -> None:
        """Every few seconds: servers whose hydrators are gone are ended, and beside those that run the rest comes."""
        for cluster in self._arriving():
            try:
                self._look_at(cluster)
            except StillframeError as error:
                log.warning("half_arrived_directory", kind=error.kind, reason=error.message)
        try:
            self._look_at_bases()
        except StillframeError as error:
            log.warning("replaced_directory_left", kind=error.kind, reason=error.message)

    def sweep(self) -> None:
        """Remove pins that nothing needs any more; a crash may have left some."""
        for region, repository in self._repositories.existing():
            try:
                for pin_id in list(repository.pin_ids()):
                    with self._pins:
                        if not self._needs(pin_id):
                            repository.unpin(pin_id)
            except StillframeError as error:
                log.warning("pins_not_swept", region=region, kind=error.kind, reason=error.message)

    def _look_at_bases(self) -> None:
        """What was replaced goes when everything has arrived, or earlier, when what is still to come needs its room."""
        paths = self._base.settings.paths
        bases = list(kept_bases(paths))
        short = bool(bases) and free_bytes(paths) < self._missing_bytes() + RESERVE
        for base in bases:
            needed = is_needed(paths, base)
            if short or not needed:
                log.info("replaced_directory_goes", kept_for=str(base.kept_for), early=needed)
                drop_base(paths, base, trash_name=str(self._base.new_id()))

    def _missing_bytes(self) -> int:
        return sum(status.missing_bytes for status in self.statuses() if status is not None)

    def _look_at(self, cluster: Cluster) -> None:
        lock = self._turn_on(cluster)
        # Whoever holds it is about to start a hydrator there.
        if lock.acquire(blocking=False):
            try:
                end_orphaned(cluster)
            finally:
                lock.release()
            self.bring_rest(cluster)

    def _turn_on(self, cluster: Cluster) -> threading.Lock:
        """The lock under which a hydrator is begun there, or its absence dealt with. Some directories share one."""
        return self._turns[hash(cluster.data_directory) % _TURNS]

    def _needs(self, pin_id: uuid.UUID) -> bool:
        """Whether a directory is being made from it, or its files are still arriving.

        The directory is there before its pin, and has its note before its pg_control.
        """
        found = list((self._base.settings.paths.root / "namespaces").glob(f"*/{pin_id}"))
        return any((path / ARRIVAL_FILE).exists() or not (path / CONTROL_FILE).exists() for path in found)

    def _arriving(self) -> Iterator[Cluster]:
        settings = self._base.settings
        for path in sorted((settings.paths.root / "namespaces").glob(f"*/*/{ARRIVAL_FILE}")):
            ids = uuid.UUID(path.parent.parent.name), uuid.UUID(path.parent.name)
            yield namespace_cluster(settings, self._machine, *ids)

    def _descriptor(self, cluster: Cluster) -> int | None:
        """The hydrator's, of one that is started when there is none; None when everything has arrived."""
        if cluster.arrival_note() is None:
            return None
        with suppress(ServerUnavailable):
            return hydrator_of(cluster).descriptor()
        # Asked again only now: the hydrator ends when everything has arrived.
        if (note := arrival_note(cluster)) is None:
            return None
        with self._turn_on(cluster):
            if is_orphaned(cluster):
                # Nobody may be in there while everything is marked anew.
                cluster.stop(StopMode.KILL)
                self._begin(cluster, note)
            return _awaited_descriptor(cluster)

    def _begin(self, cluster: Cluster, note: ArrivalNote) -> None:
        """Start a hydrator, and wait until it has its turn."""
        pid = self._launch(cluster, note)
        while is_orphaned(cluster):
            if not is_alive(pid):
                raise ServerUnavailable(f"The hydrator of {cluster.data_directory} ended as it began")
            time.sleep(_POLL_SECONDS)

    def _launch(self, cluster: Cluster, note: ArrivalNote) -> int:
        boot_id = _boot_id()
        order = HydratorOrder(
            namespace_id=uuid.UUID(cluster.data_directory.parent.name),
            incarnation_id=uuid.UUID(cluster.data_directory.name),
            layout_id=note.layout_id,
            region=note.region,
            pin_id=note.pin_id,
            control=str(control_socket(cluster)),
            boot_id=boot_id,
            check_pages=boot_id != note.boot_id,
        )
        cluster.identity.make_directory(cluster.socket_directory, mode=0o711)
        return self._launcher.launch(order)


def _awaited_descriptor(cluster: Cluster) -> int | None:
    """The descriptor, as soon as every file is marked; None when there is nothing left to bring."""
    deadline = time.monotonic() + _ARMING_SECONDS
    while time.monotonic() < deadline:
        with suppress(ServerUnavailable):
            return hydrator_of(cluster).descriptor()
        if cluster.arrival_note() is None:
            return None
        if is_orphaned(cluster):
            raise ServerUnavailable(
                f"The hydrator of {cluster.data_directory} ended before every file was marked",
                hint="Its log, hydrator.log beside the server's, says why.",
            )
        time.sleep(_POLL_SECONDS)
    raise ServerUnavailable(
        f"The hydrator of {cluster.data_directory} has not marked every file within {_ARMING_SECONDS:g} s"
    )


def _boot_id() -> str:
    """Another one after every start of the machine (proc_sys_kernel(5))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

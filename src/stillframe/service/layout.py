"""Bringing a snapshot up as a running cluster, by hydration where that is possible: what every restore begins with."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from stillframe.backup.parallel import beside
from stillframe.backup.restore import Arrival, lay_out, restore, restore_from_base, start_restored
from stillframe.domain.namespace import Incarnation, Namespace
from stillframe.domain.snapshot import Snapshot
from stillframe.hydration.filesystem import sync_file_system
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.machine import Machine, namespace_cluster
from stillframe.postgres.settings import ServerSettings
from stillframe.postgres.wal_summaries import SummariesUnusable
from stillframe.repository import SnapshotFacts, SnapshotReader
from stillframe.service.foundation import Foundation
from stillframe.service.hydrations import Chosen, Hydrations, Strategy
from stillframe.service.jobs.watch import Watch
from stillframe.service.local_bases import clone_base, files_of_base, find_bases, note_of
from stillframe.service.repositories import Repositories

log = structlog.get_logger(__name__)

_CLONED = "Files were cloned from databases on this machine that go on from the snapshot."
_NO_BASE = "Nothing on this machine goes on from the snapshot."
_NO_CHECKSUMS = (
    "The snapshot has no page checksums, so after a crash nobody could tell which pages had arrived whole."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """How the files of a directory came or will come; `local_bytes` had not to be fetched so far."""

    chosen: Chosen
    local_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtUp:
    """A snapshot that runs: on its own `timeline`, with all its files or with those that arrive meanwhile."""

    facts: SnapshotFacts
    timeline: int
    laid: Laid


class Layouts:
    """Makes data directories out of snapshots and starts servers on them."""

    def __init__(
        self, foundation: Foundation, machine: Machine, repositories: Repositories, hydrations: Hydrations
    ) -> None:
        self._base = foundation
        self._machine = machine
        self._repositories = repositories
        self._hydrations = hydrations

    def bring_up(
        self,
        snapshot: Snapshot,
        cluster: Cluster,
        settings: ServerSettings,
        watch: Watch,
        *,
        replaces: Namespace | None = None,
    ) -> BroughtUp:
        """The snapshot as this cluster, which has no files yet, running.

        Of one that `replaces` a namespace's databases also arrives what nobody asks for, and what this machine has of
        it is not fetched. Any other comes from the repository, as far as it is needed. Raises what `restore`,
        `lay_out` and `start_restored` raise.
        """
        cluster.prepare_parent()
        cluster.identity.make_directory(cluster.data_directory)
        with self._repositories.of(snapshot.region).open_snapshot(snapshot.id) as reader:
            facts = reader.document.facts
            chosen, bases = self._chosen(facts, cluster), self._find_bases(replaces, facts)
            if chosen.strategy is Strategy.HYDRATION:
                background = replaces is not None and self._base.settings.hydrate_in_background
                arrival = self._hydrations.arrival(
                    snapshot, cluster, background=background, base=note_of(bases[0]) if bases else None
                )
                self._lay_out(reader, cluster, watch, arrival=arrival)
                laid = Laid(chosen=chosen)
            else:
                laid = self._lay_whole(reader, cluster, watch, chosen=chosen, bases=bases)
        watch.progress.begin("starting")
        # A private copy is worth nothing after a power cut.
        sync = replaces is not None and chosen.strategy is Strategy.HYDRATION
        with (
            beside(partial(_make_durable, cluster) if sync else _nothing) as made_durable,
            self._hydrations.held(cluster) as inherited,
        ):
            timeline = self._timeline(facts)
            made_durable()
            start_restored(cluster, facts, timeline=timeline, settings=settings, inherited=inherited)
        return BroughtUp(facts=facts, timeline=timeline, laid=laid)

    def bring_rest(self, cluster: Cluster) -> None:
        """What nobody asks for may come now, too: the server takes connections. Nothing when all is there."""
        self._hydrations.bring_rest(cluster)

    def _chosen(self, facts: SnapshotFacts, cluster: Cluster) -> Chosen:
        if not facts.postgres.data_checksum_version:
            return Chosen(strategy=Strategy.EAGER, reason=_NO_CHECKSUMS)
        return self._hydrations.strategy(cluster.data_directory)

    def _find_bases(self, replaces: Namespace | None, facts: SnapshotFacts) -> Sequence[Incarnation]:
        if replaces is None:
            return ()
        with self._base.catalog.transaction() as transaction:
            return find_bases(transaction, replaces, facts)

    def _lay_out(self, reader: SnapshotReader, cluster: Cluster, watch: Watch, *, arrival: Arrival) -> None:
        lay_out(
            reader,
            cluster,
            arrival=arrival,
            threads=self._base.settings.copy_threads,
            progress=watch.progress,
            cancel=watch.cancel,
        )

    def _lay_whole(
        self,
        reader: SnapshotReader,
        cluster: Cluster,
        watch: Watch,
        *,
        chosen: Chosen,
        bases: Sequence[Incarnation],
    ) -> Laid:
        """All files, by clones if that was chosen and is possible without doubt, and by copies otherwise."""
        doubts: list[SummariesUnusable] = []
        for base in bases if chosen.strategy is Strategy.REFLINK else ():
            try:
                return self._clone(reader, cluster, watch, base=base)
            except SummariesUnusable as doubt:
                log.warning("files_not_cloned", base=str(base.id), reason=str(doubt))
                doubts.append(doubt)
        if chosen.strategy is Strategy.REFLINK:
            chosen = _without_clones(doubts)
        return self._copy(reader, cluster, watch, chosen=chosen, base=bases[0] if bases else None)

    def _clone(self, reader: SnapshotReader, cluster: Cluster, watch: Watch, *, base: Incarnation) -> Laid:
        runs_at = namespace_cluster(self._base.settings, self._machine, base.namespace_id, base.id)
        taken = restore_from_base(
            reader,
            cluster,
            clone_base(runs_at, base),
            threads=self._base.settings.copy_threads,
            progress=watch.progress,
            cancel=watch.cancel,
        )
        return Laid(chosen=Chosen(strategy=Strategy.REFLINK, reason=_CLONED), local_bytes=taken)

    def _copy(
        self,
        reader: SnapshotReader,
        cluster: Cluster,
        watch: Watch,
        *,
        chosen: Chosen,
        base: Incarnation | None,
    ) -> Laid:
        note = note_of(base) if base is not None else None
        with files_of_base(self._base.settings, note, kept_for=cluster.data_directory) as local:
            restore(
                reader.beside(local),
                cluster.data_directory,
                identity=cluster.identity,
                threads=self._base.settings.copy_threads,
                progress=watch.progress,
                cancel=watch.cancel,
            )
            return Laid(chosen=chosen, local_bytes=0 if local is None else local.taken_bytes)

    def _timeline(self, facts: SnapshotFacts) -> int:
        with self._base.catalog.transaction() as transaction:
            return transaction.take_timeline(facts.postgres.system_identifier, facts.timeline + 1)


def _make_durable(cluster: Cluster) -> None:
    sync_file_system(cluster.data_directory)


def _nothing() -> None:
    """No file has to last."""


def _without_clones(doubts: Sequence[SummariesUnusable]) -> Chosen:
    if not doubts:
        return Chosen(strategy=Strategy.EAGER, reason=_NO_BASE, doubt="no_base")
    reason = f"Databases on this machine could not be cloned: {str(doubts[0]).rstrip('.')}."
    return Chosen(strategy=Strategy.EAGER, reason=reason, doubt=doubts[0].doubt.value)

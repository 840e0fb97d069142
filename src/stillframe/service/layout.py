"""Bringing a snapshot up as a running cluster, by hydration where that is possible: what every restore begins with."""

from dataclasses import dataclass

from stillframe.backup.restore import lay_out, restore, start_restored
from stillframe.domain.snapshot import Snapshot
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.settings import ServerSettings
from stillframe.repository import SnapshotFacts, SnapshotReader
from stillframe.service.foundation import Foundation
from stillframe.service.hydrations import Hydrations, Strategy
from stillframe.service.jobs.watch import Watch
from stillframe.service.repositories import Repositories


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtUp:
    """A snapshot that runs: on its own `timeline`, with all its files or with those that arrive meanwhile."""

    facts: SnapshotFacts
    timeline: int
    strategy: Strategy


class Layouts:
    """Makes data directories out of snapshots and starts servers on them."""

    def __init__(self, foundation: Foundation, repositories: Repositories, hydrations: Hydrations) -> None:
        self._base = foundation
        self._repositories = repositories
        self._hydrations = hydrations

    def bring_up(
        self,
        snapshot: Snapshot,
        cluster: Cluster,
        settings: ServerSettings,
        watch: Watch,
        *,
        background: bool = True,
    ) -> BroughtUp:
        """The snapshot as this cluster, which has no files yet, running. `background` lets also arrive what
        nobody asks for.

        Raises what `restore`, `lay_out` and `start_restored` raise.
        """
        cluster.prepare_parent()
        cluster.identity.make_directory(cluster.data_directory)
        with self._repositories.of(snapshot.region).open_snapshot(snapshot.id) as reader:
            strategy = self._strategy(reader.document.facts, cluster)
            if strategy is Strategy.HYDRATION:
                self._lay_out(snapshot, reader, cluster, watch, background=background)
            else:
                self._restore(reader, cluster, watch)
            facts = reader.document.facts
        timeline = self._timeline(facts)
        watch.progress.begin("starting")
        with self._hydrations.held(cluster) as inherited:
            start_restored(cluster, facts, timeline=timeline, settings=settings, inherited=inherited)
        return BroughtUp(facts=facts, timeline=timeline, strategy=strategy)

    def _strategy(self, facts: SnapshotFacts, cluster: Cluster) -> Strategy:
        if not facts.postgres.data_checksum_version:
            # After a crash of the machine nobody could tell which pages had arrived whole.
            return Strategy.EAGER
        return self._hydrations.strategy(cluster.data_directory)

    def _lay_out(
        self, snapshot: Snapshot, reader: SnapshotReader, cluster: Cluster, watch: Watch, *, background: bool
    ) -> None:
        background = background and self._base.settings.hydrate_in_background
        note = self._hydrations.pin(snapshot.region, snapshot.id, cluster, background=background)
        lay_out(
            reader,
            cluster,
            note=note,
            threads=self._base.settings.copy_threads,
            progress=watch.progress,
            cancel=watch.cancel,
        )

    def _restore(self, reader: SnapshotReader, cluster: Cluster, watch: Watch) -> None:
        restore(
            reader,
            cluster.data_directory,
            identity=cluster.identity,
            threads=self._base.settings.copy_threads,
            progress=watch.progress,
            cancel=watch.cancel,
        )

    def _timeline(self, facts: SnapshotFacts) -> int:
        with self._base.catalog.transaction() as transaction:
            return transaction.take_timeline(facts.postgres.system_identifier, facts.timeline + 1)

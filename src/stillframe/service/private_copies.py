"""Snapshots opened for the service's own use: running, reachable over a private socket, gone afterwards.

Such a copy is an incarnation of its namespace that never becomes the current one and has no endpoint. It reaches
nothing outside (rule 35): no network, no archive, no replication, no scheduled work.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from stillframe.backup.restore import start_restored
from stillframe.domain.snapshot import Snapshot
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.settings import ServerSettings
from stillframe.service.foundation import Foundation
from stillframe.service.jobs.watch import Watch
from stillframe.service.layout import lay_out
from stillframe.service.repositories import Repositories
from stillframe.service.room import require_room
from stillframe.service.servers import Servers

_PRIVATE = {
    "autovacuum": "off",
    # Nothing that a user put into the databases acts by itself on what we do there.
    "event_triggers": "off",
    # After a power cut the copy is made anew.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "summarize_wal": "off",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPlace:
    """Below which namespace's directory a copy lies, and under what id: the same again after a crash."""

    namespace_id: uuid.UUID
    copy_id: uuid.UUID


class PrivateCopies:
    """Makes and removes private copies."""

    def __init__(self, foundation: Foundation, servers: Servers, repositories: Repositories) -> None:
        self._base = foundation
        self._servers = servers
        self._repositories = repositories

    @contextmanager
    def opened(self, snapshot: Snapshot, place: CopyPlace, watch: Watch) -> Iterator[Cluster]:
        """The snapshot, running, for the length of the block; whoever calls may change anything in it.

        What a crash left at this place is removed first. Raises what a restore raises.
        """
        self.remove(place)
        try:
            yield self._open(snapshot, place, watch)
        finally:
            self.remove(place)

    def remove(self, place: CopyPlace) -> None:
        """Stop and remove the copy at this place. Nothing happens when there is none."""
        self._servers.drop(place.namespace_id, place.copy_id)

    def _open(self, snapshot: Snapshot, place: CopyPlace, watch: Watch) -> Cluster:
        require_room(self._base.settings.paths.root, snapshot.logical_bytes or 0)
        cluster = self._servers.cluster(place.namespace_id, place.copy_id)
        with self._repositories.of(snapshot.region).open_snapshot(snapshot.id) as reader:
            timeline = lay_out(self._base, reader, cluster, watch)
            watch.progress.begin("opening the snapshot")
            start_restored(cluster, reader.document.facts, timeline=timeline, settings=self._settings())
        return cluster

    def _settings(self) -> ServerSettings:
        settings = self._servers.settings_for(None)
        return replace(settings, extra={**settings.extra, **_PRIVATE})

"""Snapshots opened for the service's own use: running, reachable over a private socket, gone afterwards.

Such a copy is an incarnation of its namespace that never becomes the current one and has no endpoint. It reaches
nothing outside (rule 35): no network, no archive, no replication, no scheduled work.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from stillframe.domain.snapshot import Snapshot
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.read_only import restart_read_only
from stillframe.postgres.settings import ServerSettings
from stillframe.service.foundation import Foundation
from stillframe.service.hydrations import Hydrations
from stillframe.service.jobs.watch import Watch
from stillframe.service.layout import Layouts
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

    def __init__(
        self, foundation: Foundation, servers: Servers, layouts: Layouts, hydrations: Hydrations
    ) -> None:
        self._base = foundation
        self._servers = servers
        self._layouts = layouts
        self._hydrations = hydrations

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

    def open_read_only(
        self, snapshot: Snapshot, place: CopyPlace, watch: Watch, *, prepare: Callable[[Cluster], None]
    ) -> Cluster:
        """The snapshot, left running at this place so that nobody can change it; `remove` ends it.

        `prepare` gets the copy while it can still be changed. Raises what a restore raises, and then nothing is left.
        """
        self.remove(place)
        try:
            cluster = self._open(snapshot, place, watch)
            prepare(cluster)
            with self._hydrations.held(cluster) as inherited:
                restart_read_only(cluster, self._settings(), inherited=inherited)
        except BaseException:
            self.remove(place)
            raise
        return cluster

    def remove(self, place: CopyPlace) -> None:
        """Stop and remove the copy at this place. Nothing happens when there is none."""
        self._servers.drop(place.namespace_id, place.copy_id)

    def _open(self, snapshot: Snapshot, place: CopyPlace, watch: Watch) -> Cluster:
        self._servers.require_room(snapshot.logical_bytes or 0)
        cluster = self._servers.cluster(place.namespace_id, place.copy_id)
        self._layouts.bring_up(snapshot, cluster, self._settings(), watch)
        return cluster

    def _settings(self) -> ServerSettings:
        settings = self._servers.settings_for(None)
        return replace(settings, extra={**settings.extra, **_PRIVATE})

"""The PostgreSQL servers of namespaces: where their files are, how they are started, stopped and reached."""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from stillframe.domain.identifiers import IncarnationId, LineageId
from stillframe.domain.namespace import Incarnation, Namespace
from stillframe.domain.parameters import complete_parameters, server_settings
from stillframe.domain.workgroup import ALLOWED_PORTS, Workgroup
from stillframe.errors import Conflict, DiskFull, InternalError, Unsupported
from stillframe.postgres.cluster import Cluster, ClusterState, StopMode
from stillframe.postgres.machine import Machine, namespace_cluster
from stillframe.postgres.roles import prepare_namespace
from stillframe.postgres.settings import ServerSettings
from stillframe.service.arrivals import arrival_note, stop_cluster
from stillframe.service.endpoints import EndpointRoute, Endpoints
from stillframe.service.foundation import Foundation
from stillframe.service.hydrations import Hydrations
from stillframe.service.local_bases import drop_base, keep_base, kept_bases
from stillframe.service.room import require_room
from stillframe.system import translating_os_errors

_MEBIBYTE = 1024 * 1024
_LEAST_BUFFERS = 16 * _MEBIBYTE
_NEW_CLUSTER = 64 * _MEBIBYTE
"""What a cluster takes before anything is put into it, and somewhat more."""

_REMOVALS, _REMOVAL_PAUSE = 20, 0.05
_MOST_CONNECTIONS = 500
"""The same for every server, so that a restored copy never has less than its source (recovery would refuse)."""


class Servers:
    """Clusters by namespace and incarnation."""

    def __init__(
        self, foundation: Foundation, machine: Machine, endpoints: Endpoints, hydrations: Hydrations
    ) -> None:
        self._base = foundation
        self._machine = machine
        self._endpoints = endpoints
        self._hydrations = hydrations

    @property
    def machine(self) -> Machine:
        """The installation and the OS user."""
        return self._machine

    def cluster(self, namespace_id: uuid.UUID, incarnation_id: uuid.UUID) -> Cluster:
        """The cluster of an incarnation, running or not, existing or not."""
        return namespace_cluster(self._base.settings, self._machine, namespace_id, incarnation_id)

    def current(self, namespace: Namespace) -> Cluster:
        """The cluster of the namespace's current incarnation. Raises InternalError when it has none yet."""
        if namespace.incarnation_id is None:
            raise InternalError("The namespace has no storage yet", namespace=str(namespace.id))
        return self.cluster(namespace.id, namespace.incarnation_id)

    def ensure_storage(self, namespace: Namespace, workgroup: Workgroup | None) -> Namespace:
        """The namespace with storage: a new cluster with its admin and first database, made when there is none.

        The new server is left running when there is a workgroup to serve. Safe to repeat
        after a crash: what an earlier attempt left is removed first.
        """
        if namespace.incarnation_id is not None:
            return namespace
        # Not only files: a server of the attempt may run.
        self.drop_all(namespace.id)
        self.require_room(_NEW_CLUSTER)
        incarnation = self._new_incarnation(namespace)
        cluster = self.cluster(namespace.id, incarnation.id)
        cluster.prepare_parent()
        control = cluster.initialize()
        self._create_first_database(cluster, namespace, workgroup)
        incarnation = replace(incarnation, system_identifier=control.system_identifier)
        with self._base.catalog.transaction() as transaction:
            transaction.incarnations.insert(incarnation)
            current = transaction.namespaces.find(lock=True, id=namespace.id)
            if current is None:
                raise InternalError(
                    "The namespace vanished while its storage was made", namespace=str(namespace.id)
                )
            stored = replace(current, incarnation_id=incarnation.id)
            transaction.namespaces.put(stored)
        return stored

    def settings_for(self, workgroup: Workgroup | None) -> ServerSettings:
        """Memory from the capacity, user settings from the parameters; small ones for a server nobody uses."""
        if workgroup is None:
            return ServerSettings(
                max_connections=_MOST_CONNECTIONS,
                shared_buffers=_LEAST_BUFFERS,
                users=server_settings(complete_parameters(())),
            )
        buffers = self._buffers(workgroup.base_capacity)
        return ServerSettings(
            max_connections=_MOST_CONNECTIONS,
            shared_buffers=buffers,
            work_mem=max(4 * _MEBIBYTE, buffers // 64),
            maintenance_work_mem=max(64 * _MEBIBYTE, buffers // 8),
            users=server_settings(workgroup.config_parameters),
        )

    def start(self, namespace: Namespace, workgroup: Workgroup | None) -> Cluster:
        """The namespace's server, running with the workgroup's settings. Raises ServerUnavailable."""
        cluster = self.current(namespace)
        self._start(cluster, workgroup)
        return cluster

    def stop(self, cluster: Cluster) -> None:
        """End a server, and who brings its files if they are still arriving. Raises ServerUnavailable."""
        stop_cluster(cluster)

    @contextmanager
    def running(self, namespace: Namespace, workgroup: Workgroup | None) -> Iterator[Cluster]:
        """The running cluster for the length of the block; without a workgroup it is stopped after."""
        cluster = self.current(namespace)
        if cluster.status().state is not ClusterState.RUNNING:
            self._start(cluster, workgroup)
        try:
            yield cluster
        finally:
            # Also one that ran before: a block that was cut off left it.
            if workgroup is None:
                self.stop(cluster)

    def open_endpoint(self, workgroup: Workgroup, cluster: Cluster) -> Workgroup:
        """Relay the workgroup's port to the cluster; when the port is taken, the next free one is used.

        Returns the workgroup with the port it got. Raises Unsupported when all allowed ports are taken.
        """
        for port in _candidates(workgroup):
            opened = replace(workgroup, port=port)
            try:
                self._endpoints.open(self.route(opened, cluster))
            except Conflict:
                continue
            return opened
        raise Unsupported(
            "Every port that a workgroup may listen on is taken on this host.",
            hint="End another program that listens within 5431-5455 or 8191-8215.",
        )

    def route(self, workgroup: Workgroup, cluster: Cluster) -> EndpointRoute:
        """Where the workgroup's clients come in and where they are led."""
        if workgroup.port is None:
            raise InternalError("The workgroup has no port yet", workgroup=str(workgroup.id))
        return EndpointRoute(
            workgroup_id=workgroup.id,
            host=self._base.settings.host if workgroup.publicly_accessible else "127.0.0.1",
            port=workgroup.port,
            socket_directory=cluster.socket_directory,
            socket_port=cluster.socket_port,
        )

    def clusters_of(self, namespace_id: uuid.UUID) -> list[Cluster]:
        """Every incarnation of a namespace that has files, current or not."""
        directories = sorted(self._base.settings.paths.namespace(namespace_id).glob("*"))
        return [self.cluster(namespace_id, uuid.UUID(directory.name)) for directory in directories]

    def drop(self, namespace_id: uuid.UUID, incarnation_id: uuid.UUID) -> None:
        """End an incarnation's server and throw its files away. Nothing happens when there are none.

        Its space comes back with `empty_trash`: removing gigabytes takes longer than anybody should wait for.
        """
        cluster = self.cluster(namespace_id, incarnation_id)
        # Nobody will start it again: there is nothing to write down first.
        stop_cluster(cluster, StopMode.IMMEDIATE)
        note = arrival_note(cluster)
        self._throw_away(cluster.data_directory)
        remove_tree(cluster.socket_directory)
        self._hydrations.forget(note)

    def replace_by(
        self, namespace_id: uuid.UUID, incarnation_id: uuid.UUID, *, current: uuid.UUID | None
    ) -> None:
        """End an incarnation that is not the `current` one. Its files are kept if the current one's arriving files
        are taken from it in part.
        """
        cluster = self.cluster(namespace_id, incarnation_id)
        note = None if current is None else arrival_note(self.cluster(namespace_id, current))
        if note is not None and note.relies_on(cluster):
            stop_cluster(cluster, StopMode.IMMEDIATE)
            own = arrival_note(cluster)
            keep_base(self._base.settings.paths, cluster.data_directory, kept_for=note.pin_id)
            remove_tree(cluster.socket_directory)
            self._hydrations.forget(own)
        else:
            self.drop(namespace_id, incarnation_id)

    def discard(self, namespace_id: uuid.UUID) -> None:
        """Stop a namespace's servers and put its files out of the way, in one step that happens or not."""
        paths = self._base.settings.paths
        notes = []
        for cluster in self.clusters_of(namespace_id):
            stop_cluster(cluster, StopMode.IMMEDIATE)
            notes.append(arrival_note(cluster))
            remove_tree(cluster.socket_directory)
        self._throw_away(paths.namespace(namespace_id))
        remove_tree(paths.logs / str(namespace_id))
        for note in notes:
            self._hydrations.forget(note)

    def require_room(self, size: int) -> None:
        """Raise DiskFull unless so many bytes fit, after giving back what can be done without if that is needed.

        That is what was thrown away, then what restores have replaced and still take pages from.
        """
        paths = self._base.settings.paths
        with suppress(DiskFull):
            require_room(paths.root, size)
            return
        self.empty_trash()
        with suppress(DiskFull):
            require_room(paths.root, size)
            return
        for base in kept_bases(paths):
            drop_base(paths, base, trash_name=str(self._base.new_id()))
        self.empty_trash()
        require_room(paths.root, size)

    def empty_trash(self) -> None:
        """Remove the files that were thrown away; what a crash left is found by the next sweep."""
        trash = self._base.settings.paths.trash
        for directory in sorted(trash.iterdir()) if trash.is_dir() else ():
            remove_tree(directory)

    def drop_all(self, namespace_id: uuid.UUID) -> None:
        """Remove every incarnation of a namespace."""
        directory = self._base.settings.paths.namespace(namespace_id)
        if directory.is_dir():
            for entry in sorted(directory.iterdir()):
                self.drop(namespace_id, uuid.UUID(entry.name))
            remove_tree(directory)
        remove_tree(self._base.settings.paths.logs / str(namespace_id))

    def _throw_away(self, directory: Path) -> None:
        """Put a directory out of the way, in one step that happens or not."""
        trash = self._base.settings.paths.trash
        with translating_os_errors(f"removing {directory}"), suppress(FileNotFoundError):
            trash.mkdir(mode=0o700, exist_ok=True)
            directory.rename(trash / str(self._base.new_id()))

    def _start(self, cluster: Cluster, workgroup: Workgroup | None) -> None:
        with self._hydrations.held(cluster) as inherited:
            cluster.start(self.settings_for(workgroup), inherited=inherited)

    def _new_incarnation(self, namespace: Namespace) -> Incarnation:
        return Incarnation(
            id=IncarnationId(self._base.new_id()),
            namespace_id=namespace.id,
            lineage_id=LineageId(self._base.new_id()),
            created_at=self._base.clock.now(),
        )

    def _create_first_database(
        self, cluster: Cluster, namespace: Namespace, workgroup: Workgroup | None
    ) -> None:
        cluster.start(self.settings_for(workgroup))
        try:
            prepare_namespace(
                cluster,
                admin=namespace.admin_username,
                verifier=namespace.admin_verifier,
                database=namespace.db_name,
            )
        except BaseException:
            cluster.stop()
            raise
        if workgroup is None:
            cluster.stop()

    def _buffers(self, capacity: int) -> int:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return max(_LEAST_BUFFERS, min(capacity * self._base.settings.memory_per_rpu, machine // 4))


def remove_tree(directory: Path) -> None:
    """Remove a directory with all it holds; one that is not there is fine."""
    with translating_os_errors(f"removing {directory}"):
        for _ in range(_REMOVALS):
            # A process that was killed a moment ago may still remove or write its last file there.
            with suppress(OSError):
                shutil.rmtree(directory)
            if not directory.exists():
                return
            time.sleep(_REMOVAL_PAUSE)
        shutil.rmtree(directory)


def _candidates(workgroup: Workgroup) -> Iterator[int]:
    first = workgroup.port if workgroup.port is not None else workgroup.requested_port
    yield first
    everything = [port for allowed in ALLOWED_PORTS for port in allowed]
    later = [port for port in everything if port > first]
    yield from later + [port for port in everything if port < first]

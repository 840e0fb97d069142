"""The copies of open snapshots: opened and closed by jobs, looked after while they run, gone with the service."""

from contextlib import suppress
from dataclasses import replace

import structlog

from stillframe.catalog import Transaction
from stillframe.domain.open_snapshot import OpenSnapshot, OpenSnapshotStatus
from stillframe.domain.operation import UNFINISHED, Operation, OperationKind
from stillframe.domain.snapshot import Snapshot
from stillframe.errors import (
    Cancelled,
    Conflict,
    NotFound,
    ServerUnavailable,
    StillframeError,
    Unsupported,
)
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.read_only import create_read_login
from stillframe.service.endpoints import EndpointRoute, Endpoints
from stillframe.service.foundation import Foundation
from stillframe.service.jobs.reporting import publisher
from stillframe.service.jobs.runner import Failure, end_in
from stillframe.service.jobs.stalls import ended_when_stalled
from stillframe.service.jobs.watch import Watch, watching
from stillframe.service.open_snapshots import ADDRESS, ask_to_close, queue_closing
from stillframe.service.private_copies import CopyPlace, PrivateCopies
from stillframe.service.servers import Servers

log = structlog.get_logger(__name__)

PORTS = range(15439, 16439)
"""Where copies are reached; above those of workgroups, so that none takes a workgroup's place."""

CUT_OFF = "The service ended while the snapshot was being opened."


class OpenCopies:
    """Every copy of an open snapshot: its server, its files, its port."""

    def __init__(
        self, foundation: Foundation, servers: Servers, copies: PrivateCopies, endpoints: Endpoints
    ) -> None:
        self._base = foundation
        self._servers = servers
        self._copies = copies
        self._endpoints = endpoints

    def make(self, copy: OpenSnapshot, snapshot: Snapshot, watch: Watch) -> int:
        """Let the copy run, read-only, with its login; the port it is reached at. Raises what a restore raises."""
        with ended_when_stalled(
            self._cluster(copy), end=lambda: self._copies.remove(place_of(copy))
        ) as stall:
            try:
                cluster = self._started(copy, snapshot, watch)
            except ServerUnavailable as error:
                if stall.reason is None:
                    raise
                raise ServerUnavailable(f"Its content cannot be fetched: {stall.reason}") from error
        watch.cancel.raise_if_cancelled()
        return self._open_port(copy, cluster)

    def _started(self, copy: OpenSnapshot, snapshot: Snapshot, watch: Watch) -> Cluster:
        return self._copies.open_read_only(
            snapshot,
            place_of(copy),
            watch,
            prepare=lambda running: create_read_login(
                running, name=copy.username, verifier=copy.verifier, admin=snapshot.admin_username
            ),
        )

    def remove(self, copy: OpenSnapshot) -> None:
        """End the copy's connections and server, and remove its files. Nothing happens when there are none."""
        with suppress(ServerUnavailable):
            # An endpoint process that does not run relays nothing.
            self._endpoints.close(copy.id)
        self._copies.remove(place_of(copy))
        self._servers.drop_all(copy.id)

    def reconcile(self) -> None:
        """At start: what an earlier process had open is gone. Copies that were still to be opened are left to
        their jobs."""
        with self._base.catalog.transaction() as transaction:
            awaited = _subjects(transaction, OperationKind.OPEN_SNAPSHOT)
            left = [copy for copy in transaction.open_snapshots.list() if copy.id not in awaited]
        self._forget(left)

    def close_all(self) -> None:
        """The service ends: so does everything it has open."""
        with self._base.catalog.transaction() as transaction:
            copies = transaction.open_snapshots.list()
        self._forget(copies)

    def watch(self) -> None:
        """Every few seconds: what has expired or broken down is closed, and the rest can be reached."""
        with self._base.catalog.transaction() as transaction:
            being_closed = _subjects(transaction, OperationKind.CLOSE_SNAPSHOT)
            copies = [copy for copy in transaction.open_snapshots.list() if copy.id not in being_closed]
        for copy in copies:
            if self._is_over(copy):
                self._ask_to_close(copy)
        self._keep_ports([copy for copy in copies if copy.status is OpenSnapshotStatus.OPEN])

    def _is_over(self, copy: OpenSnapshot) -> bool:
        match copy.status:
            case OpenSnapshotStatus.OPENING:
                return False
            case OpenSnapshotStatus.CLOSING:
                return True
            case OpenSnapshotStatus.FAILED | OpenSnapshotStatus.OPEN:
                return self._base.clock.now() >= copy.expires_at or self._is_down(copy)

    def _is_down(self, copy: OpenSnapshot) -> bool:
        if copy.status is not OpenSnapshotStatus.OPEN or self._cluster(copy).adopt() is not None:
            return False
        log.warning("open_snapshot_is_down", snapshot=copy.snapshot_name, open_snapshot_id=str(copy.id))
        return True

    def _ask_to_close(self, seen: OpenSnapshot) -> None:
        with self._base.catalog.transaction() as transaction:
            copy = transaction.open_snapshots.find(lock=True, id=seen.id)
            # It may have been prolonged since it was seen.
            if copy is not None and self._is_over(copy):
                queue_closing(self._base, transaction, copy)

    def _keep_ports(self, copies: list[OpenSnapshot]) -> None:
        if not copies:
            return
        lost = {
            route.workgroup_id for route in self._endpoints.ensure([self._route(copy) for copy in copies])
        }
        with self._base.catalog.transaction() as transaction:
            still_open = {copy.id for copy in transaction.open_snapshots.list(status=OpenSnapshotStatus.OPEN)}
        for copy in copies:
            if copy.id not in still_open:
                # Closed after we had looked and before its port was opened again.
                self._endpoints.close(copy.id)
            elif copy.id in lost:
                log.warning("open_snapshot_lost_its_port", snapshot=copy.snapshot_name, port=copy.port)
                self._close_now(copy)

    def _close_now(self, copy: OpenSnapshot) -> None:
        with self._base.catalog.transaction() as transaction:
            current = transaction.open_snapshots.find(lock=True, id=copy.id)
            if current is not None:
                ask_to_close(self._base, transaction, current)

    def _forget(self, copies: list[OpenSnapshot]) -> None:
        for copy in copies:
            try:
                self.remove(copy)
            except StillframeError as error:
                log.warning("open_snapshot_not_removed", kind=error.kind, reason=error.message)
                self._close_now(copy)
                continue
            with self._base.catalog.transaction() as transaction:
                transaction.open_snapshots.delete(id=copy.id)

    def _open_port(self, copy: OpenSnapshot, cluster: Cluster) -> int:
        for port in PORTS:
            try:
                self._endpoints.open(_route(copy, cluster, port))
            except Conflict:
                continue
            return port
        raise Unsupported(
            "Every port that an open snapshot may listen on is taken on this host.",
            hint=f"End another program that listens within {PORTS[0]}-{PORTS[-1]}.",
        )

    def _route(self, copy: OpenSnapshot) -> EndpointRoute:
        return _route(copy, self._cluster(copy), copy.port or PORTS[0])

    def _cluster(self, copy: OpenSnapshot) -> Cluster:
        place = place_of(copy)
        return self._servers.cluster(place.namespace_id, place.copy_id)


def place_of(copy: OpenSnapshot) -> CopyPlace:
    """Not below its namespace's directory, where a restore or a deletion would take it away."""
    return CopyPlace(namespace_id=copy.id, copy_id=copy.id)


def _route(copy: OpenSnapshot, cluster: Cluster, port: int) -> EndpointRoute:
    return EndpointRoute(
        workgroup_id=copy.id,
        host=ADDRESS,
        port=port,
        socket_directory=cluster.socket_directory,
        socket_port=cluster.socket_port,
    )


def _subjects(transaction: Transaction, kind: OperationKind) -> set[object]:
    return {operation.subject_id for operation in transaction.operations.list(kind=kind, status=UNFINISHED)}


class OpenSnapshotJob:
    """One copy, from OPENING to OPEN or FAILED."""

    retries = False

    def __init__(self, foundation: Foundation, copies: OpenCopies) -> None:
        self._base = foundation
        self._copies = copies

    def run(self, operation: Operation, watch: Watch) -> None:
        """Open it. What was cut off is not begun again: whoever waited for it is gone, or asks again."""
        if operation.attempts > 1:
            raise ServerUnavailable(CUT_OFF, hint="Open it again.")
        copy, snapshot = self._load(operation)
        with watching(
            watch,
            publish=publisher(self._base, operation),
            cancel_requested=lambda: self._is_closing(copy),
        ):
            port = self._copies.make(copy, snapshot, watch)
        with self._base.catalog.transaction() as transaction:
            current = transaction.open_snapshots.find(lock=True, id=copy.id)
            if current is None or current.status is not OpenSnapshotStatus.OPENING:
                raise Cancelled("The snapshot was closed while it was being opened.")
            transaction.open_snapshots.put(replace(current, status=OpenSnapshotStatus.OPEN, port=port))
            end_in(self._base, transaction, operation)

    def give_up(self, operation: Operation, failure: Failure) -> None:
        """Nothing of the copy is left but its row, which says why until its time is over."""
        with self._base.catalog.transaction() as transaction:
            copy = transaction.open_snapshots.find(id=operation.subject_id)
        if copy is not None:
            self._copies.remove(copy)
        with self._base.catalog.transaction() as transaction:
            failed = {"status": OpenSnapshotStatus.FAILED, "message": failure.summary}
            transaction.open_snapshots.change(
                failed, id=operation.subject_id, status=OpenSnapshotStatus.OPENING
            )
            end_in(self._base, transaction, operation, failure)

    def _load(self, operation: Operation) -> tuple[OpenSnapshot, Snapshot]:
        with self._base.catalog.transaction() as transaction:
            copy = transaction.open_snapshots.find(id=operation.subject_id)
            snapshot = transaction.snapshots.find(id=copy.snapshot_id) if copy else None
        if copy is None or copy.status is OpenSnapshotStatus.CLOSING:
            raise Cancelled("The snapshot was closed before it was opened.")
        if snapshot is None:
            raise NotFound("The snapshot was deleted before it was opened.", resource_name=copy.snapshot_name)
        return copy, snapshot

    def _is_closing(self, copy: OpenSnapshot) -> bool:
        with self._base.catalog.transaction() as transaction:
            return transaction.open_snapshots.count(id=copy.id, status=OpenSnapshotStatus.OPENING) == 0


class CloseSnapshotJob:
    """The end of one copy."""

    retries = True

    def __init__(self, foundation: Foundation, copies: OpenCopies) -> None:
        self._base = foundation
        self._copies = copies

    def run(self, operation: Operation, watch: Watch) -> None:
        """Remove it, then its row. Repeated after a crash it does what is left to be done."""
        with self._base.catalog.transaction() as transaction:
            copy = transaction.open_snapshots.find(id=operation.subject_id)
        if copy is not None:
            watch.progress.begin("closing")
            self._copies.remove(copy)
        with self._base.catalog.transaction() as transaction:
            transaction.open_snapshots.delete(id=operation.subject_id)
            end_in(self._base, transaction, operation)

    def give_up(self, operation: Operation, failure: Failure) -> None:
        """The copy stays CLOSING, and the next look queues it again."""
        with self._base.catalog.transaction() as transaction:
            end_in(self._base, transaction, operation, failure)

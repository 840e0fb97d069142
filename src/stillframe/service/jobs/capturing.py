"""The job that takes a snapshot, and what a final snapshot shares with it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stillframe.backup.capture import CaptureRequest, Remarks, capture
from stillframe.backup.memory import ListingMemory
from stillframe.catalog import Transaction
from stillframe.domain.identifiers import LineageId, SnapshotId
from stillframe.domain.lsn import Lsn
from stillframe.domain.namespace import Incarnation, Namespace
from stillframe.domain.operation import Operation, OperationStatus
from stillframe.domain.snapshot import Snapshot, SnapshotProgress, SnapshotStatus
from stillframe.domain.workgroup import Workgroup
from stillframe.errors import InternalError, ObjectMissing, ServerUnavailable
from stillframe.repository import AncestryEntry, SnapshotAttributes, SnapshotDocument
from stillframe.service.captures import Captured
from stillframe.service.foundation import Foundation
from stillframe.service.jobs.parents import choose_parent, possible_parents
from stillframe.service.jobs.runner import Failure
from stillframe.service.jobs.states import free_in, free_namespace
from stillframe.service.jobs.watch import Watch, watching
from stillframe.service.repositories import Repositories
from stillframe.service.room import require_room
from stillframe.service.servers import Servers

CUT_OFF = "The service ended while the snapshot was being taken."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What the catalog knows of a snapshot that is to be taken."""

    snapshot: Snapshot
    tags: Mapping[str, str]
    namespace: Namespace
    workgroup: Workgroup | None
    incarnation: Incarnation
    parents: Sequence[SnapshotId]


class Capturer:
    """Takes one snapshot of one namespace; knows how to tell, after a crash, whether it was committed."""

    def __init__(self, foundation: Foundation, servers: Servers, repositories: Repositories) -> None:
        self._base = foundation
        self._servers = servers
        self._repositories = repositories
        self._memory = ListingMemory()

    def take(self, operation: Operation, snapshot_id: SnapshotId, watch: Watch) -> None:
        """Make the snapshot AVAILABLE. Raises what the capture raises; nothing of it is visible then."""
        order = self._order(operation, snapshot_id)
        if order.snapshot.status is not SnapshotStatus.CREATING:
            status = order.snapshot.status.value
            raise InternalError(f"The snapshot to be taken is {status} already", snapshot=str(snapshot_id))
        with watching(
            watch,
            publish=lambda progress: self._publish(operation, snapshot_id, progress),
            cancel_requested=lambda: self._cancel_requested(operation.id),
        ):
            document, remarks = self._capture(order, watch)
        # One transaction: each costs a write that is waited for.
        with self._base.catalog.transaction() as transaction:
            _note(transaction, operation, remarks)
            _complete(transaction, snapshot_id, document)

    def recover(self, snapshot_id: SnapshotId) -> bool:
        """After a crash: whether the snapshot had been committed; then it is made AVAILABLE.

        One that is not in the catalog any more had been: only what is complete can be deleted.
        """
        with self._base.catalog.transaction() as transaction:
            snapshot = transaction.snapshots.find(id=snapshot_id)
        if snapshot is None:
            return True
        if snapshot.status is not SnapshotStatus.CREATING:
            return snapshot.status is SnapshotStatus.AVAILABLE
        try:
            document = self._repositories.of(snapshot.region).document(snapshot_id)
        except ObjectMissing:
            return False
        with self._base.catalog.transaction() as transaction:
            _complete(transaction, snapshot_id, document)
        return True

    def fail(self, operation: Operation, snapshot_id: SnapshotId, failure: Failure) -> None:
        """The snapshot stays listed, FAILED or CANCELLED, with the reason; its operation ends with it."""
        cancelled = failure.status is OperationStatus.CANCELLED
        status = SnapshotStatus.CANCELLED if cancelled else SnapshotStatus.FAILED
        with self._base.catalog.transaction() as transaction:
            snapshot = transaction.snapshots.find(lock=True, id=snapshot_id)
            if snapshot is not None and snapshot.status is SnapshotStatus.CREATING:
                transaction.snapshots.put(
                    replace(snapshot, status=status, failure=failure.summary, phase="ended")
                )
            free_in(self._base, transaction, operation, failure)

    def _capture(self, order: _Order, watch: Watch) -> tuple[SnapshotDocument, Remarks]:
        require_room(self._base.settings.paths.root, 0)
        snapshot, incarnation = order.snapshot, order.incarnation
        repository = self._repositories.of(snapshot.region)
        parent = choose_parent(repository, incarnation, order.parents)
        with (
            self._servers.running(order.namespace, order.workgroup) as cluster,
            repository.begin_snapshot(
                snapshot_id=snapshot.id,
                key_id=snapshot.kms_key_id,
                parent=parent,
                level=self._base.settings.compression_level,
            ) as writer,
        ):
            request = CaptureRequest(
                lineage_id=incarnation.lineage_id,
                attributes=_attributes(snapshot, order.tags),
                ancestry=_ancestry(incarnation),
                clock=self._base.clock,
                threads=self._base.settings.copy_threads,
                memory=self._memory,
            )
            document = capture(cluster, writer, request, progress=watch.progress, cancel=watch.cancel)
        return document, request.remarks

    def _order(self, operation: Operation, snapshot_id: SnapshotId) -> _Order:
        """All of it in one transaction: somebody waits for the snapshot, and each takes milliseconds."""
        with self._base.catalog.transaction() as transaction:
            snapshot = transaction.snapshots.find(id=snapshot_id)
            namespace = transaction.namespaces.find(id=operation.namespace_id)
            if snapshot is None or namespace is None:
                raise InternalError(
                    "The snapshot to be taken, or its namespace, is not in the catalog",
                    snapshot=str(snapshot_id),
                )
            incarnation = transaction.incarnations.find(id=namespace.incarnation_id)
            if incarnation is None:
                raise InternalError(
                    "The namespace's incarnation is not in the catalog", namespace=str(namespace.id)
                )
            return _Order(
                snapshot=snapshot,
                tags={tag.key: tag.value for tag in transaction.tags.list(resource_arn=snapshot.arn)},
                namespace=namespace,
                workgroup=transaction.workgroups.find(namespace_id=namespace.id),
                incarnation=incarnation,
                parents=possible_parents(transaction, incarnation, snapshot),
            )

    def _publish(self, operation: Operation, snapshot_id: SnapshotId, progress: SnapshotProgress) -> None:
        moved = {
            "phase": progress.phase,
            "done_bytes": progress.done_bytes,
            "total_bytes": progress.total_bytes,
        }
        speed = {"bytes_per_second": progress.bytes_per_second, "elapsed_seconds": progress.elapsed_seconds}
        with self._base.catalog.transaction() as transaction:
            transaction.operations.change(moved, id=operation.id)
            transaction.snapshots.change(moved | speed, id=snapshot_id, status=SnapshotStatus.CREATING)

    def _cancel_requested(self, operation_id: uuid.UUID) -> bool:
        with self._base.catalog.transaction() as transaction:
            return transaction.operations.count(id=operation_id, cancel_requested=True) > 0


class CreateSnapshot:
    """One snapshot, asked for by CreateSnapshot."""

    retries = False

    def __init__(self, foundation: Foundation, capturer: Capturer) -> None:
        self._base = foundation
        self._capturer = capturer

    def run(self, operation: Operation, watch: Watch) -> None:
        """Take the snapshot. One that was cut off is never begun again: it would be of another moment."""
        snapshot_id = SnapshotId(operation.subject_id)
        if operation.attempts > 1:
            self._finish_or_fail(operation, snapshot_id)
            return
        self._capturer.take(operation, snapshot_id, watch)
        free_namespace(self._base, operation)

    def give_up(self, operation: Operation, failure: Failure) -> None:
        """The snapshot is FAILED or CANCELLED, the namespace AVAILABLE."""
        self._capturer.fail(operation, SnapshotId(operation.subject_id), failure)

    def _finish_or_fail(self, operation: Operation, snapshot_id: SnapshotId) -> None:
        if not self._capturer.recover(snapshot_id):
            raise ServerUnavailable(CUT_OFF, hint="Take the snapshot again.")
        free_namespace(self._base, operation)


def _note(transaction: Transaction, operation: Operation, remarks: Remarks) -> None:
    """How it was taken, beside what was asked for."""
    how = Captured(
        full_because=remarks.doubt.value if remarks.doubt is not None else None,
        damaged_maps=remarks.damaged_maps,
    )
    transaction.operations.change({"arguments": how.beside(operation.arguments)}, id=operation.id)


def _complete(transaction: Transaction, snapshot_id: SnapshotId, document: SnapshotDocument) -> None:
    """Write the committed snapshot's figures; retention begins now."""
    snapshot = transaction.snapshots.find(lock=True, id=snapshot_id)
    if snapshot is None or snapshot.status is not SnapshotStatus.CREATING:
        return
    available = replace(
        snapshot,
        status=SnapshotStatus.AVAILABLE,
        retention_started_at=document.facts.finished_at,
        **figures_of(document),
    )
    transaction.snapshots.put(available)


def figures_of(document: SnapshotDocument) -> dict[str, Any]:
    """What was measured of a committed snapshot, as columns of its row."""
    facts, statistics = document.facts, document.statistics
    return {
        "phase": "done",
        "done_bytes": facts.bytes_read,
        "total_bytes": facts.bytes_read,
        "elapsed_seconds": facts.duration_seconds,
        "bytes_per_second": facts.bytes_read / facts.duration_seconds if facts.duration_seconds > 0 else 0.0,
        "logical_bytes": statistics.logical_bytes,
        "stored_bytes": statistics.new_stored_bytes,
        "damage": "\n".join(facts.damage) or None,
    }


def _ancestry(incarnation: Incarnation) -> list[AncestryEntry]:
    return [
        AncestryEntry(lineage_id=LineageId(lineage), timeline=timeline, fork_lsn=Lsn(fork))
        for lineage, timeline, fork in incarnation.ancestry
    ]


def _attributes(snapshot: Snapshot, tags: Mapping[str, str]) -> SnapshotAttributes:
    """What the API shows of a snapshot, as the repository keeps it."""
    return SnapshotAttributes(
        account=snapshot.account,
        region=snapshot.region,
        snapshot_name=snapshot.name,
        snapshot_arn=snapshot.arn,
        namespace_id=str(snapshot.namespace_id),
        namespace_name=snapshot.namespace_name,
        namespace_arn=snapshot.namespace_arn,
        admin_username=snapshot.admin_username,
        db_name=snapshot.db_name,
        kms_key_id=snapshot.kms_key_id,
        created_at=snapshot.created_at,
        retention_days=snapshot.retention_days,
        publicly_accessible=snapshot.publicly_accessible,
        admin_secret_arn=snapshot.admin_secret_arn,
        admin_secret_kms_key_id=snapshot.admin_secret_kms_key_id,
        tags=dict(tags),
    )

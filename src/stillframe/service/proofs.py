"""Proofs: asking for one, keeping what came out, and asking by oneself for each snapshot that has none."""

from datetime import timedelta

import msgspec
import structlog

from stillframe.catalog import Transaction
from stillframe.domain.access import Caller
from stillframe.domain.operation import ENDED, Operation, OperationKind, OperationStatus
from stillframe.domain.proof import Proof, ProofResult
from stillframe.domain.snapshot import Snapshot, SnapshotStatus
from stillframe.repository import SnapshotAttributes
from stillframe.service.foundation import Foundation
from stillframe.service.operations import Work, enqueue
from stillframe.service.repositories import Repositories
from stillframe.service.restores import require_restorable
from stillframe.service.snapshots import SnapshotSelector, find_snapshot

log = structlog.get_logger(__name__)

ATTRIBUTE = "proof"
"""Under this name a snapshot's `extra` attributes hold its newest proof, as JSON."""

_AGAIN = timedelta(hours=1)
"""After this long a proof that did not come to a result is asked for again."""


class Proofs:
    """ProveSnapshot, an operation of ours."""

    def __init__(self, foundation: Foundation) -> None:
        self._base = foundation

    def request(self, caller: Caller, selector: SnapshotSelector) -> Operation:
        """The operation that proves the snapshot: a new one, or the one that is at it already.

        Raises NotFound, Conflict when the snapshot is not AVAILABLE.
        """
        with self._base.catalog.transaction() as transaction:
            snapshot = find_snapshot(transaction, caller, selector, lock=True)
            require_restorable(snapshot)
            running = [found for found in _proofs_of(transaction, snapshot) if found.status not in ENDED]
            return (
                running[0]
                if running
                else ask_for_proof(self._base, transaction, snapshot, request_id=caller.request_id)
            )


class ProofSchedule:
    """Proves every snapshot once, one after the other, the newest first."""

    def __init__(self, foundation: Foundation) -> None:
        self._base = foundation

    def turn(self) -> None:
        """Ask for the next proof, if one is missing, none is going on, and the settings want it."""
        if not self._base.settings.prove_snapshots:
            return
        with self._base.catalog.transaction() as transaction:
            waiting = (OperationStatus.QUEUED, OperationStatus.RUNNING)
            if transaction.operations.count(kind=OperationKind.PROVE_SNAPSHOT, status=waiting):
                return
            proven = {proof.snapshot_id for proof in transaction.proofs.list()}
            for snapshot in transaction.snapshots.list(
                status=SnapshotStatus.AVAILABLE, order_by="-created_at"
            ):
                if snapshot.id not in proven and self._may_be_tried(transaction, snapshot):
                    ask_for_proof(self._base, transaction, snapshot)
                    return

    def _may_be_tried(self, transaction: Transaction, snapshot: Snapshot) -> bool:
        recent = self._base.clock.now() - _AGAIN
        return all(
            found.finished_at is not None and found.finished_at < recent
            for found in _proofs_of(transaction, snapshot)
        )


def ask_for_proof(
    base: Foundation, transaction: Transaction, snapshot: Snapshot, *, request_id: str = ""
) -> Operation:
    """Queue a proof. Proofs run one after the other: each takes memory, and reads all there is."""
    work = Work(
        kind=OperationKind.PROVE_SNAPSHOT,
        namespace_id=snapshot.namespace_id,
        subject_id=snapshot.id,
        lock="proofs",
        request_id=request_id,
    )
    return enqueue(base, transaction, snapshot.scope, work)


class ProofRecord:
    """Keeps the newest proof of a snapshot, in the catalog and with the snapshot itself."""

    def __init__(self, foundation: Foundation, repositories: Repositories) -> None:
        self._base = foundation
        self._repositories = repositories

    def keep(self, proof: Proof) -> None:
        """Write it down. A snapshot that was deleted meanwhile keeps nothing. A failed proof is logged as an error."""
        with self._base.catalog.transaction() as transaction:
            snapshot = transaction.snapshots.find(
                lock=True, id=proof.snapshot_id, status=SnapshotStatus.AVAILABLE
            )
            if snapshot is None:
                return
            transaction.proofs.upsert(proof)
        self._repositories.remember_extra(snapshot, ATTRIBUTE, to_attribute(proof))
        if proof.result is ProofResult.FAILED:
            log.error(
                "snapshot_proof_failed",
                snapshot=snapshot.name,
                namespace=snapshot.namespace_name,
                findings=list(proof.findings[:5]),
                finding_count=len(proof.findings),
            )


def to_attribute(proof: Proof) -> str:
    """A proof as it is kept with its snapshot."""
    return msgspec.json.encode(proof).decode()


def from_attributes(attributes: SnapshotAttributes) -> Proof | None:
    """The proof that is kept with a snapshot; None when there is none, or none that this release can read."""
    text = attributes.extra.get(ATTRIBUTE)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=Proof)
    except msgspec.MsgspecError:
        # Written by a later release: a snapshot that counts as not proven is proven again.
        return None


def _proofs_of(transaction: Transaction, snapshot: Snapshot) -> list[Operation]:
    return transaction.operations.list(kind=OperationKind.PROVE_SNAPSHOT, subject_id=snapshot.id)

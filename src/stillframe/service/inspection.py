"""Looking behind the API: a snapshot with what its document says, its health, and the operations of a namespace."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stillframe.catalog import Transaction
from stillframe.domain.access import Caller
from stillframe.domain.open_snapshot import OpenSnapshot
from stillframe.domain.operation import Operation
from stillframe.domain.proof import Proof, ProofResult
from stillframe.domain.snapshot import SHOWN, Snapshot, SnapshotStatus
from stillframe.repository import SnapshotDocument
from stillframe.service.conditions import is_damaged, protected_in
from stillframe.service.foundation import Foundation
from stillframe.service.namespace_lookup import find_namespace
from stillframe.service.pagination import Listing, paginate
from stillframe.service.repositories import Repositories
from stillframe.service.snapshots import SnapshotSelector, find_snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotCondition:
    """What is known about a snapshot's health.

    `damaged`: pages were damaged when it was captured, or its proof failed. `protected`: it is the last clean one of
    its namespace, and does not expire.
    """

    snapshot: Snapshot
    damaged: bool
    protected: bool
    proof: Proof | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotDetail:
    """A snapshot; `document` once it is complete. `opened` are the caller's copies of it."""

    condition: SnapshotCondition
    document: SnapshotDocument | None
    opened: Sequence[OpenSnapshot]

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot itself."""
        return self.condition.snapshot


class Inspection:
    """DescribeSnapshot, ListSnapshotConditions and ListOperations."""

    def __init__(self, foundation: Foundation, repositories: Repositories) -> None:
        self._base = foundation
        self._repositories = repositories

    def snapshot(self, caller: Caller, selector: SnapshotSelector) -> SnapshotDetail:
        """A snapshot in detail. Raises NotFound, InvalidRequest."""
        with self._base.catalog.transaction() as transaction:
            snapshot = find_snapshot(transaction, caller, selector)
            (condition,) = _conditions(transaction, [snapshot])
            opened = transaction.open_snapshots.list(
                account=caller.account, region=caller.region, snapshot_id=snapshot.id
            )
        document = None
        if snapshot.status is SnapshotStatus.AVAILABLE:
            document = self._repositories.of(snapshot.region).document(snapshot.id)
        return SnapshotDetail(condition=condition, document=document, opened=opened)

    def conditions(
        self, caller: Caller, *, namespace_name: str | None, max_results: int | None, next_token: str | None
    ) -> Listing[SnapshotCondition]:
        """The caller's own snapshots by creation time, with what is known about their health."""
        equals: dict[str, Any] = {"account": caller.account, "region": caller.region, "status": SHOWN}
        if namespace_name is not None:
            equals["namespace_name"] = namespace_name
        with self._base.catalog.transaction() as transaction:
            page = paginate(
                lambda after, limit: transaction.snapshots.page(after=after, limit=limit, **equals),
                purpose=("conditions", caller.scope, namespace_name),
                max_results=max_results,
                next_token=next_token,
            )
            return Listing(_conditions(transaction, page.items), page.next_token)

    def operations(
        self, caller: Caller, *, namespace_name: str | None, max_results: int | None, next_token: str | None
    ) -> Listing[Operation]:
        """The caller's operations by the time they were accepted. Raises NotFound for an unknown namespace."""
        equals: dict[str, Any] = {"account": caller.account, "region": caller.region}
        with self._base.catalog.transaction() as transaction:
            if namespace_name is not None:
                equals["namespace_id"] = find_namespace(transaction, caller.scope, namespace_name).id
            return paginate(
                lambda after, limit: transaction.operations.page(after=after, limit=limit, **equals),
                purpose=("operations", caller.scope, namespace_name),
                max_results=max_results,
                next_token=next_token,
            )


def _conditions(transaction: Transaction, snapshots: Sequence[Snapshot]) -> list[SnapshotCondition]:
    identifiers = frozenset(snapshot.id for snapshot in snapshots)
    proofs = {proof.snapshot_id: proof for proof in transaction.proofs.list(snapshot_id=identifiers)}
    failed = {proof.snapshot_id for proof in proofs.values() if proof.result is ProofResult.FAILED}
    protected = protected_in(transaction, snapshots)
    return [
        SnapshotCondition(
            snapshot=snapshot,
            damaged=is_damaged(snapshot, failed),
            protected=snapshot.id in protected,
            proof=proofs.get(snapshot.id),
        )
        for snapshot in snapshots
    ]

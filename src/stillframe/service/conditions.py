"""Which snapshots are known to hold damage, and which ones must not expire because of that."""

from collections.abc import Collection, Iterable, Iterator
from itertools import groupby

from stillframe.catalog import Transaction
from stillframe.domain.identifiers import SnapshotId
from stillframe.domain.proof import ProofResult
from stillframe.domain.snapshot import Snapshot, SnapshotStatus


def failed_proofs(transaction: Transaction, snapshots: Iterable[Snapshot]) -> set[SnapshotId]:
    """Those whose newest proof failed."""
    identifiers = frozenset(snapshot.id for snapshot in snapshots)
    proofs = transaction.proofs.list(snapshot_id=identifiers, result=ProofResult.FAILED)
    return {proof.snapshot_id for proof in proofs}


def protected_ones(snapshots: Iterable[Snapshot], failed: Collection[SnapshotId]) -> Iterator[Snapshot]:
    """Of each namespace whose newest AVAILABLE snapshot is damaged: the last clean one, and that newest one.

    Damaged is what was captured with damaged pages, and what failed its proof. The newest one stays as well, because
    without it nothing would tell any more why the clean one is kept. A namespace whose newest snapshot is clean
    needs no such protection, and one without any clean snapshot has nothing to protect.
    """
    available = [snapshot for snapshot in snapshots if snapshot.status is SnapshotStatus.AVAILABLE]
    ordered = sorted(available, key=lambda snapshot: (snapshot.namespace_id.hex, snapshot.created_at))
    for _, group in groupby(ordered, key=lambda snapshot: snapshot.namespace_id):
        history = list(group)
        clean = [snapshot for snapshot in history if not is_damaged(snapshot, failed)]
        if clean and clean[-1] is not history[-1]:
            yield from (clean[-1], history[-1])


def is_damaged(snapshot: Snapshot, failed: Collection[SnapshotId]) -> bool:
    """Whether it is known that not all of it is what it should be."""
    return snapshot.damage is not None or snapshot.id in failed


def protected_in(transaction: Transaction, snapshots: Iterable[Snapshot]) -> set[SnapshotId]:
    """Which snapshots of the namespaces that these belong to are kept beyond their retention."""
    namespaces = frozenset(snapshot.namespace_id for snapshot in snapshots)
    history = transaction.snapshots.list(namespace_id=namespaces, status=SnapshotStatus.AVAILABLE)
    return {snapshot.id for snapshot in protected_ones(history, failed_proofs(transaction, history))}

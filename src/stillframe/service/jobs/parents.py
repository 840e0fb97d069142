"""Which snapshot a new one builds on, so that it reads only what changed since."""

from collections.abc import Sequence

from stillframe.catalog import Transaction
from stillframe.domain.identifiers import SnapshotId
from stillframe.domain.namespace import Incarnation
from stillframe.domain.snapshot import Snapshot, SnapshotStatus
from stillframe.errors import DataError
from stillframe.repository import Repository

_CANDIDATES = 8
"""How many of a namespace's newest snapshots are looked at: those of an earlier incarnation do not count."""


def possible_parents(
    transaction: Transaction, incarnation: Incarnation, snapshot: Snapshot
) -> Sequence[SnapshotId]:
    """The namespace's newest whole snapshots under the same key, then the one that it was restored from."""
    own = transaction.snapshots.list(
        namespace_id=snapshot.namespace_id,
        region=snapshot.region,
        status=SnapshotStatus.AVAILABLE,
        kms_key_id=snapshot.kms_key_id,
        order_by="-created_at",
        limit=_CANDIDATES,
    )
    origin = transaction.snapshots.find(
        id=incarnation.origin_snapshot_id,
        region=snapshot.region,
        status=SnapshotStatus.AVAILABLE,
        kms_key_id=snapshot.kms_key_id,
    )
    return [found.id for found in (*own, origin) if found is not None and found.damage is None]


def choose_parent(
    repository: Repository, incarnation: Incarnation, possible: Sequence[SnapshotId]
) -> SnapshotId | None:
    """The first of these that is of this incarnation, or what it was restored from.

    Only a proposal: whether the changes since are known without any doubt is decided by the capture itself.
    """
    for candidate in possible:
        try:
            facts = repository.stored_document(candidate).facts
        except DataError:
            # Damaged or deleted meanwhile: another one will do, or none.
            continue
        if facts.lineage_id == incarnation.lineage_id or candidate == incarnation.origin_snapshot_id:
            return candidate
    return None

"""Which snapshot a new one builds on, so that it reads only what changed since."""

from collections.abc import Iterator

from stillframe.domain.identifiers import SnapshotId
from stillframe.domain.namespace import Incarnation, Namespace
from stillframe.domain.snapshot import Snapshot, SnapshotStatus
from stillframe.errors import DataError
from stillframe.service.foundation import Foundation
from stillframe.service.repositories import Repositories

_CANDIDATES = 8
"""How many of a namespace's newest snapshots are looked at: those of an earlier incarnation do not count."""


def choose_parent(
    base: Foundation,
    repositories: Repositories,
    namespace: Namespace,
    incarnation: Incarnation,
    snapshot: Snapshot,
) -> SnapshotId | None:
    """The newest whole snapshot of this incarnation under the same key, else the one it was restored from.

    Only a proposal: whether the changes since are known without any doubt is decided by the capture itself.
    """
    repository = repositories.of(snapshot.region)
    for candidate in _candidates(base, namespace, incarnation, snapshot):
        try:
            facts = repository.document(candidate).facts
        except DataError:
            # Damaged or deleted meanwhile: another one will do, or none.
            continue
        if facts.lineage_id == incarnation.lineage_id or candidate == incarnation.origin_snapshot_id:
            return candidate
    return None


def _candidates(
    base: Foundation, namespace: Namespace, incarnation: Incarnation, snapshot: Snapshot
) -> Iterator[SnapshotId]:
    with base.catalog.transaction() as transaction:
        own = transaction.snapshots.list(
            namespace_id=namespace.id,
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
    yield from (found.id for found in own if found.damage is None)
    if origin is not None and origin.damage is None:
        yield origin.id

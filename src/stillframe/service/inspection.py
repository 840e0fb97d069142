"""Looking behind the API: a snapshot with what its document says, and the operations of a namespace."""

from dataclasses import dataclass
from typing import Any

from stillframe.domain.access import Caller
from stillframe.domain.operation import Operation
from stillframe.domain.snapshot import Snapshot, SnapshotStatus
from stillframe.repository import SnapshotDocument
from stillframe.service.foundation import Foundation
from stillframe.service.namespace_lookup import find_namespace
from stillframe.service.pagination import Listing, paginate
from stillframe.service.repositories import Repositories
from stillframe.service.snapshots import SnapshotSelector, find_snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotDetail:
    """A snapshot; `document` once it is complete."""

    snapshot: Snapshot
    document: SnapshotDocument | None


class Inspection:
    """DescribeSnapshot and ListOperations."""

    def __init__(self, foundation: Foundation, repositories: Repositories) -> None:
        self._base = foundation
        self._repositories = repositories

    def snapshot(self, caller: Caller, selector: SnapshotSelector) -> SnapshotDetail:
        """A snapshot in detail. Raises NotFound, InvalidRequest."""
        with self._base.catalog.transaction() as transaction:
            snapshot = find_snapshot(transaction, caller, selector)
        if snapshot.status is not SnapshotStatus.AVAILABLE:
            return SnapshotDetail(snapshot=snapshot, document=None)
        return SnapshotDetail(
            snapshot=snapshot, document=self._repositories.of(snapshot.region).document(snapshot.id)
        )

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

"""What time does to snapshots: those whose retention has ended go, and what nobody refers to is collected."""

import structlog

from stillframe.catalog import Transaction
from stillframe.domain.identifiers import SnapshotId
from stillframe.domain.snapshot import KEEP_FOREVER, Snapshot, SnapshotStatus
from stillframe.errors import Conflict, StillframeError
from stillframe.service.conditions import protected_in
from stillframe.service.foundation import Foundation
from stillframe.service.hydrations import Hydrations
from stillframe.service.repositories import Repositories
from stillframe.service.servers import Servers
from stillframe.service.snapshots import Snapshots, is_being_restored, mark_deleted

log = structlog.get_logger(__name__)


class Retention:
    """The periodic sweep. Safe to run at any time, and after a crash at any point."""

    def __init__(
        self,
        foundation: Foundation,
        snapshots: Snapshots,
        repositories: Repositories,
        servers: Servers,
        hydrations: Hydrations,
    ) -> None:
        self._base = foundation
        self._snapshots = snapshots
        self._repositories = repositories
        self._servers = servers
        self._hydrations = hydrations
        self._told: set[SnapshotId] = set()

    def sweep(self) -> None:
        """Delete what has expired, finish deletions that were cut off, collect the rubbish of each repository."""
        for snapshot in self._expired():
            log.info("snapshot_expired", snapshot=snapshot.name, retention_days=snapshot.retention_days)
        for snapshot in self._half_deleted():
            self._snapshots.finish_deletion(snapshot)
        self._servers.empty_trash()
        self._hydrations.sweep()
        for region, repository in self._repositories.existing():
            try:
                report = repository.sweep()
            except Conflict:
                # Another sweep is under way, the command's perhaps.
                continue
            except StillframeError as error:
                log.warning("repository_sweep_failed", region=region, kind=error.kind, reason=error.message)
                continue
            if report.bytes_removed:
                log.info(
                    "repository_swept",
                    region=region,
                    bytes_removed=report.bytes_removed,
                    packs_removed=report.packs_removed,
                )

    def _expired(self) -> list[Snapshot]:
        with self._base.catalog.transaction() as transaction:
            candidates = [
                snapshot
                for snapshot in transaction.snapshots.list(status=SnapshotStatus.AVAILABLE)
                if snapshot.retention_days != KEEP_FOREVER and self._is_due(snapshot)
            ]
            free = [snapshot for snapshot in candidates if not is_being_restored(transaction, snapshot)]
            due = self._without_protected(transaction, free)
            return [mark_deleted(transaction, snapshot) for snapshot in due]

    def _without_protected(self, transaction: Transaction, due: list[Snapshot]) -> list[Snapshot]:
        """The last clean snapshot of a namespace whose later ones are damaged may be all that is left of its data."""
        if not due:
            return due
        protected = protected_in(transaction, due)
        for snapshot in due:
            if snapshot.id in protected and snapshot.id not in self._told:
                self._told.add(snapshot.id)
                log.warning(
                    "last_clean_snapshot_kept",
                    snapshot=snapshot.name,
                    namespace=snapshot.namespace_name,
                    retention_days=snapshot.retention_days,
                )
        return [snapshot for snapshot in due if snapshot.id not in protected]

    def _is_due(self, snapshot: Snapshot) -> bool:
        end = snapshot.expires_at()
        return end is not None and self._base.clock.now() >= end

    def _half_deleted(self) -> list[Snapshot]:
        with self._base.catalog.transaction() as transaction:
            return transaction.snapshots.list(status=SnapshotStatus.DELETED)

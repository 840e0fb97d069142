"""The job that brings one table back out of a snapshot.

The table arrives in one transaction of the namespace's own server, so it is there or it is not. The number of that
transaction is written down before its commit: a job that was cut off asks the server how it ended.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from stillframe.backup.progress import Progress
from stillframe.backup.table_copy import CopyReport, TableCopy, copy_table
from stillframe.domain.operation import Operation, OperationStatus
from stillframe.domain.snapshot import Snapshot, SnapshotProgress
from stillframe.domain.table_restore import TableRestore, TableRestoreStatus
from stillframe.errors import InternalError
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.table_login import login_name, remove_login
from stillframe.postgres.table_target import find_place, has_arrived
from stillframe.service.foundation import Foundation
from stillframe.service.jobs.runner import Failure
from stillframe.service.jobs.states import free_in, load
from stillframe.service.jobs.watch import Watch, watching
from stillframe.service.private_copies import CopyPlace, PrivateCopies
from stillframe.service.room import require_room
from stillframe.service.servers import Servers

_ROOM = 2
"""How many times a table's length it takes in the target while it arrives: itself, and the WAL that says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What the job reads at its beginning."""

    restore: TableRestore
    snapshot: Snapshot
    admin: str

    @property
    def place(self) -> CopyPlace:
        return CopyPlace(namespace_id=self.restore.namespace_id, copy_id=self.restore.id)


class RestoreTableFromSnapshot:
    """A private copy of the snapshot, the table out of it, the end of the copy."""

    retries = False

    def __init__(self, foundation: Foundation, servers: Servers, copies: PrivateCopies) -> None:
        self._base = foundation
        self._servers = servers
        self._copies = copies

    def run(self, operation: Operation, watch: Watch) -> None:
        """Bring the table. Running it again after a crash begins anew, or finds that all was done."""
        namespace, workgroup = load(self._base, operation)
        work = self._begin(operation, admin=namespace.admin_username)
        self._copies.remove(work.place)
        with self._servers.running(namespace, workgroup) as target:
            if self._clean_up(work, target):
                self._finish(operation)
                return
            # Before the copy is made: what can be refused at once is refused at once.
            find_place(target, work.restore.target)
            self._bring(operation, work, target, watch)
        self._finish(operation)

    def give_up(self, operation: Operation, failure: Failure) -> None:
        """Nothing of the table is in the target, or all of it; nothing private is left; the reason is told."""
        namespace, workgroup = load(self._base, operation)
        work = self._begin(operation, admin=namespace.admin_username)
        self._copies.remove(work.place)
        with self._servers.running(namespace, workgroup) as target:
            arrived = self._clean_up(work, target)
        self._finish(operation, None if arrived else failure)

    def _begin(self, operation: Operation, *, admin: str) -> _Work:
        with self._base.catalog.transaction() as transaction:
            restore = transaction.table_restores.find(id=operation.id)
            snapshot = transaction.snapshots.find(id=restore.snapshot_id) if restore else None
            transaction.table_restores.change(
                {"status": TableRestoreStatus.IN_PROGRESS},
                id=operation.id,
                status=TableRestoreStatus.PENDING,
            )
        if restore is None or snapshot is None:
            raise InternalError("The table restore or its snapshot is gone", operation=str(operation.id))
        return _Work(restore=restore, snapshot=snapshot, admin=admin)

    def _clean_up(self, work: _Work, target: Cluster) -> bool:
        """Remove what an attempt left in the target; whether it had brought the table."""
        remove_login(target, login_name(work.restore.id), database=work.restore.target_database)
        number = work.restore.target_transaction
        return number is not None and has_arrived(target, work.restore.target, transaction=number)

    def _bring(self, operation: Operation, work: _Work, target: Cluster, watch: Watch) -> None:
        rows = Progress(self._base.clock)
        with (
            watching(
                watch,
                publish=lambda progress: self._publish(operation, progress, rows.current),
                cancel_requested=lambda: False,
            ),
            self._copies.opened(work.snapshot, work.place, watch) as copy,
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="remove") as aside,
        ):
            watch.progress.begin("copying the table")
            copy_table(
                copy,
                target,
                TableCopy(
                    source=work.restore.source,
                    target=work.restore.target,
                    admin=work.admin,
                    login=login_name(work.restore.id),
                ),
                CopyReport(
                    progress=rows,
                    cancel=watch.cancel,
                    before_copy=lambda size: require_room(self._base.settings.paths.root, _ROOM * size),
                    before_commit=lambda number: self._remember(operation, number, rows.current),
                    # If that fails it is tried again when the block ends.
                    after_reading=lambda: aside.submit(self._copies.remove, work.place),
                ),
            )

    def _remember(self, operation: Operation, number: int, progress: SnapshotProgress) -> None:
        """The transaction is about to be committed; from here on only the server knows how that ends."""
        known = {"target_transaction": number, "total_bytes": progress.total_bytes}
        with self._base.catalog.transaction() as transaction:
            transaction.table_restores.change(known, id=operation.id)

    def _publish(self, operation: Operation, progress: SnapshotProgress, rows: SnapshotProgress) -> None:
        moved = {
            "phase": progress.phase if rows.total_bytes is None else rows.phase,
            "done_bytes": progress.done_bytes,
            "total_bytes": progress.total_bytes,
        }
        copied = {"done_bytes": rows.done_bytes, "total_bytes": rows.total_bytes}
        with self._base.catalog.transaction() as transaction:
            transaction.operations.change(moved, id=operation.id)
            transaction.table_restores.change(copied, id=operation.id, status=TableRestoreStatus.IN_PROGRESS)

    def _finish(self, operation: Operation, failure: Failure | None = None) -> None:
        with self._base.catalog.transaction() as transaction:
            restore = transaction.table_restores.find(lock=True, id=operation.id)
            if restore is not None:
                transaction.table_restores.put(_ended(restore, failure))
            free_in(self._base, transaction, operation, failure)


def _ended(restore: TableRestore, failure: Failure | None) -> TableRestore:
    if failure is None:
        done = restore.total_bytes or 0
        return replace(restore, status=TableRestoreStatus.SUCCEEDED, done_bytes=done, message=None)
    cancelled = failure.status is OperationStatus.CANCELLED
    status = TableRestoreStatus.CANCELED if cancelled else TableRestoreStatus.FAILED
    return replace(restore, status=status, message=_sentences(failure))


def _sentences(failure: Failure) -> str:
    stop = "" if failure.summary.endswith((".", "!", "?")) else "."
    return f"{failure.summary}{stop} {failure.hint}" if failure.hint else f"{failure.summary}{stop}"

"""How far an operation is, written to its row for whoever asks."""

from collections.abc import Callable

from stillframe.domain.operation import Operation
from stillframe.domain.snapshot import SnapshotProgress
from stillframe.service.foundation import Foundation


def publisher(base: Foundation, operation: Operation) -> Callable[[SnapshotProgress], None]:
    """What `watching` calls to publish the progress of an operation that nothing else shows."""

    def publish(progress: SnapshotProgress) -> None:
        moved = {
            "phase": progress.phase,
            "done_bytes": progress.done_bytes,
            "total_bytes": progress.total_bytes,
        }
        with base.catalog.transaction() as transaction:
            transaction.operations.change(moved, id=operation.id)

    return publish

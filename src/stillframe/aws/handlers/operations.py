"""Our operations that look behind the API: a snapshot in detail, and what the service is doing."""

from collections.abc import Mapping
from typing import Any

from stillframe.aws.dispatch import Handler
from stillframe.aws.handlers.open_snapshots import present_open
from stillframe.aws.handlers.snapshots import SnapshotHandlers, selector_of
from stillframe.aws.handlers.values import page_of
from stillframe.domain.access import Caller
from stillframe.domain.operation import Operation
from stillframe.domain.proof import Proof
from stillframe.service.inspection import Inspection, SnapshotDetail
from stillframe.service.restores import Restored, how_restored


class OperationHandlers:
    """DescribeSnapshot and ListOperations on the wire."""

    def __init__(self, inspection: Inspection, snapshots: SnapshotHandlers) -> None:
        self._inspection = inspection
        self._snapshots = snapshots

    def table(self) -> Mapping[str, Handler]:
        """Handlers by operation."""
        return {"DescribeSnapshot": self.describe, "ListOperations": self.list}

    def describe(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """DescribeSnapshot."""
        detail = self._inspection.snapshot(caller, selector_of(members))
        return {"snapshot": self._snapshots.present(detail.snapshot), "detail": _present_detail(detail)}

    def list(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """ListOperations."""
        page = self._inspection.operations(
            caller, namespace_name=members.get("namespaceName"), **page_of(members)
        )
        return {"operations": [present_operation(item) for item in page.items], "nextToken": page.next_token}


def _present_detail(detail: SnapshotDetail) -> Mapping[str, Any]:
    snapshot, document = detail.snapshot, detail.document
    remaining = snapshot.progress.remaining_seconds
    running = {
        "phase": snapshot.phase,
        "doneBytes": snapshot.done_bytes,
        "totalBytes": snapshot.total_bytes,
        "bytesPerSecond": snapshot.bytes_per_second,
        "elapsedSeconds": snapshot.elapsed_seconds,
        "remainingSeconds": remaining,
        "logicalBytes": snapshot.logical_bytes,
        "storedBytes": snapshot.stored_bytes,
        "damage": snapshot.damage,
        "failure": snapshot.failure,
        "damaged": detail.condition.damaged,
        "protected": detail.condition.protected,
        "proof": _present_proof(detail.condition.proof),
        "openSnapshots": [present_open(copy) for copy in detail.opened],
    }
    if document is None:
        return running
    facts = document.facts
    return running | {
        "mode": facts.mode.value,
        "startLsn": str(facts.start_lsn),
        "stopLsn": str(facts.stop_lsn),
        "timeline": facts.timeline,
        "serverVersion": facts.postgres.server_version,
        "databases": [{"name": database.name, "sizeBytes": database.size} for database in facts.databases],
    }


def present_operation(operation: Operation) -> Mapping[str, Any]:
    """An operation as ours show it."""
    return {
        "operationId": str(operation.id),
        "kind": operation.kind.value,
        "status": operation.status.value,
        "phase": operation.phase,
        "doneBytes": operation.done_bytes,
        "totalBytes": operation.total_bytes,
        "createdAt": operation.created_at,
        "startedAt": operation.started_at,
        "finishedAt": operation.finished_at,
        "failureKind": operation.failure_kind,
        "failure": operation.failure,
        "hint": operation.hint,
        "requestId": operation.request_id,
        "restored": _present_restored(how_restored(operation)),
    }


def _present_restored(restored: Restored | None) -> Mapping[str, Any] | None:
    if restored is None:
        return None
    return {
        "strategy": restored.strategy,
        "reason": restored.reason,
        "localBytes": restored.local_bytes,
    }


def _present_proof(proof: Proof | None) -> Mapping[str, Any] | None:
    if proof is None:
        return None
    return {
        "result": proof.result.value,
        "provedAt": proof.proved_at,
        "durationSeconds": proof.duration_seconds,
        "serverVersion": proof.server_version,
        "findings": list(proof.findings),
        "remarks": list(proof.remarks),
        "databases": [dict(database) for database in proof.databases],
    }

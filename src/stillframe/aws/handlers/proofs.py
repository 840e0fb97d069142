"""The health of snapshots: our ProveSnapshot and ListSnapshotConditions."""

from collections.abc import Mapping
from typing import Any

from stillframe.aws.dispatch import Handler
from stillframe.aws.handlers.operations import present_operation
from stillframe.aws.handlers.snapshots import selector_of
from stillframe.aws.handlers.values import page_of
from stillframe.domain.access import Caller
from stillframe.service.inspection import Inspection, SnapshotCondition
from stillframe.service.proofs import Proofs


class ProofHandlers:
    """The operations on proofs and what they found, on the wire."""

    def __init__(self, proofs: Proofs, inspection: Inspection) -> None:
        self._proofs = proofs
        self._inspection = inspection

    def table(self) -> Mapping[str, Handler]:
        """Handlers by operation."""
        return {"ProveSnapshot": self.prove, "ListSnapshotConditions": self.list}

    def prove(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """ProveSnapshot."""
        return {"operation": present_operation(self._proofs.request(caller, selector_of(members)))}

    def list(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """ListSnapshotConditions."""
        page = self._inspection.conditions(
            caller, namespace_name=members.get("namespaceName"), **page_of(members)
        )
        return {"conditions": [_present(item) for item in page.items], "nextToken": page.next_token}


def _present(condition: SnapshotCondition) -> Mapping[str, Any]:
    proof = condition.proof
    return {
        "snapshotName": condition.snapshot.name,
        "snapshotArn": condition.snapshot.arn,
        "damaged": condition.damaged,
        "protected": condition.protected,
        "proof": proof.result.value if proof else None,
        "provedAt": proof.proved_at if proof else None,
    }

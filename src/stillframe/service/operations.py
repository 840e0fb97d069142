"""Accepting long work: the operation, its job and the states that show it are written in one transaction."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace

from stillframe.catalog import Transaction
from stillframe.domain.access import Caller
from stillframe.domain.namespace import Namespace, NamespaceStatus
from stillframe.domain.operation import Operation, OperationKind, OperationStatus
from stillframe.service.foundation import Foundation


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A namespace that is now busy with `operation`."""

    namespace: Namespace
    operation: Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What to do: the kind, what it is about, and its arguments (JSON, no secret in the clear)."""

    kind: OperationKind
    subject_id: uuid.UUID
    arguments: Mapping[str, object]
    namespace_status: NamespaceStatus = NamespaceStatus.MODIFYING


def claim(
    base: Foundation, transaction: Transaction, namespace: Namespace, caller: Caller, intent: Intent
) -> Claim:
    """Make the namespace busy, write the operation and defer its job. The caller holds the namespace's row lock."""
    operation = Operation(
        id=base.new_id(),
        account=namespace.account,
        region=namespace.region,
        kind=intent.kind,
        status=OperationStatus.QUEUED,
        namespace_id=namespace.id,
        subject_id=intent.subject_id,
        arguments=intent.arguments,
        request_id=caller.request_id,
        created_at=base.clock.now(),
    )
    claimed = replace(namespace, status=intent.namespace_status, operation_id=operation.id)
    transaction.namespaces.put(claimed)
    transaction.operations.insert(operation)
    transaction.defer(operation, lock=str(namespace.id))
    return Claim(namespace=claimed, operation=operation)

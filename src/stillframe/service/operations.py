"""Accepting long work: the operation, its job and the states that show it are written in one transaction."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from stillframe.catalog import Transaction
from stillframe.domain.access import Caller
from stillframe.domain.identifiers import NamespaceId, Scope
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One operation to queue. Those with the same `lock` run one after the other; `request_id` is empty for one that
    no request asked for.
    """

    kind: OperationKind
    namespace_id: NamespaceId
    subject_id: uuid.UUID
    lock: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    request_id: str = ""


def claim(
    base: Foundation, transaction: Transaction, namespace: Namespace, caller: Caller, intent: Intent
) -> Claim:
    """Make the namespace busy, write the operation and defer its job. The caller holds the namespace's row lock."""
    work = Work(
        kind=intent.kind,
        namespace_id=namespace.id,
        subject_id=intent.subject_id,
        lock=str(namespace.id),
        arguments=intent.arguments,
        request_id=caller.request_id,
    )
    operation = enqueue(base, transaction, namespace.scope, work)
    claimed = replace(namespace, status=intent.namespace_status, operation_id=operation.id)
    transaction.namespaces.put(claimed)
    return Claim(namespace=claimed, operation=operation)


def enqueue(base: Foundation, transaction: Transaction, scope: Scope, work: Work) -> Operation:
    """Write an operation of this account and Region, and defer its job. Nothing becomes busy by that."""
    operation = Operation(
        id=base.new_id(),
        account=scope.account,
        region=scope.region,
        kind=work.kind,
        status=OperationStatus.QUEUED,
        namespace_id=work.namespace_id,
        subject_id=work.subject_id,
        arguments=work.arguments,
        request_id=work.request_id,
        created_at=base.clock.now(),
    )
    transaction.operations.insert(operation)
    transaction.defer(operation, lock=work.lock)
    return operation

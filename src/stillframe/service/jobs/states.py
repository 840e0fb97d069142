"""The states that operations read at their beginning and write at their end."""

from dataclasses import replace

from stillframe.catalog import Transaction
from stillframe.domain.namespace import Namespace, NamespaceStatus
from stillframe.domain.operation import Operation
from stillframe.domain.workgroup import Workgroup, WorkgroupStatus
from stillframe.errors import InternalError
from stillframe.service.foundation import Foundation
from stillframe.service.jobs.runner import Failure, end_in


def load(base: Foundation, operation: Operation) -> tuple[Namespace, Workgroup]:
    """The namespace and the workgroup that an operation on a workgroup is about."""
    with base.catalog.transaction() as transaction:
        namespace = transaction.namespaces.find(id=operation.namespace_id)
        workgroup = transaction.workgroups.find(id=operation.subject_id)
    if namespace is None or workgroup is None:
        raise InternalError("The operation's workgroup or namespace is gone", operation=str(operation.id))
    return namespace, workgroup


def load_namespace(base: Foundation, operation: Operation) -> tuple[Namespace, Workgroup | None]:
    """The namespace an operation is about, and its workgroup when it has one."""
    with base.catalog.transaction() as transaction:
        namespace = transaction.namespaces.find(id=operation.namespace_id)
        workgroup = transaction.workgroups.find(namespace_id=operation.namespace_id)
    if namespace is None:
        raise InternalError("The operation's namespace is gone", operation=str(operation.id))
    return namespace, workgroup


def freed(namespace: Namespace) -> Namespace:
    """The namespace, ready for the next operation."""
    return replace(namespace, status=NamespaceStatus.AVAILABLE, operation_id=None)


def free_namespace(base: Foundation, operation: Operation, failure: Failure | None = None) -> None:
    """Make the namespace AVAILABLE, if this operation is what keeps it busy, and end the operation."""
    with base.catalog.transaction() as transaction:
        free_in(base, transaction, operation, failure)


def free_in(
    base: Foundation, transaction: Transaction, operation: Operation, failure: Failure | None = None
) -> None:
    """The same inside of a transaction.

    One transaction, because a namespace that is free may be claimed at once: an operation that was cut off
    between both would run again beside the next one.
    """
    namespace = transaction.namespaces.find(lock=True, id=operation.namespace_id)
    if namespace is not None and namespace.operation_id == operation.id:
        transaction.namespaces.put(freed(namespace))
    end_in(base, transaction, operation, failure)


def release(
    base: Foundation, operation: Operation, workgroup: Workgroup, failure: Failure | None = None
) -> None:
    """Write the workgroup as AVAILABLE, free its namespace and end the operation."""
    with base.catalog.transaction() as transaction:
        available = replace(workgroup, status=WorkgroupStatus.AVAILABLE, operation_id=None)
        transaction.workgroups.put(available)
        free_in(base, transaction, operation, failure)


def forget_workgroup(base: Foundation, operation: Operation, failure: Failure | None = None) -> None:
    """Remove the workgroup's row and labels, free its namespace and end the operation."""
    with base.catalog.transaction() as transaction:
        workgroup = transaction.workgroups.find(lock=True, id=operation.subject_id)
        if workgroup is not None:
            transaction.tags.delete(resource_arn=workgroup.arn)
            transaction.policies.delete(resource_arn=workgroup.arn)
            transaction.workgroups.delete(id=workgroup.id)
        free_in(base, transaction, operation, failure)

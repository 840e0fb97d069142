"""Making the machine agree with the catalog: after a start, and for as long as the service runs."""

import uuid
from dataclasses import replace

import structlog

from stillframe.catalog import Transaction
from stillframe.domain.namespace import Namespace, NamespaceStatus
from stillframe.domain.operation import ASIDE, UNFINISHED, Operation, OperationKind
from stillframe.domain.snapshot import SnapshotStatus
from stillframe.domain.workgroup import Workgroup, WorkgroupStatus
from stillframe.service.endpoints import EndpointRoute, Endpoints
from stillframe.service.foundation import Foundation
from stillframe.service.hydrations import Hydrations
from stillframe.service.jobs.states import freed
from stillframe.service.operations import Work, enqueue
from stillframe.service.servers import Servers

log = structlog.get_logger(__name__)

CUT_OFF = "The service ended while this was going on."


class Supervisor:
    """Looks for what should be there and is not. It only asks for work; jobs do it, one a namespace at a time."""

    def __init__(
        self, foundation: Foundation, servers: Servers, endpoints: Endpoints, hydrations: Hydrations
    ) -> None:
        self._base = foundation
        self._servers = servers
        self._endpoints = endpoints
        self._hydrations = hydrations

    def reconcile(self) -> None:
        """At start: nothing stays busy with an operation that has ended or never was."""
        with self._base.catalog.transaction() as transaction:
            active = {operation.id for operation in _active(transaction)}
            busy = {operation.subject_id for operation in _active(transaction)} | _final_snapshots(
                transaction
            )
            for namespace in transaction.namespaces.list(lock=True):
                if namespace.status is not NamespaceStatus.AVAILABLE and namespace.operation_id not in active:
                    transaction.namespaces.put(freed(namespace))
            for workgroup in transaction.workgroups.list(lock=True):
                if workgroup.status is not WorkgroupStatus.AVAILABLE and workgroup.operation_id not in active:
                    transaction.workgroups.put(
                        replace(workgroup, status=WorkgroupStatus.AVAILABLE, operation_id=None)
                    )
            for snapshot in transaction.snapshots.list(status=SnapshotStatus.CREATING):
                if snapshot.id not in busy:
                    failed = replace(snapshot, status=SnapshotStatus.FAILED, failure=CUT_OFF)
                    transaction.snapshots.put(failed)

    def watch(self) -> None:
        """Every few seconds: crashed servers are started again, and the endpoint has its routes."""
        self._hydrations.watch()
        with self._base.catalog.transaction() as transaction:
            served = self._served(transaction)
            starting = {
                operation.namespace_id for operation in _active(transaction) if operation.kind not in ASIDE
            }
        free = [(namespace, workgroup) for namespace, workgroup in served if namespace.id not in starting]
        down: set[uuid.UUID] = {
            workgroup.id for namespace, workgroup in free if self._servers.current(namespace).adopt() is None
        }
        down |= self._without_port(served)
        for namespace, workgroup in free:
            if workgroup.id in down:
                self._ask_to_start(namespace, workgroup)

    def _without_port(self, served: list[tuple[Namespace, Workgroup]]) -> set[uuid.UUID]:
        """Workgroups whose port was taken by somebody else while the endpoint process was away."""
        routes = self._routes(served)
        taken = {route.workgroup_id for route in self._endpoints.ensure(routes)}
        self._take_back(routes)
        return taken

    def _take_back(self, ensured: list[EndpointRoute]) -> None:
        """Correct routes that an operation closed or moved after we had looked and before we opened them."""
        with self._base.catalog.transaction() as transaction:
            served = {route.workgroup_id: route for route in self._routes(self._served(transaction))}
        for route in ensured:
            wanted = served.get(route.workgroup_id)
            if wanted is None:
                self._endpoints.close(route.workgroup_id)
            elif wanted != route:
                self._endpoints.open(wanted)

    def _routes(self, served: list[tuple[Namespace, Workgroup]]) -> list[EndpointRoute]:
        return [
            self._servers.route(workgroup, self._servers.current(namespace))
            for namespace, workgroup in served
        ]

    def _served(self, transaction: Transaction) -> list[tuple[Namespace, Workgroup]]:
        namespaces = {namespace.id: namespace for namespace in transaction.namespaces.list()}
        return [
            (namespaces[workgroup.namespace_id], workgroup)
            for workgroup in transaction.workgroups.list()
            if workgroup.port is not None and namespaces[workgroup.namespace_id].incarnation_id is not None
            and workgroup.status is not WorkgroupStatus.DELETING
        ]  # fmt: skip

    def _ask_to_start(self, namespace: Namespace, workgroup: Workgroup) -> None:
        if namespace.status is not NamespaceStatus.AVAILABLE:
            return
        work = Work(
            kind=OperationKind.START_SERVER,
            namespace_id=namespace.id,
            subject_id=workgroup.id,
            lock=str(namespace.id),
        )
        log.warning("server_is_down", namespace=namespace.name, workgroup=workgroup.name)
        with self._base.catalog.transaction() as transaction:
            enqueue(self._base, transaction, namespace.scope, work)


def _active(transaction: Transaction) -> list[Operation]:
    return transaction.operations.list(status=UNFINISHED)


def _final_snapshots(transaction: Transaction) -> set[uuid.UUID]:
    return {
        uuid.UUID(str(operation.arguments["snapshot_id"]))
        for operation in _active(transaction)
        if "snapshot_id" in operation.arguments
    }

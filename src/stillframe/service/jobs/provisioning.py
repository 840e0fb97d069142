"""Jobs that make, change and remove workgroups and namespaces, and bring crashed servers back."""

import uuid
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from stillframe.catalog import Transaction
from stillframe.domain.identifiers import KmsKeyId, SnapshotId
from stillframe.domain.namespace import Namespace
from stillframe.domain.operation import Operation
from stillframe.domain.workgroup import Workgroup, WorkgroupStatus
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import connect
from stillframe.postgres.roles import list_roles, rename_role, set_password
from stillframe.service.endpoints import Endpoints
from stillframe.service.foundation import Foundation
from stillframe.service.jobs.capturing import Capturer
from stillframe.service.jobs.runner import Failure, end_in
from stillframe.service.jobs.states import (
    forget_workgroup,
    free_namespace,
    freed,
    load,
    load_namespace,
    release,
)
from stillframe.service.jobs.watch import Watch
from stillframe.service.keys import usable_key
from stillframe.service.servers import Servers


class CreateWorkgroup:
    """Storage when there is none yet, the server, the endpoint."""

    retries = True

    def __init__(self, foundation: Foundation, servers: Servers) -> None:
        self._base = foundation
        self._servers = servers

    def run(self, operation: Operation, watch: Watch) -> None:
        """Make the workgroup AVAILABLE."""
        namespace, workgroup = load(self._base, operation)
        watch.progress.begin("starting the server")
        namespace = self._servers.ensure_storage(namespace, workgroup)
        cluster = self._servers.start(namespace, workgroup)
        opened = self._servers.open_endpoint(workgroup, cluster)
        release(self._base, operation, replace(opened, server_version=_version(self._servers)))

    def give_up(self, operation: Operation, failure: Failure) -> None:
        """The workgroup is taken back; the namespace is as it was."""
        remove_workgroup(self._base, self._servers, operation, failure)


class UpdateWorkgroup:
    """Settings, memory, port and address of a running workgroup."""

    retries = True

    def __init__(self, foundation: Foundation, servers: Servers) -> None:
        self._base = foundation
        self._servers = servers

    def run(self, operation: Operation, watch: Watch) -> None:
        """Bring the changed columns into force, restarting the server only where PostgreSQL asks for it."""
        namespace, workgroup = load(self._base, operation)
        watch.progress.begin("applying the change")
        changed = {str(name) for name in _as_list(operation.arguments.get("changed"))}
        cluster = self._apply(namespace, workgroup, changed)
        if "requested_port" in changed:
            workgroup = replace(workgroup, port=None)
        release(self._base, operation, self._servers.open_endpoint(workgroup, cluster))

    def give_up(self, operation: Operation, failure: Failure) -> None:
        """The workgroup is AVAILABLE again as it was before."""
        namespace, workgroup = load(self._base, operation)
        restored = replace(workgroup, **_previous(operation))
        cluster = self._servers.start(namespace, restored)
        release(self._base, operation, self._servers.open_endpoint(restored, cluster), failure)

    def _apply(self, namespace: Namespace, workgroup: Workgroup, changed: set[str]) -> Cluster:
        if "base_capacity" in changed:
            # shared_buffers is fixed while a server runs.
            self._servers.stop(self._servers.current(namespace))
        return self._servers.start(namespace, workgroup)


class DeleteWorkgroup:
    """The endpoint closes, the server stops, the data stays."""

    retries = True

    def __init__(self, foundation: Foundation, servers: Servers, endpoints: Endpoints) -> None:
        self._base = foundation
        self._servers = servers
        self._endpoints = endpoints

    def run(self, operation: Operation, watch: Watch) -> None:
        """Remove the workgroup."""
        namespace, _ = load(self._base, operation)
        watch.progress.begin("stopping the server")
        self._endpoints.close(operation.subject_id)
        if namespace.incarnation_id is not None:
            self._servers.stop(self._servers.current(namespace))
        forget_workgroup(self._base, operation)

    def give_up(self, operation: Operation, failure: Failure) -> None:
        """A workgroup that can't be taken down stays, AVAILABLE, so that the caller can ask again."""
        _, workgroup = load(self._base, operation)
        release(self._base, operation, workgroup, failure)


class UpdateNamespace:
    """Admin user and password in the cluster; roles, logs and keys in the catalog."""

    retries = True

    def __init__(self, foundation: Foundation, servers: Servers) -> None:
        self._base = foundation
        self._servers = servers

    def run(self, operation: Operation, watch: Watch) -> None:
        """Bring the new columns into force."""
        namespace, workgroup = load_namespace(self._base, operation)
        watch.progress.begin("applying the change")
        changed = with_columns(namespace, operation.arguments)
        if changed.admin_verifier != namespace.admin_verifier and namespace.incarnation_id is not None:
            with self._servers.running(namespace, workgroup) as cluster:
                change_admin(cluster, namespace.admin_username, changed)
        if changed.kms_key_id != namespace.kms_key_id:
            usable_key(self._base, namespace.scope, changed.kms_key_id)
        with self._base.catalog.transaction() as transaction:
            _forget_old_secret(transaction, namespace, changed)
            transaction.namespaces.put(freed(changed))
            end_in(self._base, transaction, operation)

    def give_up(self, operation: Operation, failure: Failure) -> None:
        """The namespace is AVAILABLE as it was."""
        free_namespace(self._base, operation, failure)


class DeleteNamespace:
    """A final snapshot when one was asked for, then everything the namespace has."""

    retries = False

    def __init__(self, foundation: Foundation, servers: Servers, capturer: Capturer) -> None:
        self._base = foundation
        self._servers = servers
        self._capturer = capturer

    def run(self, operation: Operation, watch: Watch) -> None:
        """Remove the namespace, but never before its final snapshot is AVAILABLE."""
        namespace, _ = load_namespace(self._base, operation)
        snapshot_id = operation.arguments.get("snapshot_id")
        if snapshot_id is not None:
            self._take_final(operation, namespace, SnapshotId(uuid.UUID(str(snapshot_id))), watch)
        watch.progress.begin("removing")
        self._servers.discard(namespace.id)
        self._forget(operation, namespace)
        self._servers.empty_trash()

    def give_up(self, operation: Operation, failure: Failure) -> None:
        """The namespace is AVAILABLE again with all its data: removing begins with one rename, or not at all."""
        snapshot_id = operation.arguments.get("snapshot_id")
        if snapshot_id is None:
            free_namespace(self._base, operation, failure)
        else:
            self._capturer.fail(operation, SnapshotId(uuid.UUID(str(snapshot_id))), failure)

    def _take_final(
        self, operation: Operation, namespace: Namespace, snapshot_id: SnapshotId, watch: Watch
    ) -> None:
        """Nobody writes to a namespace without a workgroup, so after a crash it is taken again."""
        if self._capturer.recover(snapshot_id):
            return
        self._servers.ensure_storage(namespace, None)
        self._capturer.take(operation, snapshot_id, watch)

    def _forget(self, operation: Operation, namespace: Namespace) -> None:
        with self._base.catalog.transaction() as transaction:
            transaction.tags.delete(resource_arn=namespace.arn)
            transaction.policies.delete(resource_arn=namespace.arn)
            transaction.namespaces.delete(id=namespace.id)
            end_in(self._base, transaction, operation)


class StartServer:
    """A server that should run and does not: after a crash of it or of the machine."""

    retries = True

    def __init__(self, foundation: Foundation, servers: Servers) -> None:
        self._base = foundation
        self._servers = servers

    def run(self, operation: Operation, watch: Watch) -> None:
        """Start the server and open its endpoint, when the workgroup still wants that."""
        with self._base.catalog.transaction() as transaction:
            namespace = transaction.namespaces.find(id=operation.namespace_id)
            workgroup = transaction.workgroups.find(namespace_id=operation.namespace_id)
        watch.progress.begin("starting the server")
        if namespace is None or workgroup is None or workgroup.status is not WorkgroupStatus.AVAILABLE:
            return
        cluster = self._servers.start(namespace, workgroup)
        opened = self._servers.open_endpoint(workgroup, cluster)
        if opened != workgroup:
            with self._base.catalog.transaction() as transaction:
                # Only this column: a request may have changed the status meanwhile.
                transaction.workgroups.change({"port": opened.port}, id=workgroup.id)

    def give_up(self, operation: Operation, failure: Failure) -> None:
        """Nothing to undo: the supervisor asks again, and the operation's record says why it failed."""


def remove_workgroup(base: Foundation, servers: Servers, operation: Operation, failure: Failure) -> None:
    """Take a workgroup back that did not come up, and storage that was not finished for it."""
    with base.catalog.transaction() as transaction:
        namespace = transaction.namespaces.find(id=operation.namespace_id)
    if namespace is not None and namespace.incarnation_id is not None:
        servers.stop(servers.current(namespace))
    elif namespace is not None:
        servers.drop_all(namespace.id)
    forget_workgroup(base, operation, failure)


def change_admin(cluster: Cluster, old_name: str, changed: Namespace) -> None:
    """Give the cluster's admin its new name and password; repeating it after a crash is fine."""
    with connect(cluster) as session:
        if old_name != changed.admin_username and any(role.name == old_name for role in list_roles(session)):
            rename_role(session, old=old_name, new=changed.admin_username)
        set_password(session, role=changed.admin_username, verifier=changed.admin_verifier)


def with_columns(namespace: Namespace, columns: Mapping[str, object]) -> Namespace:
    """The namespace with the columns that an update's arguments name, turned back from JSON."""
    known = {field.name for field in fields(namespace)}
    values = {name: _from_json(name, value) for name, value in columns.items() if name in known}
    return replace(namespace, **values)  # type: ignore[arg-type]


def _from_json(name: str, value: object) -> object:
    if isinstance(value, list):
        return tuple(value)
    if name == "admin_secret_id" and value is not None:
        return uuid.UUID(str(value))
    if name.endswith("kms_key_id") and value is not None:
        return KmsKeyId(str(value))
    return value


def _forget_old_secret(transaction: Transaction, old: Namespace, new: Namespace) -> None:
    if old.admin_secret_id is not None and old.admin_secret_id != new.admin_secret_id:
        transaction.managed_secrets.delete(id=old.admin_secret_id)


def _previous(operation: Operation) -> dict[str, Any]:
    """The columns of a workgroup as they were before an update, turned back from JSON."""
    before = operation.arguments.get("before")
    assert isinstance(before, Mapping)
    return {name: _tupled(value) for name, value in before.items()}


def _tupled(value: object) -> object:
    return tuple(_tupled(item) for item in value) if isinstance(value, (list, tuple)) else value


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _version(servers: Servers) -> str:
    version = servers.machine.installation.version_num
    return f"{version // 10000}.{version % 10000}"

"""The job that replaces a namespace's databases by those of a snapshot.

The new incarnation is built and started beside the old one. The catalog's switch from one to the other is the
point of no return: a failure before it leaves the old databases, a crash after it is completed by running again.
"""

import uuid
from dataclasses import dataclass, replace

from stillframe.catalog import Transaction
from stillframe.domain.identifiers import IncarnationId, KmsKeyId, LineageId, SnapshotId
from stillframe.domain.namespace import Incarnation, Namespace
from stillframe.domain.operation import Operation
from stillframe.domain.snapshot import Snapshot, SnapshotProgress
from stillframe.domain.workgroup import Workgroup, WorkgroupStatus
from stillframe.errors import InternalError
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import connect
from stillframe.postgres.roles import set_password
from stillframe.repository import SnapshotFacts
from stillframe.service.endpoints import Endpoints
from stillframe.service.foundation import Foundation
from stillframe.service.jobs.runner import Failure
from stillframe.service.jobs.states import free_in, load, load_namespace
from stillframe.service.jobs.watch import Watch, watching
from stillframe.service.layout import BroughtUp, Layouts
from stillframe.service.restores import Restored
from stillframe.service.servers import Servers


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreTools:
    """What a restore works with."""

    servers: Servers
    endpoints: Endpoints
    layouts: Layouts


class RestoreFromSnapshot:
    """A new incarnation from the snapshot, the switch, the end of the old one."""

    retries = False

    def __init__(self, foundation: Foundation, tools: RestoreTools) -> None:
        self._base = foundation
        self._servers = tools.servers
        self._endpoints = tools.endpoints
        self._layouts = tools.layouts

    def run(self, operation: Operation, watch: Watch) -> None:
        """Build, start, switch, clean up. Running it again after a crash begins anew, or only cleans up."""
        namespace, workgroup = load(self._base, operation)
        if not self._has_switched(operation, namespace):
            self._drop_others(namespace)
            self._servers.require_room(self._snapshot(operation).logical_bytes or 0)
            self._endpoints.pause(workgroup.id)
            incarnation = self._build(operation, namespace, workgroup, watch)
            namespace = self._switch(operation, namespace, incarnation)
        workgroup = replace(workgroup, publicly_accessible=self._snapshot(operation).publicly_accessible)
        watch.progress.begin("switching over")
        cluster = self._servers.start(namespace, workgroup)
        opened = self._servers.open_endpoint(workgroup, cluster)
        # Clients are let in: what follows nobody waits for.
        self._remember_admin(operation, namespace, cluster)
        self._drop_others(namespace)
        self._finish(operation, opened)
        self._layouts.bring_rest(cluster)

    def give_up(self, operation: Operation, failure: Failure) -> None:
        """The old databases run on; the reason is in the operation's record.

        After the switch there is no way back: what is left of the work is done, and the restore has succeeded.
        """
        namespace, workgroup = load_namespace(self._base, operation)
        switched = self._has_switched(operation, namespace)
        self._drop_others(namespace)
        if workgroup is None:
            raise InternalError("The restored namespace lost its workgroup", namespace=str(namespace.id))
        cluster = self._servers.start(namespace, workgroup)
        opened = self._servers.open_endpoint(workgroup, cluster)
        if switched:
            self._remember_admin(operation, namespace, cluster)
        else:
            self._forget_secret(operation)
        self._finish(operation, opened, None if switched else failure)

    def _has_switched(self, operation: Operation, namespace: Namespace) -> bool:
        return namespace.incarnation_id == _incarnation_of(operation)

    def _build(
        self, operation: Operation, namespace: Namespace, workgroup: Workgroup, watch: Watch
    ) -> Incarnation:
        """The new incarnation, running and checked, with the wanted admin password."""
        incarnation_id = _incarnation_of(operation)
        cluster = self._servers.cluster(namespace.id, incarnation_id)
        snapshot = self._snapshot(operation)
        with watching(
            watch,
            publish=lambda progress: self._publish(operation, progress),
            cancel_requested=lambda: False,
        ):
            restored = self._layouts.bring_up(
                snapshot, cluster, self._servers.settings_for(workgroup), watch, replaces=namespace
            )
        self._record(operation, restored)
        facts = restored.facts
        self._set_managed_password(operation, snapshot, cluster)
        return Incarnation(
            id=incarnation_id,
            namespace_id=namespace.id,
            lineage_id=LineageId(self._base.new_id()),
            created_at=self._base.clock.now(),
            system_identifier=facts.postgres.system_identifier,
            timeline=restored.timeline,
            origin_snapshot_id=snapshot.id,
            ancestry=(*_ancestry(facts), (facts.lineage_id, facts.timeline, int(facts.stop_lsn))),
        )

    def _set_managed_password(self, operation: Operation, snapshot: Snapshot, cluster: Cluster) -> None:
        verifier = operation.arguments.get("admin_verifier")
        if verifier is not None:
            with connect(cluster) as session:
                set_password(session, role=snapshot.admin_username, verifier=str(verifier))

    def _switch(self, operation: Operation, namespace: Namespace, incarnation: Incarnation) -> Namespace:
        """The point of no return: the catalog says which incarnation is the namespace."""
        snapshot = self._snapshot(operation)
        secret_id = operation.arguments.get("admin_secret_id")
        with self._base.catalog.transaction() as transaction:
            transaction.incarnations.upsert(incarnation)
            transaction.database_users.delete(namespace_id=namespace.id)
            _keep_only_secret(transaction, namespace, secret_id)
            switched = replace(
                namespace,
                incarnation_id=incarnation.id,
                admin_username=snapshot.admin_username,
                db_name=snapshot.db_name,
                admin_secret_id=uuid.UUID(str(secret_id)) if secret_id else None,
                admin_secret_kms_key_id=_secret_key(transaction, secret_id),
            )
            transaction.namespaces.put(switched)
        return switched

    def _remember_admin(self, operation: Operation, namespace: Namespace, cluster: Cluster) -> None:
        """What the catalog has of the admin's password; only a later change of it is compared with that."""
        with connect(cluster) as session:
            (verifier,) = session.row(
                "SELECT rolpassword FROM pg_authid WHERE rolname = %s",
                (self._snapshot(operation).admin_username,),
            )
        with self._base.catalog.transaction() as transaction:
            transaction.namespaces.change({"admin_verifier": verifier}, id=namespace.id)

    def _finish(self, operation: Operation, workgroup: Workgroup, failure: Failure | None = None) -> None:
        with self._base.catalog.transaction() as transaction:
            transaction.workgroups.put(
                replace(workgroup, status=WorkgroupStatus.AVAILABLE, operation_id=None)
            )
            free_in(self._base, transaction, operation, failure)

    def _drop_others(self, namespace: Namespace) -> None:
        """Remove every incarnation but the current one: what a cut-off restore left, or what it replaced."""
        for cluster in self._servers.clusters_of(namespace.id):
            incarnation_id = uuid.UUID(cluster.data_directory.name)
            if incarnation_id != namespace.incarnation_id:
                self._servers.replace_by(namespace.id, incarnation_id, current=namespace.incarnation_id)
                with self._base.catalog.transaction() as transaction:
                    transaction.incarnations.delete(id=incarnation_id)

    def _snapshot(self, operation: Operation) -> Snapshot:
        with self._base.catalog.transaction() as transaction:
            snapshot = transaction.snapshots.find(id=_snapshot_of(operation))
        if snapshot is None:
            raise InternalError("The snapshot to restore from is gone", operation=str(operation.id))
        return snapshot

    def _publish(self, operation: Operation, progress: SnapshotProgress) -> None:
        moved = {
            "phase": progress.phase,
            "done_bytes": progress.done_bytes,
            "total_bytes": progress.total_bytes,
        }
        with self._base.catalog.transaction() as transaction:
            transaction.operations.change(moved, id=operation.id)

    def _record(self, operation: Operation, restored: BroughtUp) -> None:
        """How it was done, beside what was asked for."""
        how = Restored(
            strategy=restored.laid.chosen.strategy.value,
            reason=restored.laid.chosen.reason,
            local_bytes=restored.laid.local_bytes,
            doubt=restored.laid.chosen.doubt,
        )
        with self._base.catalog.transaction() as transaction:
            transaction.operations.change({"arguments": how.beside(operation.arguments)}, id=operation.id)

    def _forget_secret(self, operation: Operation) -> None:
        secret_id = operation.arguments.get("admin_secret_id")
        if secret_id is not None:
            with self._base.catalog.transaction() as transaction:
                transaction.managed_secrets.delete(id=uuid.UUID(str(secret_id)))


def _incarnation_of(operation: Operation) -> IncarnationId:
    """The new incarnation has the operation's id: running again finds what an earlier attempt began."""
    return IncarnationId(operation.id)


def _snapshot_of(operation: Operation) -> SnapshotId:
    return SnapshotId(uuid.UUID(str(operation.arguments["snapshot_id"])))


def _ancestry(facts: SnapshotFacts) -> tuple[tuple[uuid.UUID, int, int], ...]:
    return tuple((entry.lineage_id, entry.timeline, int(entry.fork_lsn)) for entry in facts.ancestry)


def _keep_only_secret(transaction: Transaction, namespace: Namespace, secret_id: object) -> None:
    """A managed password goes with the databases it belonged to."""
    for secret in transaction.managed_secrets.list(namespace_id=namespace.id):
        if str(secret.id) != str(secret_id):
            transaction.managed_secrets.delete(id=secret.id)


def _secret_key(transaction: Transaction, secret_id: object) -> KmsKeyId | None:
    secret = transaction.managed_secrets.find(id=uuid.UUID(str(secret_id))) if secret_id else None
    return secret.kms_key_id if secret else None

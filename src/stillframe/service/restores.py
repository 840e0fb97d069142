"""Accepting restores."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from stillframe.catalog import Transaction
from stillframe.domain.access import Caller
from stillframe.domain.namespace import Namespace
from stillframe.domain.operation import Operation, OperationKind
from stillframe.domain.snapshot import Snapshot, SnapshotStatus
from stillframe.domain.workgroup import Workgroup, WorkgroupStatus
from stillframe.errors import Conflict, DataError, InvalidRequest, QuotaExceeded
from stillframe.service.foundation import Foundation, require_available, require_workgroup_available
from stillframe.service.keys import require_usable
from stillframe.service.namespace_lookup import find_namespace
from stillframe.service.operations import Intent, claim
from stillframe.service.repositories import Repositories
from stillframe.service.secrets import managed_password
from stillframe.service.snapshots import SnapshotSelector, find_snapshot
from stillframe.service.workgroups import find_workgroup

_RESTORED = "restored"
_SYSTEM_DATABASES = frozenset({"postgres", "template0", "template1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """A request to replace a namespace's databases by those of a snapshot."""

    namespace_name: str
    workgroup_name: str
    snapshot: SnapshotSelector
    manage_admin_password: bool = False
    secret_kms_key_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedRestore:
    """The namespace, now MODIFYING, and the snapshot it will be restored from."""

    namespace: Namespace
    snapshot: Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """How a restore was done: by which strategy, why by that one, and what had not to be fetched before the end of
    the operation, in bytes. `doubt` is in one word why files were not cloned, if that was tried.
    """

    strategy: str
    reason: str
    local_bytes: int
    doubt: str = ""

    def beside(self, arguments: Mapping[str, object]) -> Mapping[str, object]:
        """The arguments of the operation, with this noted among them."""
        return {**arguments, _RESTORED: asdict(self)}


def how_restored(operation: Operation) -> Restored | None:
    """How an operation restored; None for one that has not, or did so before that was noted."""
    noted = operation.arguments.get(_RESTORED)
    return Restored(**noted) if isinstance(noted, dict) else None


class Restores:
    """RestoreFromSnapshot."""

    def __init__(self, foundation: Foundation, repositories: Repositories) -> None:
        self._base = foundation
        self._repositories = repositories

    def from_snapshot(self, caller: Caller, request: RestoreRequest) -> AcceptedRestore:
        """Accept a restore; a job carries it out, and the old databases stay until the new ones answer.

        Raises NotFound (namespace, workgroup, snapshot), Conflict (busy, snapshot not AVAILABLE), InvalidRequest,
        QuotaExceeded (more databases in the snapshot than a namespace may have), KeyUnavailable (its key is missing
        or disabled).
        """
        if request.snapshot.name is not None and request.snapshot.arn is not None:
            raise InvalidRequest("Give either snapshotName or snapshotArn, not both.")
        if request.secret_kms_key_id is not None and not request.manage_admin_password:
            raise InvalidRequest("adminPasswordSecretKmsKeyId needs manageAdminPassword.")
        self._require_room(caller, request)
        with self._base.catalog.transaction() as transaction:
            namespace = find_namespace(transaction, caller.scope, request.namespace_name, lock=True)
            workgroup = find_workgroup(transaction, caller.scope, request.workgroup_name, lock=True)
            require_together(namespace, workgroup)
            snapshot = find_snapshot(transaction, caller, request.snapshot, lock=True)
            require_available(namespace)
            require_workgroup_available(workgroup)
            require_restorable(snapshot)
            arguments = {
                "snapshot_id": str(snapshot.id),
                **self._secret(transaction, caller, namespace, snapshot, request),
            }
            intent = Intent(
                kind=OperationKind.RESTORE_FROM_SNAPSHOT, subject_id=workgroup.id, arguments=arguments
            )
            accepted = claim(self._base, transaction, namespace, caller, intent)
            modifying = replace(
                workgroup, status=WorkgroupStatus.MODIFYING, operation_id=accepted.operation.id
            )
            transaction.workgroups.put(modifying)
        return AcceptedRestore(namespace=accepted.namespace, snapshot=snapshot)

    def _require_room(self, caller: Caller, request: RestoreRequest) -> None:
        with self._base.catalog.transaction() as transaction:
            find_namespace(transaction, caller.scope, request.namespace_name)
            snapshot = find_snapshot(transaction, caller, request.snapshot)
        if snapshot.status is not SnapshotStatus.AVAILABLE:
            return
        require_usable(self._base, snapshot.kms_key_id)
        try:
            databases = self._repositories.of(snapshot.region).document(snapshot.id).facts.databases
        except DataError:
            # The restore itself will say what is wrong with the snapshot.
            return
        own = [database for database in databases if database.name not in _SYSTEM_DATABASES]
        if len(own) > self._base.settings.quotas.databases:
            raise QuotaExceeded("The snapshot holds more databases than the quota for one namespace.")

    def _secret(
        self,
        transaction: Transaction,
        caller: Caller,
        namespace: Namespace,
        snapshot: Snapshot,
        request: RestoreRequest,
    ) -> dict[str, object]:
        """The new managed password, when one was asked for: its row, and what the job needs of it."""
        if not request.manage_admin_password:
            return {}
        password = managed_password(
            self._base,
            caller,
            namespace_id=namespace.id,
            username=snapshot.admin_username,
            kms_key_id=request.secret_kms_key_id,
        )
        if password.secret is None:
            return {}
        transaction.managed_secrets.insert(password.secret)
        return {"admin_verifier": password.verifier, "admin_secret_id": str(password.secret.id)}


def require_together(namespace: Namespace, workgroup: Workgroup) -> None:
    """Raise InvalidRequest unless the workgroup is the namespace's own."""
    if workgroup.namespace_id != namespace.id:
        raise InvalidRequest(
            f"Serverless workgroup {workgroup.name} is not associated with namespace {namespace.name}."
        )


def require_restorable(snapshot: Snapshot) -> None:
    """Raise Conflict unless the snapshot is AVAILABLE."""
    if snapshot.status is not SnapshotStatus.AVAILABLE:
        raise Conflict(
            f"Serverless snapshot {snapshot.name} is {snapshot.status.value}, so it can't be restored."
        )

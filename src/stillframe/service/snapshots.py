"""Snapshots: create, read, list, update, delete, cancel."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from stillframe.catalog import Transaction
from stillframe.domain.access import Caller
from stillframe.domain.identifiers import (
    Arn,
    ResourceKind,
    Scope,
    SnapshotId,
    SnapshotName,
    parse_snapshot_name,
)
from stillframe.domain.namespace import Namespace
from stillframe.domain.operation import UNFINISHED, Operation, OperationKind
from stillframe.domain.snapshot import SHOWN, Snapshot, SnapshotStatus, parse_retention
from stillframe.errors import Conflict, InvalidRequest, QuotaExceeded
from stillframe.service.foundation import (
    Foundation,
    already_exists,
    busy,
    not_found,
    require_available,
    take_quota_turn,
)
from stillframe.service.keys import SnapshotKey, key_for_snapshot, require_usable
from stillframe.service.namespace_lookup import find_namespace
from stillframe.service.operations import Intent, claim
from stillframe.service.pagination import Listing, paginate
from stillframe.service.policies import (
    RESTORE,
    RestoreAccess,
    accounts_allowed_to_restore,
    accounts_granted,
    restore_access,
)
from stillframe.service.repositories import Repositories
from stillframe.service.tags import attach, check_tags

_RESTORES = (OperationKind.RESTORE_FROM_SNAPSHOT, OperationKind.RESTORE_TABLE_FROM_SNAPSHOT)

NO_WORKGROUP = "You can't create a snapshot because there isn't a workgroup created for the namespace"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSelector:
    """How a request names a snapshot: by name, by ARN or by both, and whose it is."""

    name: str | None = None
    arn: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFilter:
    """What ListSnapshots narrows its answer to; None means: not given."""

    namespace_name: str | None = None
    namespace_arn: str | None = None
    owner: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSnapshot:
    """A snapshot that is to be taken."""

    id: SnapshotId
    name: SnapshotName
    retention_days: int
    key: SnapshotKey


class Snapshots:
    """CreateSnapshot, GetSnapshot, ListSnapshots, UpdateSnapshot, DeleteSnapshot, and our CancelSnapshot."""

    def __init__(self, foundation: Foundation, repositories: Repositories) -> None:
        self._base = foundation
        self._repositories = repositories

    def create(
        self,
        caller: Caller,
        namespace_name: str,
        *,
        name: str,
        retention_days: int | None,
        tags: Sequence[tuple[str, str]],
    ) -> Snapshot:
        """A snapshot that is CREATING; a job takes it.

        Raises NotFound, Conflict, InvalidRequest, QuotaExceeded, KeyUnavailable.
        """
        parsed, retention = parse_snapshot_name(name), parse_retention(retention_days)
        check_tags(tags)
        key = key_for_snapshot(self._base, caller.scope, namespace_name)
        with self._base.catalog.transaction() as transaction:
            namespace = find_namespace(transaction, caller.scope, namespace_name, lock=True)
            if transaction.workgroups.find(namespace_id=namespace.id) is None:
                raise InvalidRequest(NO_WORKGROUP)
            _require_free_name(transaction, caller.scope, parsed)
            require_available(namespace)
            identifier = SnapshotId(self._base.new_id())
            wanted = NewSnapshot(id=identifier, name=parsed, retention_days=retention, key=key)
            snapshot = new_snapshot(self._base, transaction, namespace, wanted)
            attach(transaction, snapshot.arn, tags, limit=self._base.settings.quotas.tags)
            intent = Intent(kind=OperationKind.CREATE_SNAPSHOT, subject_id=identifier, arguments={})
            claim(self._base, transaction, namespace, caller, intent)
        return snapshot

    def get(self, caller: Caller, selector: SnapshotSelector) -> tuple[Snapshot, RestoreAccess]:
        """The snapshot that is meant, the caller's own or one that was shared, and who else may restore it.

        In one transaction: this is what everybody who waits for a snapshot asks again and again. Raises NotFound,
        InvalidRequest.
        """
        with self._base.catalog.transaction() as transaction:
            snapshot = find_snapshot(transaction, caller, selector)
            return snapshot, restore_access(transaction, [snapshot.arn])[0]

    def restore_access(self, snapshots: Sequence[Snapshot]) -> Sequence[RestoreAccess]:
        """Who may restore each of these snapshots beside its owner, in their order; one look for all of them."""
        with self._base.catalog.transaction() as transaction:
            return restore_access(transaction, [snapshot.arn for snapshot in snapshots])

    def list(
        self, caller: Caller, chosen: SnapshotFilter, *, max_results: int | None, next_token: str | None
    ) -> Listing[Snapshot]:
        """Snapshots by creation time, then name. An unknown namespace gives an empty list: snapshots outlive it."""
        owner = chosen.owner or caller.account
        equals: dict[str, Any] = {"account": owner, "region": caller.region, "status": SHOWN}
        if chosen.namespace_name is not None:
            equals["namespace_name"] = chosen.namespace_name
        if chosen.namespace_arn is not None:
            equals["namespace_id"] = _namespace_id(chosen.namespace_arn)
        with self._base.catalog.transaction() as transaction:
            if owner != caller.account:
                equals["id"] = _shared_with(transaction, caller, owner)
            return paginate(
                lambda after, limit: transaction.snapshots.page(
                    after=after,
                    limit=limit,
                    created_from=chosen.created_from,
                    created_to=chosen.created_to,
                    **equals,
                ),
                purpose=("snapshots", caller.scope, chosen),
                max_results=max_results,
                next_token=next_token,
            )

    def update(self, caller: Caller, name: str, *, retention_days: int | None) -> Snapshot:
        """The snapshot with its new retention; its start stays.

        Raises NotFound, Conflict, InvalidRequest, KeyUnavailable (the retention is in the repository, too).
        """
        with self._base.catalog.transaction() as transaction:
            snapshot = find_snapshot(transaction, caller, SnapshotSelector(name=name), lock=True)
            if retention_days is None:
                return snapshot
            changed = replace(snapshot, retention_days=parse_retention(retention_days))
            if snapshot.status is SnapshotStatus.CREATING:
                raise Conflict(
                    f"Serverless snapshot {name} is being created. There is an operation in progress on it."
                )
            if snapshot.status is SnapshotStatus.AVAILABLE:
                require_usable(self._base, snapshot.kms_key_id)
            transaction.snapshots.put(changed)
        self._repositories.remember(changed.region, changed.id, retention_days=changed.retention_days)
        return changed

    def delete(self, caller: Caller, name: str) -> Snapshot:
        """The snapshot as DELETED; it is gone when this returns. Raises NotFound, Conflict."""
        with self._base.catalog.transaction() as transaction:
            snapshot = find_snapshot(transaction, caller, SnapshotSelector(name=name), lock=True)
            _require_unused(transaction, snapshot)
            deleted = mark_deleted(transaction, snapshot)
        self.finish_deletion(deleted)
        return deleted

    def finish_deletion(self, snapshot: Snapshot) -> None:
        """Remove the document, then the row: a crash in between is completed by the next sweep."""
        self._repositories.delete_snapshot(snapshot)
        with self._base.catalog.transaction() as transaction:
            transaction.policies.delete(resource_arn=snapshot.arn)
            transaction.proofs.delete(snapshot_id=snapshot.id)
            transaction.snapshots.delete(id=snapshot.id)

    def cancel(self, caller: Caller, name: str) -> Snapshot:
        """Ask a running capture to stop; it ends CANCELLED. Raises NotFound, Conflict when it is not running."""
        with self._base.catalog.transaction() as transaction:
            snapshot = find_snapshot(transaction, caller, SnapshotSelector(name=name))
            operation = running_capture(transaction, snapshot)
            if snapshot.status is not SnapshotStatus.CREATING or operation is None:
                raise Conflict(
                    f"Serverless snapshot {name} is not being created, so there is nothing to cancel."
                )
            transaction.operations.change({"cancel_requested": True}, id=operation.id)
        return snapshot


def new_snapshot(
    base: Foundation,
    transaction: Transaction,
    namespace: Namespace,
    wanted: NewSnapshot,
) -> Snapshot:
    """Insert the CREATING row of a snapshot of `namespace`. Raises Conflict (name taken) and QuotaExceeded."""
    name = wanted.name
    if namespace.kms_key_id != wanted.key.named:
        # It was changed after we looked at the key.
        raise busy("namespace")
    take_quota_turn(transaction, "snapshots", namespace.scope)
    _require_free_name(transaction, namespace.scope, name)
    taken = transaction.snapshots.count(account=namespace.account, region=namespace.region, status=SHOWN)
    if taken >= base.settings.quotas.snapshots:
        raise QuotaExceeded("The quota of snapshots for this account and Region is reached.")
    workgroup = transaction.workgroups.find(namespace_id=namespace.id)
    snapshot = Snapshot(
        id=wanted.id,
        account=namespace.account,
        region=namespace.region,
        name=name,
        namespace_id=namespace.id,
        namespace_name=namespace.name,
        status=SnapshotStatus.CREATING,
        created_at=_as_shown(base.clock.now()),
        retention_days=wanted.retention_days,
        admin_username=namespace.admin_username,
        db_name=namespace.db_name,
        kms_key_id=wanted.key.key_id,
        admin_secret_arn=namespace.admin_secret_arn,
        admin_secret_kms_key_id=namespace.admin_secret_kms_key_id,
        publicly_accessible=workgroup.publicly_accessible if workgroup else False,
    )
    try:
        transaction.snapshots.insert(snapshot)
    except Conflict:
        raise already_exists("snapshot", name) from None
    return snapshot


def _as_shown(moment: datetime) -> datetime:
    # The API shows milliseconds; a caller who filters by a time it was shown must find that snapshot.
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def find_snapshot(
    transaction: Transaction, caller: Caller, selector: SnapshotSelector, *, lock: bool = False
) -> Snapshot:
    """The snapshot a request means. Raises InvalidRequest (neither name nor ARN, or they disagree) and NotFound."""
    if selector.name is None and selector.arn is None:
        raise InvalidRequest("Either snapshotName or snapshotArn must be given.")
    owner = selector.owner or caller.account
    equals: dict[str, Any] = {"account": owner, "region": caller.region, "status": SHOWN}
    if selector.name is not None:
        equals["name"] = selector.name
    if selector.arn is not None:
        equals |= _by_arn(caller, selector)
    snapshot = transaction.snapshots.find(lock=lock, **equals)
    if snapshot is None and selector.name is not None and selector.arn is not None:
        raise InvalidRequest("snapshotName and snapshotArn do not name the same snapshot.")
    if snapshot is None or not _visible(transaction, caller, snapshot):
        raise not_found("snapshot", selector.name or selector.arn or "")
    return snapshot


def mark_deleted(transaction: Transaction, snapshot: Snapshot) -> Snapshot:
    """Hide a snapshot for good; from here on its deletion is only a matter of time."""
    deleted = replace(snapshot, status=SnapshotStatus.DELETED)
    transaction.snapshots.put(deleted)
    transaction.tags.delete(resource_arn=snapshot.arn)
    return deleted


def running_capture(transaction: Transaction, snapshot: Snapshot) -> Operation | None:
    """The operation that is taking this snapshot: its own, or the deletion of its namespace."""
    active = transaction.operations.list(namespace_id=snapshot.namespace_id, status=UNFINISHED)
    wanted = str(snapshot.id)
    return next(
        (
            operation
            for operation in active
            if operation.subject_id == snapshot.id or operation.arguments.get("snapshot_id") == wanted
        ),
        None,
    )


def is_being_restored(transaction: Transaction, snapshot: Snapshot) -> bool:
    """Whether a restore that has not ended, of everything or of one table, reads this snapshot."""
    restores = transaction.operations.list(kind=_RESTORES, status=UNFINISHED)
    return any(operation.arguments.get("snapshot_id") == str(snapshot.id) for operation in restores)


def _require_free_name(transaction: Transaction, scope: Scope, name: SnapshotName) -> None:
    if (
        transaction.snapshots.find(account=scope.account, region=scope.region, name=name, status=SHOWN)
        is not None
    ):
        raise already_exists("snapshot", name)


def _require_unused(transaction: Transaction, snapshot: Snapshot) -> None:
    if snapshot.status is SnapshotStatus.CREATING or is_being_restored(transaction, snapshot):
        raise busy("snapshot")
    if accounts_allowed_to_restore(transaction, snapshot.arn):
        raise Conflict(
            f"Serverless snapshot {snapshot.name} is shared with other accounts. "
            "Remove their access before deleting it."
        )


def _by_arn(caller: Caller, selector: SnapshotSelector) -> dict[str, Any]:
    arn = Arn.parse(selector.arn or "") if not (selector.arn or "").startswith("arn:aws:redshift:") else None
    if arn is None or arn.kind is not ResourceKind.SNAPSHOT or arn.region != caller.region:
        raise not_found("snapshot", selector.arn or "")
    if selector.owner is not None and selector.owner != arn.account:
        raise InvalidRequest("ownerAccount and snapshotArn do not name the same account.")
    return {"id": arn.id, "account": arn.account}


def _visible(transaction: Transaction, caller: Caller, snapshot: Snapshot) -> bool:
    return snapshot.account == caller.account or caller.account in accounts_allowed_to_restore(
        transaction, snapshot.arn
    )


def _namespace_id(text: str) -> object:
    arn = Arn.parse(text)
    if arn.kind is not ResourceKind.NAMESPACE:
        raise InvalidRequest(f"{text} is not the ARN of a namespace.")
    return arn.id


def _shared_with(transaction: Transaction, caller: Caller, owner: str) -> frozenset[object]:
    policies = transaction.policies.list(account=owner, region=caller.region)
    return frozenset(
        Arn.parse(policy.resource_arn).id
        for policy in policies
        if caller.account in accounts_granted(policy.policy, RESTORE)
    )

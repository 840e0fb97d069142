"""Namespaces: create, read, list, update, delete."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stillframe.catalog import Transaction
from stillframe.domain.access import Caller
from stillframe.domain.database import DEFAULT_ADMIN, DEFAULT_DATABASE, parse_admin_name, parse_database_name
from stillframe.domain.identifiers import (
    AWS_OWNED_KMS_KEY,
    KmsKeyId,
    NamespaceId,
    NamespaceName,
    SnapshotId,
    parse_snapshot_name,
)
from stillframe.domain.namespace import Namespace, NamespaceStatus
from stillframe.domain.operation import OperationKind
from stillframe.domain.reserved import RESERVED_WORDS
from stillframe.domain.snapshot import parse_retention
from stillframe.domain.workgroup import WorkgroupStatus
from stillframe.errors import Conflict, InvalidRequest, QuotaExceeded
from stillframe.kms import Secret
from stillframe.service.foundation import (
    Foundation,
    already_exists,
    busy,
    nothing_to_change,
    require_available,
    several_changes,
    take_quota_turn,
)
from stillframe.service.keys import SnapshotKey, key_for_snapshot, usable_key
from stillframe.service.namespace_lookup import find_namespace
from stillframe.service.operations import Intent, claim
from stillframe.service.pagination import Listing, paginate
from stillframe.service.secrets import AdminPassword, chosen_password, forgotten_password, managed_password
from stillframe.service.snapshots import NewSnapshot, new_snapshot
from stillframe.service.tags import attach, check_tags

_IAM_ROLE = re.compile(r"arn:aws:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminRequest:
    """The admin part of a request to create or update a namespace; None means: not given."""

    username: str | None = None
    password: Secret | None = None
    managed: bool | None = None
    secret_kms_key_id: str | None = None

    def __bool__(self) -> bool:
        return self != AdminRequest()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNamespace:
    """A request to create a namespace, as the caller made it."""

    name: NamespaceName
    admin: AdminRequest = AdminRequest()
    db_name: str | None = None
    kms_key_id: str | None = None
    default_iam_role_arn: str | None = None
    iam_roles: Sequence[str] = ()
    log_exports: Sequence[str] = ()
    tags: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceChange:
    """A request to change a namespace: exactly one of its parts may be given."""

    admin: AdminRequest = AdminRequest()
    kms_key_id: str | None = None
    default_iam_role_arn: str | None = None
    iam_roles: Sequence[str] | None = None
    log_exports: Sequence[str] | None = None


class Namespaces:
    """CreateNamespace, GetNamespace, ListNamespaces, UpdateNamespace, DeleteNamespace."""

    def __init__(self, foundation: Foundation) -> None:
        self._base = foundation

    def create(self, caller: Caller, request: NewNamespace) -> Namespace:
        """A new namespace, AVAILABLE at once; its storage is made when it gets a workgroup.

        Raises Conflict, QuotaExceeded, TooManyTags, InvalidRequest, KeyUnavailable.
        """
        check_tags(request.tags)
        namespace_id = NamespaceId(self._base.new_id())
        username = parse_admin_name(request.admin.username) if request.admin.username else DEFAULT_ADMIN
        password = self._admin_password(caller, namespace_id, username, request.admin)
        namespace = Namespace(
            id=namespace_id,
            account=caller.account,
            region=caller.region,
            name=_check_name(request.name),
            status=NamespaceStatus.AVAILABLE,
            created_at=self._base.clock.now(),
            admin_username=username,
            admin_verifier=password.verifier,
            admin_secret_id=password.secret.id if password.secret else None,
            admin_secret_kms_key_id=password.secret.kms_key_id if password.secret else None,
            db_name=parse_database_name(request.db_name) if request.db_name else DEFAULT_DATABASE,
            kms_key_id=self._named_key(caller, request.kms_key_id) or AWS_OWNED_KMS_KEY,
            default_iam_role_arn=request.default_iam_role_arn or None,
            iam_roles=_check_roles(request.iam_roles, request.default_iam_role_arn),
            log_exports=tuple(dict.fromkeys(request.log_exports)),
        )
        with self._base.catalog.transaction() as transaction:
            self._insert(transaction, namespace)
            attach(transaction, namespace.arn, request.tags, limit=self._base.settings.quotas.tags)
            if password.secret is not None:
                transaction.managed_secrets.insert(password.secret)
        return namespace

    def get(self, caller: Caller, name: str) -> Namespace:
        """The namespace of that name. Raises NotFound."""
        with self._base.catalog.transaction() as transaction:
            return find_namespace(transaction, caller.scope, name)

    def list(self, caller: Caller, *, max_results: int | None, next_token: str | None) -> Listing[Namespace]:
        """The caller's namespaces by creation time. Raises InvalidRequest for a bad token."""
        with self._base.catalog.transaction() as transaction:
            return paginate(
                lambda after, limit: transaction.namespaces.page(
                    after=after, limit=limit, account=caller.account, region=caller.region
                ),
                purpose=("namespaces", caller.scope),
                max_results=max_results,
                next_token=next_token,
            )

    def update(self, caller: Caller, name: str, change: NamespaceChange) -> Namespace:
        """The namespace, MODIFYING until the change is in force.

        Raises NotFound, Conflict, InvalidRequest, KeyUnavailable.
        """
        _require_one_change(change)
        self.get(caller, name)
        change = replace(change, kms_key_id=self._named_key(caller, change.kms_key_id))
        with self._base.catalog.transaction() as transaction:
            namespace = find_namespace(transaction, caller.scope, name, lock=True)
            require_available(namespace)
            arguments = self._prepare(transaction, caller, namespace, change)
            intent = Intent(kind=OperationKind.UPDATE_NAMESPACE, subject_id=namespace.id, arguments=arguments)
            return claim(self._base, transaction, namespace, caller, intent).namespace

    def delete(
        self, caller: Caller, name: str, *, final_snapshot_name: str | None, final_retention_days: int | None
    ) -> Namespace:
        """The namespace, DELETING; with a final snapshot it goes only once that is AVAILABLE.

        Raises NotFound, Conflict (busy, has a workgroup, snapshot's name taken), InvalidRequest, QuotaExceeded.
        """
        if final_retention_days is not None and final_snapshot_name is None:
            raise InvalidRequest("A final snapshot retention period needs a final snapshot name.")
        key = key_for_snapshot(self._base, caller.scope, name) if final_snapshot_name is not None else None
        with self._base.catalog.transaction() as transaction:
            namespace = find_namespace(transaction, caller.scope, name, lock=True)
            require_available(namespace)
            _require_no_workgroup(transaction, namespace)
            final = None
            if final_snapshot_name is not None and key is not None:
                wanted = self._final(final_snapshot_name, final_retention_days, key)
                final = new_snapshot(self._base, transaction, namespace, wanted)
            intent = Intent(
                kind=OperationKind.DELETE_NAMESPACE,
                subject_id=namespace.id,
                arguments={"snapshot_id": str(final.id)} if final else {},
                namespace_status=NamespaceStatus.DELETING,
            )
            return claim(self._base, transaction, namespace, caller, intent).namespace

    def _insert(self, transaction: Transaction, namespace: Namespace) -> None:
        account, region = namespace.account, namespace.region
        take_quota_turn(transaction, "namespaces", namespace.scope)
        if transaction.namespaces.find(account=account, region=region, name=namespace.name) is not None:
            raise already_exists("namespace", namespace.name)
        if (
            transaction.namespaces.count(account=account, region=region)
            >= self._base.settings.quotas.namespaces
        ):
            raise QuotaExceeded("The quota of namespaces for this account and Region is reached.")
        try:
            transaction.namespaces.insert(namespace)
        except Conflict:
            raise already_exists("namespace", namespace.name) from None

    def _admin_password(
        self, caller: Caller, namespace_id: NamespaceId, username: str, admin: AdminRequest
    ) -> AdminPassword:
        if admin.managed:
            if admin.password is not None:
                raise InvalidRequest("An admin password can't be given together with manageAdminPassword.")
            return managed_password(
                self._base,
                caller,
                namespace_id=namespace_id,
                username=username,
                kms_key_id=admin.secret_kms_key_id,
            )
        if admin.secret_kms_key_id is not None:
            raise InvalidRequest("adminPasswordSecretKmsKeyId needs manageAdminPassword.")
        if (admin.username is None) != (admin.password is None):
            raise InvalidRequest("Specify both the user name and password, or neither.")
        return chosen_password(admin.password) if admin.password is not None else forgotten_password()

    def _prepare(
        self, transaction: Transaction, caller: Caller, namespace: Namespace, change: NamespaceChange
    ) -> Mapping[str, object]:
        """The columns that the job will write, checked."""
        if change.admin:
            return self._prepare_admin(transaction, caller, namespace, change.admin)
        if change.kms_key_id is not None:
            return {"kms_key_id": _check_key_change(namespace, KmsKeyId(change.kms_key_id))}
        if change.log_exports is not None:
            return {"log_exports": list(dict.fromkeys(change.log_exports))}
        return _prepare_roles(namespace, change)

    def _prepare_admin(
        self, transaction: Transaction, caller: Caller, namespace: Namespace, admin: AdminRequest
    ) -> Mapping[str, object]:
        username = parse_admin_name(admin.username) if admin.username else namespace.admin_username
        if admin.managed is False and admin.password is None:
            raise InvalidRequest("To stop managing the admin password, give a user name and a password.")
        given = replace(admin, username=username) if admin.managed is False else admin
        password = self._admin_password(caller, namespace.id, username, given)
        if password.secret is not None:
            transaction.managed_secrets.insert(password.secret)
        return {
            "admin_username": username,
            "admin_verifier": password.verifier,
            "admin_secret_id": str(password.secret.id) if password.secret else None,
            "admin_secret_kms_key_id": password.secret.kms_key_id if password.secret else None,
        }

    def _final(self, name: str, retention_days: int | None, key: SnapshotKey) -> NewSnapshot:
        return NewSnapshot(
            id=SnapshotId(self._base.new_id()),
            name=parse_snapshot_name(name),
            retention_days=parse_retention(retention_days),
            key=key,
        )

    def _named_key(self, caller: Caller, text: str | None) -> KmsKeyId | None:
        """What a namespace remembers of the key it was given: the ARN of the key, or of the alias to follow."""
        return usable_key(self._base, caller.scope, text).name if text is not None else None


def _check_name(name: NamespaceName) -> NamespaceName:
    if name in RESERVED_WORDS:
        raise InvalidRequest(f"The namespace name {name} is a reserved word.")
    return name


def _check_roles(roles: Sequence[str], default: str | None) -> tuple[str, ...]:
    unique = tuple(dict.fromkeys(roles))
    for role in unique:
        if not _IAM_ROLE.fullmatch(role):
            raise InvalidRequest(f"{role[:2048]} is not the ARN of an IAM role.")
    if default and default not in unique:
        raise InvalidRequest("The default IAM role must be one of the namespace's IAM roles.")
    return unique


def _prepare_roles(namespace: Namespace, change: NamespaceChange) -> Mapping[str, object]:
    roles = namespace.iam_roles if change.iam_roles is None else tuple(change.iam_roles)
    default = (
        namespace.default_iam_role_arn if change.default_iam_role_arn is None else change.default_iam_role_arn
    )
    if change.default_iam_role_arn is None and default not in roles:
        default = None
    return {"iam_roles": list(_check_roles(roles, default)), "default_iam_role_arn": default or None}


def _check_key_change(namespace: Namespace, key: KmsKeyId) -> KmsKeyId:
    if key == AWS_OWNED_KMS_KEY and namespace.kms_key_id != AWS_OWNED_KMS_KEY:
        raise InvalidRequest("A namespace with a customer managed key can't return to the AWS owned key.")
    return key


def _require_one_change(change: NamespaceChange) -> None:
    kinds = [
        bool(change.admin),
        change.kms_key_id is not None,
        change.default_iam_role_arn is not None or change.iam_roles is not None,
        change.log_exports is not None,
    ]
    if not any(kinds):
        raise nothing_to_change()
    if sum(kinds) > 1:
        raise several_changes()


def _require_no_workgroup(transaction: Transaction, namespace: Namespace) -> None:
    workgroup = transaction.workgroups.find(namespace_id=namespace.id)
    if workgroup is None:
        return
    if workgroup.status is WorkgroupStatus.DELETING:
        raise busy("namespace")
    raise Conflict(
        f"Serverless namespace {namespace.name} is associated with workgroup {workgroup.name}. "
        "Delete the workgroup first."
    )

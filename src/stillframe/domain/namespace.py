"""A namespace: one PostgreSQL cluster with all its databases, roles and settings."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from stillframe.domain.identifiers import (
    AccountId,
    Arn,
    IncarnationId,
    KmsKeyId,
    LineageId,
    NamespaceId,
    NamespaceName,
    Region,
    ResourceKind,
    Scope,
    SnapshotId,
    managed_secret_arn,
)


class NamespaceStatus(StrEnum):
    """The API's words. There is no CREATING: a new namespace is AVAILABLE in the first answer."""

    AVAILABLE = "AVAILABLE"
    MODIFYING = "MODIFYING"
    DELETING = "DELETING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """One row of the catalog. The password is kept only as a SCRAM-SHA-256 verifier."""

    id: NamespaceId
    account: AccountId
    region: Region
    name: NamespaceName
    status: NamespaceStatus
    created_at: datetime
    admin_username: str
    admin_verifier: str
    admin_secret_id: uuid.UUID | None = None
    admin_secret_kms_key_id: KmsKeyId | None = None
    db_name: str
    kms_key_id: KmsKeyId
    default_iam_role_arn: str | None = None
    iam_roles: tuple[str, ...] = ()
    log_exports: tuple[str, ...] = ()
    incarnation_id: IncarnationId | None = None
    operation_id: uuid.UUID | None = None

    @property
    def scope(self) -> Scope:
        """Whose it is."""
        return Scope(account=self.account, region=self.region)

    @property
    def arn(self) -> str:
        """Its ARN, made of its UUID."""
        return str(Arn.of(self.scope, ResourceKind.NAMESPACE, self.id))

    @property
    def admin_secret_arn(self) -> str | None:
        """The name of the managed admin password; None when the service does not manage it."""
        return managed_secret_arn(self.scope, self.admin_secret_id) if self.admin_secret_id else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Incarnation:
    """One data directory of a namespace. A restore makes a new one beside the current one.

    `lineage_id` is random and never reused: together with timeline and LSN it decides which snapshot may be
    the parent of which (PostgreSQL itself cannot tell a fork from its origin).
    """

    id: IncarnationId
    namespace_id: NamespaceId
    lineage_id: LineageId
    created_at: datetime
    system_identifier: int | None = None
    timeline: int = 1
    origin_snapshot_id: SnapshotId | None = None
    ancestry: tuple[tuple[uuid.UUID, int, int], ...] = ()
    """The stretches of history before this one, oldest first: (lineage, timeline, LSN where it was left)."""

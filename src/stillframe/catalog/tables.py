"""The catalog's tables: one per record of the domain, columns named like the record's fields.

What a constraint can rule out, no code has to check: names are unique in their scope, a namespace has one
workgroup at most, a timeline is never used twice for one system identifier, an ended operation has an end.
The migrations build the same schema; a test compares the two.
"""

from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA, DOUBLE_PRECISION, JSONB, UUID

from stillframe.domain.access import AccessKey, DatabaseUser, ManagedSecret, ResourcePolicy, Tag
from stillframe.domain.namespace import Incarnation, Namespace, NamespaceStatus
from stillframe.domain.open_snapshot import OpenSnapshot, OpenSnapshotStatus
from stillframe.domain.operation import ENDED, Operation, OperationKind, OperationStatus
from stillframe.domain.proof import Proof, ProofResult
from stillframe.domain.snapshot import Snapshot, SnapshotStatus
from stillframe.domain.table_restore import TableRestore, TableRestoreStatus
from stillframe.domain.verification import Verification
from stillframe.domain.workgroup import Workgroup, WorkgroupStatus

METADATA = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)

TEXT = sa.Text()
INTEGER = sa.BigInteger()
FLAG = sa.Boolean()
NUMBER: DOUBLE_PRECISION[float] = DOUBLE_PRECISION()
IDENTIFIER = UUID(as_uuid=True)
MOMENT = sa.DateTime(timezone=True)
DOCUMENT = JSONB(none_as_null=True)
BYTES = BYTEA()
UNSIGNED_64 = sa.Numeric(20, 0)
"""A system identifier is an unsigned 64-bit number; PostgreSQL's bigint is signed."""


def _required(name: str, kind: "sa.types.TypeEngine[Any]", *, key: bool = False) -> "sa.Column[Any]":
    return sa.Column(name, kind, nullable=False, primary_key=key)


def _optional(name: str, kind: "sa.types.TypeEngine[Any]") -> "sa.Column[Any]":
    return sa.Column(name, kind, nullable=True)


def _one_of(column: str, words: type[StrEnum]) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN ({_quoted(words)})", name=column)


def _quoted(words: "type[StrEnum] | frozenset[OperationStatus]") -> str:
    return ", ".join(f"'{word.value}'" for word in sorted(words))


def _belongs_to_namespace(*, on_delete: str | None) -> sa.ForeignKeyConstraint:
    """Checked at commit, so that a transaction may write parent and child in any order."""
    return sa.ForeignKeyConstraint(
        ["namespace_id"], ["namespaces.id"], ondelete=on_delete, deferrable=True, initially="DEFERRED"
    )


def _listed_by(*columns: str) -> sa.Index:
    return sa.Index(None, *columns)


NAMESPACES = sa.Table(
    "namespaces",
    METADATA,
    _required("id", IDENTIFIER, key=True),
    _required("account", TEXT),
    _required("region", TEXT),
    _required("name", TEXT),
    _required("status", TEXT),
    _required("created_at", MOMENT),
    _required("admin_username", TEXT),
    _required("admin_verifier", TEXT),
    _optional("admin_secret_id", IDENTIFIER),
    _optional("admin_secret_kms_key_id", TEXT),
    _required("db_name", TEXT),
    _required("kms_key_id", TEXT),
    _optional("default_iam_role_arn", TEXT),
    _required("iam_roles", DOCUMENT),
    _required("log_exports", DOCUMENT),
    _optional("incarnation_id", IDENTIFIER),
    _optional("operation_id", IDENTIFIER),
    sa.UniqueConstraint("account", "region", "name"),
    # The current incarnation is one of the namespace's own; at commit, since each row names the other.
    sa.ForeignKeyConstraint(
        ["incarnation_id", "id"],
        ["incarnations.id", "incarnations.namespace_id"],
        deferrable=True,
        initially="DEFERRED",
        use_alter=True,
    ),
    _one_of("status", NamespaceStatus),
    _listed_by("account", "region", "created_at", "id"),
)

INCARNATIONS = sa.Table(
    "incarnations",
    METADATA,
    _required("id", IDENTIFIER, key=True),
    _required("namespace_id", IDENTIFIER),
    _required("lineage_id", IDENTIFIER),
    _required("created_at", MOMENT),
    _optional("system_identifier", UNSIGNED_64),
    _required("timeline", INTEGER),
    _optional("origin_snapshot_id", IDENTIFIER),
    _required("ancestry", DOCUMENT),
    sa.UniqueConstraint("id", "namespace_id"),
    sa.UniqueConstraint("lineage_id"),
    _belongs_to_namespace(on_delete="CASCADE"),
    sa.CheckConstraint("timeline BETWEEN 1 AND 4294967295", name="timeline"),
    sa.CheckConstraint(
        "system_identifier BETWEEN 0 AND 18446744073709551615::numeric", name="system_identifier"
    ),
    _listed_by("namespace_id", "created_at", "id"),
)

WORKGROUPS = sa.Table(
    "workgroups",
    METADATA,
    _required("id", IDENTIFIER, key=True),
    _required("account", TEXT),
    _required("region", TEXT),
    _required("name", TEXT),
    _required("namespace_id", IDENTIFIER),
    _required("namespace_name", TEXT),
    _required("status", TEXT),
    _required("created_at", MOMENT),
    _required("base_capacity", INTEGER),
    _optional("max_capacity", INTEGER),
    _required("config_parameters", DOCUMENT),
    _required("enhanced_vpc_routing", FLAG),
    _required("extra_compute", FLAG),
    _required("ip_address_type", TEXT),
    _optional("price_performance_status", TEXT),
    _optional("price_performance_level", INTEGER),
    _required("publicly_accessible", FLAG),
    _required("security_group_ids", DOCUMENT),
    _required("subnet_ids", DOCUMENT),
    _required("track_name", TEXT),
    _required("requested_port", INTEGER),
    _optional("port", INTEGER),
    _optional("server_version", TEXT),
    _optional("operation_id", IDENTIFIER),
    sa.UniqueConstraint("account", "region", "name"),
    sa.UniqueConstraint("namespace_id"),
    # No cascade: a namespace cannot be deleted while its workgroup stands (API: DeleteNamespace).
    _belongs_to_namespace(on_delete=None),
    _one_of("status", WorkgroupStatus),
    sa.CheckConstraint("port BETWEEN 1 AND 65535", name="port"),
    sa.CheckConstraint("requested_port BETWEEN 1 AND 65535", name="requested_port"),
    _listed_by("account", "region", "created_at", "id"),
)

SNAPSHOTS = sa.Table(
    "snapshots",
    METADATA,
    _required("id", IDENTIFIER, key=True),
    _required("account", TEXT),
    _required("region", TEXT),
    _required("name", TEXT),
    # No foreign key: a snapshot outlives the namespace that it was taken of.
    _required("namespace_id", IDENTIFIER),
    _required("namespace_name", TEXT),
    _required("status", TEXT),
    _required("created_at", MOMENT),
    _required("retention_days", INTEGER),
    _optional("retention_started_at", MOMENT),
    _required("admin_username", TEXT),
    _required("db_name", TEXT),
    _required("kms_key_id", TEXT),
    _optional("admin_secret_arn", TEXT),
    _optional("admin_secret_kms_key_id", TEXT),
    _required("publicly_accessible", FLAG),
    _required("phase", TEXT),
    _required("done_bytes", INTEGER),
    _optional("total_bytes", INTEGER),
    _required("bytes_per_second", NUMBER),
    _required("elapsed_seconds", NUMBER),
    _optional("stored_bytes", INTEGER),
    _optional("logical_bytes", INTEGER),
    _optional("damage", TEXT),
    _optional("failure", TEXT),
    sa.UniqueConstraint("account", "region", "name"),
    _one_of("status", SnapshotStatus),
    sa.CheckConstraint("retention_days = -1 OR retention_days BETWEEN 1 AND 3653", name="retention_days"),
    sa.CheckConstraint("done_bytes >= 0 AND total_bytes >= 0", name="progress"),
    sa.CheckConstraint("stored_bytes >= 0 AND logical_bytes >= 0", name="sizes"),
    _listed_by("account", "region", "created_at", "id"),
    _listed_by("namespace_id", "created_at", "id"),
    # The expiry sweep looks at those alone that ever expire.
    sa.Index("snapshots_expiry_idx", "retention_started_at", postgresql_where=sa.text("retention_days > 0")),
)

OPERATIONS = sa.Table(
    "operations",
    METADATA,
    _required("id", IDENTIFIER, key=True),
    _required("account", TEXT),
    _required("region", TEXT),
    _required("kind", TEXT),
    _required("status", TEXT),
    # No foreign key: the record of what was done outlives what it was done to.
    _required("namespace_id", IDENTIFIER),
    _required("subject_id", IDENTIFIER),
    _required("arguments", DOCUMENT),
    _required("request_id", TEXT),
    _required("created_at", MOMENT),
    _optional("started_at", MOMENT),
    _optional("finished_at", MOMENT),
    _required("attempts", INTEGER),
    _required("cancel_requested", FLAG),
    _required("phase", TEXT),
    _required("done_bytes", INTEGER),
    _optional("total_bytes", INTEGER),
    _optional("failure_kind", TEXT),
    _optional("failure", TEXT),
    _optional("hint", TEXT),
    _one_of("kind", OperationKind),
    _one_of("status", OperationStatus),
    sa.CheckConstraint(f"(finished_at IS NOT NULL) = (status IN ({_quoted(ENDED)}))", name="finished_at"),
    sa.CheckConstraint("done_bytes >= 0 AND total_bytes >= 0", name="progress"),
    _listed_by("account", "region", "created_at", "id"),
    _listed_by("namespace_id", "created_at", "id"),
    _listed_by("subject_id", "created_at"),
    # Reconciliation at start asks for those that have not ended: few, however long the history.
    sa.Index(
        "operations_unfinished_idx",
        "namespace_id",
        postgresql_where=sa.text(f"status NOT IN ({_quoted(ENDED)})"),
    ),
)

TABLE_RESTORES = sa.Table(
    "table_restores",
    METADATA,
    _required("id", IDENTIFIER, key=True),
    _required("account", TEXT),
    _required("region", TEXT),
    # No foreign key: a request stays listed when its namespace or snapshot is gone.
    _required("namespace_id", IDENTIFIER),
    _required("namespace_name", TEXT),
    _required("workgroup_name", TEXT),
    _required("snapshot_id", IDENTIFIER),
    _required("snapshot_name", TEXT),
    _required("source_database", TEXT),
    _required("source_schema", TEXT),
    _required("source_table", TEXT),
    _required("target_database", TEXT),
    _required("target_schema", TEXT),
    _required("new_table", TEXT),
    _required("status", TEXT),
    _required("created_at", MOMENT),
    _required("done_bytes", INTEGER),
    _optional("total_bytes", INTEGER),
    _optional("message", TEXT),
    _optional("target_transaction", INTEGER),
    _one_of("status", TableRestoreStatus),
    sa.CheckConstraint("done_bytes >= 0 AND total_bytes >= 0", name="progress"),
    _listed_by("account", "region", "created_at", "id"),
)

OPEN_SNAPSHOTS = sa.Table(
    "open_snapshots",
    METADATA,
    _required("id", IDENTIFIER, key=True),
    _required("account", TEXT),
    _required("region", TEXT),
    # No foreign key: a copy goes on when its snapshot or namespace is deleted.
    _required("snapshot_id", IDENTIFIER),
    _required("snapshot_name", TEXT),
    _required("namespace_id", IDENTIFIER),
    _required("namespace_name", TEXT),
    _required("status", TEXT),
    _required("temporary", FLAG),
    _required("created_at", MOMENT),
    _required("expires_at", MOMENT),
    _required("username", TEXT),
    _required("verifier", TEXT),
    _required("sealed_password", BYTES),
    _optional("port", INTEGER),
    _optional("message", TEXT),
    _one_of("status", OpenSnapshotStatus),
    sa.CheckConstraint("port BETWEEN 1 AND 65535", name="port"),
    _listed_by("account", "region", "created_at", "id"),
)

PROOFS = sa.Table(
    "proofs",
    METADATA,
    _required("snapshot_id", IDENTIFIER, key=True),
    _required("account", TEXT),
    _required("region", TEXT),
    _required("result", TEXT),
    _required("proved_at", MOMENT),
    _required("duration_seconds", NUMBER),
    _required("server_version", TEXT),
    _required("findings", DOCUMENT),
    _required("remarks", DOCUMENT),
    _required("databases", DOCUMENT),
    _one_of("result", ProofResult),
)

VERIFICATIONS = sa.Table(
    "verifications",
    METADATA,
    _required("region", TEXT, key=True),
    _required("finished_at", MOMENT),
    _required("duration_seconds", NUMBER),
    _required("snapshots", INTEGER),
    _required("bytes_read", INTEGER),
    _required("finding_count", INTEGER),
    _required("findings", DOCUMENT),
)

ACCESS_KEYS = sa.Table(
    "access_keys",
    METADATA,
    _required("access_key_id", TEXT, key=True),
    _required("account", TEXT),
    _required("user_name", TEXT),
    _required("sealed_secret", BYTES),
    _required("created_at", MOMENT),
    _required("is_root", FLAG),
    _listed_by("account", "created_at", "access_key_id"),
)

DATABASE_USERS = sa.Table(
    "database_users",
    METADATA,
    _required("namespace_id", IDENTIFIER, key=True),
    _required("role", TEXT, key=True),
    _required("sealed_password", BYTES),
    _required("expires_at", MOMENT),
    _required("next_refresh_at", MOMENT),
    _belongs_to_namespace(on_delete="CASCADE"),
    _listed_by("expires_at"),
)

MANAGED_SECRETS = sa.Table(
    "managed_secrets",
    METADATA,
    _required("id", IDENTIFIER, key=True),
    _required("account", TEXT),
    _required("region", TEXT),
    _required("namespace_id", IDENTIFIER),
    _required("username", TEXT),
    _required("sealed_password", BYTES),
    _required("kms_key_id", TEXT),
    _required("created_at", MOMENT),
    _belongs_to_namespace(on_delete="CASCADE"),
    _listed_by("namespace_id"),
)

TAGS = sa.Table(
    "tags",
    METADATA,
    _required("resource_arn", TEXT, key=True),
    _required("key", TEXT, key=True),
    _required("value", TEXT),
)

RESOURCE_POLICIES = sa.Table(
    "resource_policies",
    METADATA,
    _required("resource_arn", TEXT, key=True),
    _required("account", TEXT),
    _required("region", TEXT),
    _required("policy", TEXT),
    _required("updated_at", MOMENT),
)

TIMELINES = sa.Table(
    "timelines",
    METADATA,
    _required("system_identifier", UNSIGNED_64, key=True),
    _required("timeline", INTEGER, key=True),
    sa.CheckConstraint("timeline BETWEEN 1 AND 4294967295", name="timeline"),
)

JOB_SCHEMA = sa.Table(
    "job_schema",
    METADATA,
    _required("version", TEXT, key=True),
)
"""One row: the name of the job queue's last schema change that was applied here."""

TABLE_OF: dict[type, sa.Table] = {
    Namespace: NAMESPACES,
    Incarnation: INCARNATIONS,
    Workgroup: WORKGROUPS,
    Snapshot: SNAPSHOTS,
    Operation: OPERATIONS,
    TableRestore: TABLE_RESTORES,
    OpenSnapshot: OPEN_SNAPSHOTS,
    Proof: PROOFS,
    Verification: VERIFICATIONS,
    AccessKey: ACCESS_KEYS,
    DatabaseUser: DATABASE_USERS,
    ManagedSecret: MANAGED_SECRETS,
    Tag: TAGS,
    ResourcePolicy: RESOURCE_POLICIES,
}
"""Where the records of each type are kept."""

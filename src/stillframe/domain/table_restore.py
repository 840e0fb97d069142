"""Bringing one table back out of a snapshot: what was asked for, and how far it is."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from stillframe.domain.identifiers import (
    AccountId,
    NamespaceId,
    NamespaceName,
    Region,
    Scope,
    SnapshotId,
    SnapshotName,
    WorkgroupName,
)
from stillframe.errors import InvalidRequest

DEFAULT_SCHEMA = "public"
LONGEST_IDENTIFIER = 63
"""Bytes of a PostgreSQL identifier (NAMEDATALEN - 1)."""

_SYSTEM_SCHEMAS = ("information_schema",)
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


class TableRestoreStatus(StrEnum):
    """The API's words; CANCELED has one L here, unlike a snapshot's."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableName:
    """Where a table is, each part as PostgreSQL stores it."""

    database: str
    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.table} of database {self.database}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRestore:
    """One row of the catalog; its id is that of its operation, and the API's `tableRestoreRequestId`.

    `done_bytes` of `total_bytes` have arrived, both lengths of the table in the snapshot. `target_transaction` is
    the number of the transaction that brings the table, written before its commit: after a crash the target's
    server knows how that ended.
    """

    id: uuid.UUID
    account: AccountId
    region: Region
    namespace_id: NamespaceId
    namespace_name: NamespaceName
    workgroup_name: WorkgroupName
    snapshot_id: SnapshotId
    snapshot_name: SnapshotName
    source_database: str
    source_schema: str
    source_table: str
    target_database: str
    target_schema: str
    new_table: str
    status: TableRestoreStatus
    created_at: datetime
    done_bytes: int = 0
    total_bytes: int | None = None
    message: str | None = None
    target_transaction: int | None = None

    @property
    def scope(self) -> Scope:
        """Whose it is."""
        return Scope(account=self.account, region=self.region)

    @property
    def source(self) -> TableName:
        """The table in the snapshot."""
        return TableName(database=self.source_database, schema=self.source_schema, table=self.source_table)

    @property
    def target(self) -> TableName:
        """The table to be made."""
        return TableName(database=self.target_database, schema=self.target_schema, table=self.new_table)


def parse_identifier(text: str, *, case_sensitive: bool, member: str) -> str:
    """A database, schema or table name of a request, as PostgreSQL stores it.

    Folded to lower case as PostgreSQL folds what is not quoted (the letters A-Z), unless `case_sensitive`. Raises
    InvalidRequest, naming the request's `member`, for a name that no object can have.
    """
    if not text or "\0" in text:
        raise InvalidRequest(f"{member} must not be empty and must not contain a NUL character.")
    if len(text.encode(errors="replace")) > LONGEST_IDENTIFIER:
        raise InvalidRequest(f"{member} must not be longer than {LONGEST_IDENTIFIER} bytes.")
    return text if case_sensitive else text.translate(_LOWER)


def is_system_schema(name: str) -> bool:
    """Whether a schema is PostgreSQL's own; nothing is restored from or into it."""
    return name.startswith("pg_") or name in _SYSTEM_SCHEMAS

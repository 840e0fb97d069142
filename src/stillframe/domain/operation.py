"""Long work as the catalog knows it: what was asked, how far it is, how it ended."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from stillframe.domain.identifiers import AccountId, NamespaceId, Region


class OperationKind(StrEnum):
    """One kind a job handler."""

    CREATE_WORKGROUP = "create_workgroup"
    UPDATE_WORKGROUP = "update_workgroup"
    DELETE_WORKGROUP = "delete_workgroup"
    UPDATE_NAMESPACE = "update_namespace"
    DELETE_NAMESPACE = "delete_namespace"
    CREATE_SNAPSHOT = "create_snapshot"
    RESTORE_FROM_SNAPSHOT = "restore_from_snapshot"
    RESTORE_TABLE_FROM_SNAPSHOT = "restore_table_from_snapshot"
    START_SERVER = "start_server"
    OPEN_SNAPSHOT = "open_snapshot"
    CLOSE_SNAPSHOT = "close_snapshot"
    PROVE_SNAPSHOT = "prove_snapshot"


ASIDE = frozenset({OperationKind.OPEN_SNAPSHOT, OperationKind.CLOSE_SNAPSHOT, OperationKind.PROVE_SNAPSHOT})
"""Kinds that leave the namespace alone: they work on private copies of its snapshots."""


class OperationStatus(StrEnum):
    """QUEUED → RUNNING → one of the three ends."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({OperationStatus.SUCCEEDED, OperationStatus.FAILED, OperationStatus.CANCELLED})
"""The statuses that never change again."""

UNFINISHED = frozenset(OperationStatus) - ENDED
"""The statuses of work that is still to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Written in the transaction that accepts the request; its job carries only the id.

    `arguments` is JSON and never holds a secret in the clear. `phase`, `done_bytes` and `total_bytes` are the
    progress of work that moves data.
    """

    id: uuid.UUID
    account: AccountId
    region: Region
    kind: OperationKind
    status: OperationStatus
    namespace_id: NamespaceId
    subject_id: uuid.UUID
    arguments: Mapping[str, object] = field(default_factory=dict)
    request_id: str = ""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int = 0
    cancel_requested: bool = False
    phase: str = "queued"
    done_bytes: int = 0
    total_bytes: int | None = None
    failure_kind: str | None = None
    failure: str | None = None
    hint: str | None = None

"""A snapshot that is open: a running, read-only copy of it that clients connect to for a while."""

import uuid
from dataclasses import dataclass, field
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
)
from stillframe.errors import InvalidRequest

SHORTEST, LONGEST, DEFAULT = 1, 7 * 24 * 3600, 3600
"""Seconds a snapshot may stay open."""


class OpenSnapshotStatus(StrEnum):
    """OPENING → OPEN or FAILED → CLOSING; what is closed is gone."""

    OPENING = "OPENING"
    OPEN = "OPEN"
    FAILED = "FAILED"
    CLOSING = "CLOSING"


USABLE = frozenset({OpenSnapshotStatus.OPENING, OpenSnapshotStatus.OPEN})
"""The statuses of a copy that clients can connect to, or soon can."""

OCCUPYING = frozenset(OpenSnapshotStatus) - {OpenSnapshotStatus.FAILED}
"""The statuses of a copy that takes, or may take, room and memory."""


def parse_duration(seconds: int | None) -> int:
    """Seconds to stay open, an hour when None. Raises InvalidRequest outside of 1 second to 7 days."""
    duration = DEFAULT if seconds is None else seconds
    if not SHORTEST <= duration <= LONGEST:
        raise InvalidRequest(f"A snapshot can stay open for {SHORTEST} to {LONGEST} seconds.")
    return duration


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSnapshot:
    """One row of the catalog, and what lies and runs under its id; `account` is whoever opened it.

    `username` is a login that exists in the copy alone; of its password the row has the verifier and a sealed form.
    A `temporary` copy serves one question of whoever opened it, and is shown to nobody else.
    """

    id: uuid.UUID
    account: AccountId
    region: Region
    snapshot_id: SnapshotId
    snapshot_name: SnapshotName
    namespace_id: NamespaceId
    namespace_name: NamespaceName
    status: OpenSnapshotStatus
    temporary: bool
    created_at: datetime
    expires_at: datetime
    username: str
    verifier: str = field(repr=False)
    sealed_password: bytes = field(repr=False)
    port: int | None = None
    message: str | None = None

    @property
    def scope(self) -> Scope:
        """Whose it is."""
        return Scope(account=self.account, region=self.region)

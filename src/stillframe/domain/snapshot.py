"""A snapshot as the API shows it. What it contains is the repository's business."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from stillframe.domain.identifiers import (
    AccountId,
    Arn,
    KmsKeyId,
    NamespaceId,
    NamespaceName,
    Region,
    ResourceKind,
    Scope,
    SnapshotId,
    SnapshotName,
)
from stillframe.errors import InvalidRequest

KEEP_FOREVER = -1
"""The retention period that means: until somebody deletes it."""


class SnapshotStatus(StrEnum):
    """The API's words. There is no DELETING: a deleted snapshot is gone at once."""

    AVAILABLE = "AVAILABLE"
    CREATING = "CREATING"
    DELETED = "DELETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    COPYING = "COPYING"


SHOWN = tuple(status for status in SnapshotStatus if status is not SnapshotStatus.DELETED)
"""A snapshot that is DELETED exists only until its document is gone; nobody sees it."""


def parse_retention(days: int | None) -> int:
    """-1 or 1-3653 days; None means -1. Anything else is InvalidRequest."""
    if days is None:
        return KEEP_FOREVER
    if days != KEEP_FOREVER and not 1 <= days <= 3653:
        raise InvalidRequest("The retention period must be either -1 or an integer between 1 and 3653.")
    return days


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotProgress:
    """What a running capture has done so far; all measured, in bytes and seconds."""

    phase: str = "queued"
    done_bytes: int = 0
    total_bytes: int | None = None
    bytes_per_second: float = 0.0
    elapsed_seconds: float = 0.0

    @property
    def remaining_seconds(self) -> float | None:
        """At the present rate; None while the total or the rate is not known."""
        if self.total_bytes is None or self.bytes_per_second <= 0:
            return None
        return max(0.0, (self.total_bytes - self.done_bytes) / self.bytes_per_second)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One row of the catalog, rebuildable from the snapshot's document in the repository."""

    id: SnapshotId
    account: AccountId
    region: Region
    name: SnapshotName
    namespace_id: NamespaceId
    namespace_name: NamespaceName
    status: SnapshotStatus
    created_at: datetime
    retention_days: int
    retention_started_at: datetime | None = None
    admin_username: str
    db_name: str
    kms_key_id: KmsKeyId
    admin_secret_arn: str | None = None
    admin_secret_kms_key_id: KmsKeyId | None = None
    publicly_accessible: bool = False
    phase: str = "queued"
    done_bytes: int = 0
    total_bytes: int | None = None
    bytes_per_second: float = 0.0
    elapsed_seconds: float = 0.0
    stored_bytes: int | None = None
    logical_bytes: int | None = None
    damage: str | None = None
    failure: str | None = None

    @property
    def scope(self) -> Scope:
        """Whose it is."""
        return Scope(account=self.account, region=self.region)

    @property
    def arn(self) -> str:
        """Its ARN, made of its UUID and not of its name."""
        return str(Arn.of(self.scope, ResourceKind.SNAPSHOT, self.id))

    @property
    def namespace_arn(self) -> str:
        """The ARN of the namespace it was taken of, which may be gone."""
        return str(Arn.of(self.scope, ResourceKind.NAMESPACE, self.namespace_id))

    @property
    def progress(self) -> SnapshotProgress:
        """The capture's last report."""
        return SnapshotProgress(
            phase=self.phase,
            done_bytes=self.done_bytes,
            total_bytes=self.total_bytes,
            bytes_per_second=self.bytes_per_second,
            elapsed_seconds=self.elapsed_seconds,
        )

    def expires_at(self) -> datetime | None:
        """When retention ends; None when it never does or has not begun."""
        if self.retention_days == KEEP_FOREVER or self.retention_started_at is None:
            return None
        return self.retention_started_at + timedelta(days=self.retention_days)

    def remaining_days(self, now: datetime) -> int | None:
        """Whole days left, never below 0; -1 when kept for ever; None while it is being taken."""
        if self.retention_started_at is None:
            return None
        if self.retention_days == KEEP_FOREVER:
            return KEEP_FOREVER
        return max(0, self.retention_days - (now - self.retention_started_at).days)

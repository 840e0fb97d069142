"""What a snapshot says about itself: the plain data that goes into its document and comes out of it.

These are stored (msgspec, strict), so a field is only ever added together with a new document version.
"""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Literal

import msgspec

from stillframe.domain.identifiers import KmsKeyId, LineageId, SnapshotId
from stillframe.domain.lsn import Lsn


class CaptureMode(StrEnum):
    """How the pages were chosen."""

    FULL = "full"
    INCREMENTAL = "incremental"


class _Stored(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Immutable, keyword-only, and nothing unknown in it."""


class AncestryEntry(_Stored, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stretch of history before this one: it was left at `fork_lsn`, on this timeline of this lineage."""

    lineage_id: LineageId
    timeline: int
    fork_lsn: Lsn


class PostgresIdentity(_Stored, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must match before a snapshot may be restored, or be a parent (rules 20 and 45). Sizes in bytes."""

    server_version: str
    server_version_num: int
    build: str
    system_identifier: int
    catalog_version: int
    control_version: int
    data_checksum_version: int
    block_size: int
    wal_segment_size: int
    relation_segment_size: int


class DatabaseFacts(_Stored, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A database, for show. `size` in bytes."""

    name: str
    oid: int
    size: int


class RoleFacts(_Stored, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A role, for show."""

    name: str
    can_login: bool
    is_superuser: bool


class SnapshotAttributes(_Stored, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the API shows and may change; together with the rest enough to rebuild a catalog row."""

    account: str
    region: str
    snapshot_name: str
    snapshot_arn: str
    namespace_id: str
    namespace_name: str
    namespace_arn: str
    admin_username: str
    db_name: str
    kms_key_id: KmsKeyId
    created_at: datetime
    retention_days: int
    retention_started_at: datetime | None = None
    owner_account: str | None = None
    publicly_accessible: bool = False
    admin_secret_arn: str | None = None
    admin_secret_kms_key_id: str | None = None
    recovery_point: bool = False
    tags: dict[str, str] = {}
    shared_with: list[str] = []
    extra: dict[str, str] = {}


class SnapshotFacts(_Stored, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the capture knows when it is done.

    LSNs are byte positions; `wal_bytes` and `bytes_read` are bytes; `duration_seconds` runs from the start of the
    backup to the commit. `timeline_history` is the text of the server's history file, empty on timeline 1.
    `full_reason` says why everything was read, None for an incremental capture.
    """

    lineage_id: LineageId
    ancestry: list[AncestryEntry]
    timeline: int
    timeline_history: str
    start_lsn: Lsn
    stop_lsn: Lsn
    checkpoint_lsn: Lsn
    backup_label: str
    tablespace_map: str = ""
    postgres: PostgresIdentity
    mode: CaptureMode
    full_reason: str | None = None
    online: bool = True
    started_at: datetime
    finished_at: datetime
    databases: list[DatabaseFacts]
    roles: list[RoleFacts]
    attributes: SnapshotAttributes
    bytes_read: int
    wal_bytes: int
    duration_seconds: float
    damage: list[str] = []
    """Sentences about source pages that were wrong when they were read (rule 24); empty for a clean snapshot."""


class SnapshotStatistics(_Stored, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the writer counted. Bytes and counts.

    `logical_bytes` is the length of all files; `new_plain_bytes` what had not been stored before, and
    `new_stored_bytes` what it and the new nodes take in the repository, trailers included.
    """

    logical_bytes: int
    files: int
    directories: int
    new_plain_bytes: int
    new_stored_bytes: int
    new_frames: int
    new_nodes: int
    known_frames: int
    known_plain_bytes: int
    pages: int
    zero_pages: int


class SnapshotDocument(_Stored, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole snapshot: everything but the bytes. `root` is the id of its directory map."""

    version: Literal[1] = 1
    kind: Literal["snapshot"] = "snapshot"
    repository_id: uuid.UUID
    snapshot_id: SnapshotId
    parent_id: SnapshotId | None
    key_reference: str
    committed_at: datetime
    root: bytes | None
    facts: SnapshotFacts
    statistics: SnapshotStatistics

    @property
    def attributes(self) -> SnapshotAttributes:
        """The API's attributes as they are now."""
        return self.facts.attributes


class AttributesDocument(_Stored, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The stored form of a snapshot's present attributes. `generation` grows with each change, from 1."""

    version: Literal[1] = 1
    kind: Literal["attributes"] = "attributes"
    snapshot_id: SnapshotId
    generation: int
    changed_at: datetime
    attributes: SnapshotAttributes


class PinDocument(_Stored, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The stored form of a pin: all it takes to open the snapshot, also when its own document is gone."""

    version: Literal[1] = 1
    kind: Literal["pin"] = "pin"
    pin_id: uuid.UUID
    pinned_at: datetime
    snapshot: SnapshotDocument

"""What a finished capture knows about its source, as the snapshot's document wants it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from stillframe.backup.damage import damage_sentences
from stillframe.backup.reading import CopyContext
from stillframe.domain.clock import Clock
from stillframe.domain.identifiers import LineageId
from stillframe.postgres.backup_session import BackupStart, BackupStop, parse_backup_label
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import Session
from stillframe.postgres.control import ControlFile
from stillframe.postgres.files import is_relation_folder
from stillframe.postgres.roles import database_names, list_roles
from stillframe.repository import (
    AncestryEntry,
    CaptureMode,
    DatabaseFacts,
    PostgresIdentity,
    RoleFacts,
    SnapshotAttributes,
    SnapshotFacts,
)


class Requested(Protocol):
    """The part of a capture's request that goes into its document."""

    @property
    def lineage_id(self) -> LineageId: ...
    @property
    def attributes(self) -> SnapshotAttributes: ...
    @property
    def ancestry(self) -> Sequence[AncestryEntry]: ...
    @property
    def clock(self) -> Clock: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDescription:
    """The server's version, and what is in it; `databases` are names by their numbers."""

    version: str
    version_num: int
    build: str
    databases: Mapping[int, str]
    roles: list[RoleFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Where the copy began and ended. `wal_bytes` is the WAL it needs, `history` its timeline's history file."""

    started_at: datetime
    control: ControlFile
    start: BackupStart
    stop: BackupStop
    wal_bytes: int
    history: str
    server: ServerDescription


def describe_server(session: Session) -> ServerDescription:
    """What the server says of itself, in any session of the service's own role. Raises ServerUnavailable."""
    version, number, build = session.row(
        "SELECT current_setting('server_version'), current_setting('server_version_num')::int, version()",
    )
    return ServerDescription(
        version=version,
        version_num=number,
        build=build,
        databases=database_names(session),
        roles=[
            RoleFacts(name=role.name, can_login=role.login, is_superuser=False)
            for role in list_roles(session)
        ],
    )


def gather_facts(
    source: Cluster, request: Requested, context: CopyContext, outcome: Outcome
) -> SnapshotFacts:
    """Everything the snapshot's document says beside its content; call it when all files are written."""
    server = outcome.server
    finished_at = request.clock.now()
    reason = context.changes.full_reason
    return SnapshotFacts(
        lineage_id=request.lineage_id,
        ancestry=list(request.ancestry),
        timeline=outcome.start.timeline,
        timeline_history=outcome.history,
        start_lsn=outcome.start.lsn,
        stop_lsn=outcome.stop.lsn,
        checkpoint_lsn=parse_backup_label(outcome.stop.backup_label).checkpoint_lsn,
        backup_label=outcome.stop.backup_label,
        tablespace_map=outcome.stop.tablespace_map,
        postgres=_identity(server, outcome.control),
        mode=CaptureMode.INCREMENTAL if reason is None else CaptureMode.FULL,
        full_reason=reason,
        started_at=outcome.started_at,
        finished_at=finished_at,
        databases=_databases(server, context.writer.directory_sizes()),
        roles=server.roles,
        attributes=request.attributes,
        bytes_read=context.findings.bytes_read,
        wal_bytes=outcome.wal_bytes,
        duration_seconds=max((finished_at - outcome.started_at).total_seconds(), 0.0),
        damage=list(damage_sentences(source, context.findings, databases=server.databases)),
    )


def _databases(server: ServerDescription, sizes: Mapping[str, int]) -> list[DatabaseFacts]:
    """With the lengths of their files in the snapshot: PostgreSQL would look at every file to tell them."""
    totals: Counter[str] = Counter()
    for path, size in sizes.items():
        if is_relation_folder(path):
            totals[path.rpartition("/")[2]] += size
    return [
        DatabaseFacts(name=name, oid=number, size=totals[str(number)])
        for number, name in server.databases.items()
    ]


def _identity(server: ServerDescription, control: ControlFile) -> PostgresIdentity:
    return PostgresIdentity(
        server_version=server.version,
        server_version_num=server.version_num,
        build=server.build,
        system_identifier=control.system_identifier,
        catalog_version=control.catalog_version,
        control_version=control.control_version,
        data_checksum_version=control.data_checksum_version,
        block_size=control.block_size,
        wal_segment_size=control.wal_segment_size,
        relation_segment_size=control.relation_segment_blocks * control.block_size,
    )

"""Whether a snapshot may be the parent of the next one, and what changed since it (rules 8-12, 20, 32).

Every doubt is a reason to read everything, said in the snapshot's document; it is never an error, and never
"nothing changed".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stillframe.backup.changes import ChangeSet, Everything, SinceParent
from stillframe.domain.cancel import CancelToken
from stillframe.domain.identifiers import LineageId
from stillframe.errors import SourceDataCorrupt
from stillframe.postgres.backup_session import BackupStart
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import Session
from stillframe.postgres.control import ControlFile
from stillframe.postgres.wal import TimelineEntry, ancestry
from stillframe.postgres.wal_summaries import (
    Doubt,
    SummariesUnusable,
    WalRange,
    choose_summaries,
    list_summaries,
    merge_summaries,
    wait_until_summarized,
)
from stillframe.repository import AncestryEntry, FileEntry, PostgresIdentity, SnapshotFacts, SnapshotWriter

NO_PARENT = "The namespace has no earlier snapshot to rely on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The cluster that is copied, as it is when the copy begins. `origins` is its lineage's ancestry."""

    cluster: Cluster
    session: Session
    control: ControlFile
    start: BackupStart
    lineage_id: LineageId
    origins: Sequence[AncestryEntry]


def changes_since_parent(source: Source, writer: SnapshotWriter, *, cancel: CancelToken) -> ChangeSet:
    """What has to be read of the source, relying on the writer's parent as far as that is certain.

    Waits for PostgreSQL's summarizer, which has to reach the start of the copy; gives up when it does not move.
    Raises ServerUnavailable when the server goes away, and Cancelled.
    """
    if writer.parent is None:
        return Everything(full_reason=NO_PARENT, doubt=Doubt.NO_PARENT)
    try:
        return changes_since(writer.parent.facts, source, parent_file=writer.parent_file, cancel=cancel)
    except SummariesUnusable as error:
        return Everything(full_reason=str(error), doubt=error.doubt)
    except SourceDataCorrupt as error:
        return Everything(full_reason=str(error), doubt=Doubt.HISTORY_UNREADABLE)


def changes_since(
    parent: SnapshotFacts,
    source: Source,
    *,
    parent_file: Callable[[str], FileEntry | None],
    cancel: CancelToken,
) -> SinceParent:
    """What WAL says was changed between the beginning of a snapshot and the source's start.

    `parent_file` finds a file of that snapshot. Waits for PostgreSQL's summarizer. Raises SummariesUnusable and
    SourceDataCorrupt when it is not certain, ServerUnavailable when the server goes away, and Cancelled.
    """
    directory, start = source.cluster.data_directory, source.start
    history = ancestry(directory, start.timeline)
    require_legal(parent, source, history)
    wait_until_summarized(source.session, lsn=start.lsn, timeline=start.timeline, cancel=cancel)
    files = choose_summaries(list_summaries(directory), wal_since(parent, start, history))
    return SinceParent(
        merge_summaries(files),
        parent_file=parent_file,
        segment_blocks=source.control.relation_segment_blocks,
    )


def require_legal(parent: SnapshotFacts, source: Source, history: Sequence[TimelineEntry]) -> None:
    """Raise SummariesUnusable unless the source goes on from exactly what the parent holds.

    `history` is the server's own record of its earlier timelines, oldest first.
    """
    if parent.damage:
        # What is inherited is not checked again, so the damage would go on without being said.
        raise SummariesUnusable("The snapshot before holds damaged pages", Doubt.DAMAGED_PARENT)
    _require_same_cluster(parent.postgres, source)
    _require_same_lineage(parent, source)
    _require_same_timeline(parent, source.start, history)


def wal_since(parent: SnapshotFacts, start: BackupStart, history: Sequence[TimelineEntry]) -> list[WalRange]:
    """The WAL from the parent's beginning to this copy's, along the timelines, in the order of history.

    From its beginning and not from its end: what changed while it was copied was copied old or new (rule 9).
    """
    ranges: list[WalRange] = []
    position = parent.start_lsn
    for entry in history:
        if entry.timeline >= parent.timeline:
            ranges.append(WalRange(timeline=entry.timeline, start=position, end=entry.until))
            position = entry.until
    return [*ranges, WalRange(timeline=start.timeline, start=position, end=start.lsn)]


def _require_same_cluster(then: PostgresIdentity, source: Source) -> None:
    now = source.control
    compared = (
        ("system identifier", then.system_identifier, now.system_identifier),
        ("catalog version", then.catalog_version, now.catalog_version),
        ("version of pg_control", then.control_version, now.control_version),
        ("page checksum setting", then.data_checksum_version, now.data_checksum_version),
        ("page size", then.block_size, now.block_size),
        ("relation segment size", then.relation_segment_size, now.relation_segment_blocks * now.block_size),
        ("WAL segment size", then.wal_segment_size, now.wal_segment_size),
        ("major version", then.server_version_num // 10000, source.cluster.installation.major),
    )
    for name, old, new in compared:
        if old != new:
            raise SummariesUnusable(
                f"The {name} was {old} at the snapshot before, and is {new} now", Doubt.OTHER_CLUSTER
            )
    if now.data_checksum_version == 0:
        raise SummariesUnusable(
            "Without page checksums WAL does not tell all changes of pages", Doubt.NO_CHECKSUMS
        )


def _require_same_lineage(parent: SnapshotFacts, source: Source) -> None:
    """A fork has the same system identifier, and may have had the same timeline: only lineages tell (rule 32)."""
    if parent.lineage_id == source.lineage_id:
        return
    for origin in source.origins:
        # What the origin wrote after the fork may be in a snapshot that was not complete by then.
        if (origin.lineage_id, origin.timeline) == (parent.lineage_id, parent.timeline):
            if parent.stop_lsn <= origin.fork_lsn:
                return
            raise SummariesUnusable(
                f"The snapshot before ends at {parent.stop_lsn}, after these databases forked from its own"
                f" at {origin.fork_lsn}",
                Doubt.OTHER_HISTORY,
            )
    raise SummariesUnusable(
        "The snapshot before is of other databases, which these do not come from", Doubt.OTHER_HISTORY
    )


def _require_same_timeline(
    parent: SnapshotFacts, start: BackupStart, history: Sequence[TimelineEntry]
) -> None:
    ends = {entry.timeline: entry.until for entry in history} | {start.timeline: start.lsn}
    end = ends.get(parent.timeline)
    if end is None:
        raise SummariesUnusable(
            f"The server is on timeline {start.timeline}, which does not come from timeline {parent.timeline}"
            " of the snapshot before",
            Doubt.OTHER_HISTORY,
        )
    if parent.stop_lsn > end:
        raise SummariesUnusable(
            f"The snapshot before ends at {parent.stop_lsn}, but the server left its timeline at {end}",
            Doubt.OTHER_HISTORY,
        )

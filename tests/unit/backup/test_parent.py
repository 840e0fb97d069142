"""Which snapshot may be the parent of which, and what WAL lies between them (rules 9, 20, 32)."""

import dataclasses
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from stillframe.backup.parent import Source, require_legal, wal_since
from stillframe.domain.identifiers import LineageId
from stillframe.domain.lsn import Lsn
from stillframe.postgres.backup_session import BackupStart
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import Session
from stillframe.postgres.control import ControlFile
from stillframe.postgres.wal import TimelineEntry
from stillframe.postgres.wal_summaries import SummariesUnusable, WalRange
from stillframe.repository import AncestryEntry, CaptureMode, PostgresIdentity, SnapshotFacts
from support.backup import attributes

pytestmark = pytest.mark.unit

LINEAGE = LineageId(uuid.uuid4())
OTHER = LineageId(uuid.uuid4())
NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDENTITY = PostgresIdentity(
    server_version="18.6",
    server_version_num=180006,
    build="PostgreSQL 18.6",
    system_identifier=7,
    catalog_version=202506291,
    control_version=1800,
    data_checksum_version=1,
    block_size=8192,
    wal_segment_size=16 << 20,
    relation_segment_size=1 << 30,
)
PARENT = SnapshotFacts(
    lineage_id=LINEAGE,
    ancestry=[],
    timeline=1,
    timeline_history="",
    start_lsn=Lsn(100),
    stop_lsn=Lsn(200),
    checkpoint_lsn=Lsn(110),
    backup_label="",
    postgres=IDENTITY,
    mode=CaptureMode.FULL,
    started_at=NOW,
    finished_at=NOW,
    databases=[],
    roles=[],
    attributes=attributes(),
    bytes_read=0,
    wal_bytes=0,
    duration_seconds=0.0,
)


def source(*, timeline: int = 1, lsn: int = 300, lineage: LineageId = LINEAGE, **control: int) -> Source:
    """What the cluster is when the copy begins."""
    said = {
        "system_identifier": 7,
        "catalog_version": 202506291,
        "control_version": 1800,
        "data_checksum_version": 1,
        "block_size": 8192,
        "wal_segment_size": 16 << 20,
        "relation_segment_blocks": 131072,
    }
    major = control.pop("major", 18)
    cluster = SimpleNamespace(installation=SimpleNamespace(major=major))
    return Source(
        cluster=cast("Cluster", cluster),
        session=cast("Session", None),
        control=cast("ControlFile", SimpleNamespace(**{**said, **control})),
        start=BackupStart(lsn=Lsn(lsn), timeline=timeline),
        lineage_id=lineage,
        origins=[],
    )


def with_origin(found: Source, *, timeline: int = 1, fork: int, lineage: LineageId = LINEAGE) -> Source:
    entry = AncestryEntry(lineage_id=lineage, timeline=timeline, fork_lsn=Lsn(fork))
    return dataclasses.replace(found, origins=[entry])


def test_the_snapshot_before_of_the_same_lineage_is_legal() -> None:
    require_legal(PARENT, source(), [])


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("system_identifier", 8, "system identifier"),
        ("catalog_version", 202506290, "catalog version"),
        ("control_version", 1801, "pg_control"),
        ("data_checksum_version", 0, "checksum"),
        ("block_size", 4096, "page size"),
        ("wal_segment_size", 1 << 20, "WAL segment size"),
        ("relation_segment_blocks", 65536, "relation segment size"),
        ("major", 19, "major version"),
    ],
)
def test_a_cluster_that_differs_has_no_parent(field: str, value: int, word: str) -> None:
    with pytest.raises(SummariesUnusable, match=word):
        require_legal(PARENT, source(**cast("dict[str, Any]", {field: value})), [])


def test_a_cluster_without_checksums_has_no_parent() -> None:
    identity = msgspec.structs.replace(IDENTITY, data_checksum_version=0)
    parent = msgspec.structs.replace(PARENT, postgres=identity)
    with pytest.raises(SummariesUnusable, match="Without page checksums"):
        require_legal(parent, source(data_checksum_version=0), [])


def test_a_snapshot_with_damaged_pages_is_no_parent() -> None:
    parent = msgspec.structs.replace(PARENT, damage=["A page fails its checksum and stays so."])
    with pytest.raises(SummariesUnusable, match="damaged"):
        require_legal(parent, source(), [])


def test_a_lineage_that_comes_from_the_parents_may_rely_on_it() -> None:
    child = source(timeline=4, lineage=OTHER)
    history = [TimelineEntry(timeline=1, until=Lsn(200))]
    require_legal(PARENT, with_origin(child, fork=200), history)


@pytest.mark.parametrize(
    "child",
    [
        source(timeline=4, lineage=OTHER),
        with_origin(source(timeline=4, lineage=OTHER), fork=200, lineage=OTHER),
        with_origin(source(timeline=4, lineage=OTHER), fork=200, timeline=2),
    ],
    ids=["no origin", "another origin", "another timeline of it"],
)
def test_a_lineage_that_does_not_come_from_the_parents_may_not(child: Source) -> None:
    with pytest.raises(SummariesUnusable, match="other databases"):
        require_legal(PARENT, child, [TimelineEntry(timeline=1, until=Lsn(200))])


def test_a_snapshot_that_was_not_complete_when_the_lineage_forked_is_no_parent() -> None:
    child = with_origin(source(timeline=4, lineage=OTHER), fork=199)
    with pytest.raises(SummariesUnusable, match="forked"):
        require_legal(PARENT, child, [TimelineEntry(timeline=1, until=Lsn(200))])


def test_a_server_that_left_the_parents_timeline_before_its_end_has_no_parent() -> None:
    with pytest.raises(SummariesUnusable, match="left its timeline at 0/C7"):
        require_legal(PARENT, source(timeline=2), [TimelineEntry(timeline=1, until=Lsn(199))])


def test_a_server_whose_timeline_does_not_come_from_the_parents_has_no_parent() -> None:
    parent = msgspec.structs.replace(PARENT, timeline=3)
    with pytest.raises(SummariesUnusable, match="does not come from timeline 3"):
        require_legal(parent, source(timeline=4), [TimelineEntry(timeline=1, until=Lsn(200))])


def test_a_server_that_is_behind_its_parent_has_none() -> None:
    with pytest.raises(SummariesUnusable, match="left its timeline"):
        require_legal(PARENT, source(lsn=150), [])


def test_wal_is_needed_from_the_beginning_of_the_parent_along_all_timelines() -> None:
    history = [
        TimelineEntry(timeline=1, until=Lsn(50)),
        TimelineEntry(timeline=2, until=Lsn(220)),
        TimelineEntry(timeline=5, until=Lsn(260)),
    ]
    parent = msgspec.structs.replace(PARENT, timeline=2)
    assert wal_since(parent, BackupStart(lsn=Lsn(300), timeline=6), history) == [
        WalRange(timeline=2, start=Lsn(100), end=Lsn(220)),
        WalRange(timeline=5, start=Lsn(220), end=Lsn(260)),
        WalRange(timeline=6, start=Lsn(260), end=Lsn(300)),
    ]
    assert wal_since(PARENT, BackupStart(lsn=Lsn(300), timeline=1), []) == [
        WalRange(timeline=1, start=Lsn(100), end=Lsn(300))
    ]

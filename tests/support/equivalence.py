"""Comparing an incremental snapshot with an independent full copy of the same moment, page by page."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

from stillframe.backup.changes import Everything
from stillframe.backup.memory import ListingMemory
from stillframe.domain.identifiers import LineageId
from stillframe.postgres import files
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import connect
from stillframe.postgres.control import CONTROL_FILE
from stillframe.postgres.files import parse_relation_name
from stillframe.postgres.pages import PAGE_SIZE, page_lsns
from stillframe.postgres.settings import MEGABYTE, ServerSettings
from stillframe.postgres.wal_summaries import FOLDER
from stillframe.repository import (
    AncestryEntry,
    CaptureMode,
    FileEntry,
    Repository,
    SnapshotDocument,
    SnapshotReader,
)
from support.backup import new_repository, take
from support.postgres import QUIET, reachable_directory, running_namespace

UNDISTURBED = replace(
    QUIET,
    max_prepared_transactions=5,
    # Nothing may happen between the two copies that are compared.
    extra={**QUIET.extra, "checkpoint_timeout": "1d"},
)
FIRST_USER_OID = 16384
_PART = 16 * MEGABYTE


@dataclass(kw_only=True)
class Rig:
    """A quiet cluster, the repository of its incremental snapshots, and another one for the full copies.

    With `in_passes` some snapshots are taken in several passes.
    """

    cluster: Cluster
    repository: Repository
    measure: Repository
    lineage: LineageId = field(default_factory=lambda: LineageId(uuid.uuid4()))
    memory: ListingMemory = field(default_factory=ListingMemory)
    ancestry: tuple[AncestryEntry, ...] = ()
    last: SnapshotDocument | None = None
    in_passes: bool = False
    captures: int = 0

    def capture(self) -> SnapshotDocument:
        """Take the next snapshot; its parent is the one before."""
        parent = self.last.snapshot_id if self.last is not None else None
        self.captures += 1
        self.last = take(
            self.repository,
            self.cluster,
            parent=parent,
            lineage_id=self.lineage,
            ancestry=self.ancestry,
            memory=self.memory,
            # Every third as beside much work, if they shall be.
            short_wal=0 if self.in_passes and self.captures % 3 == 0 else 1 << 40,
        )
        return self.last

    def full_copy(self) -> SnapshotDocument:
        """An independent copy of everything, in a repository that shares nothing with the other."""
        changes = Everything(full_reason="to compare with")
        return take(self.measure, self.cluster, lineage_id=self.lineage, changes=changes)

    def verified(self) -> SnapshotDocument:
        """Take the next snapshot, and assert that it is incremental and equal to a full copy."""
        with connect(self.cluster) as session:
            session.execute("CHECKPOINT")
        document = self.capture()
        assert document.facts.full_reason is None
        assert document.facts.mode is CaptureMode.INCREMENTAL
        assert_same(self.repository, document, self.measure, self.full_copy())
        return document


@contextmanager
def equivalence_rig(settings: ServerSettings = UNDISTURBED) -> Iterator[Rig]:
    """A rig on a new namespace."""
    with (
        running_namespace(settings) as cluster,
        repositories() as (repository, measure),
        # These file systems tell times apart within milliseconds: what is remembered shall be used all the time.
        patch.object(files, "_COARSEST_CLOCK", 20_000_000),
    ):
        yield Rig(cluster=cluster, repository=repository, measure=measure)


@contextmanager
def repositories() -> Iterator[tuple[Repository, Repository]]:
    """Two repositories that share nothing."""
    with reachable_directory() as one, reachable_directory() as other:
        yield new_repository(one), new_repository(other)


def assert_same(
    repository: Repository, document: SnapshotDocument, measure: Repository, full: SnapshotDocument
) -> None:
    """Every file the same, byte by byte; pages that WAL since the first one's start restores are let pass.

    Those can only be of system catalogs, where looking sets hint bits: nobody writes between the two.
    """
    with (
        repository.open_snapshot(document.snapshot_id) as one,
        measure.open_snapshot(full.snapshot_id) as other,
    ):
        found, wanted = _files(one), _files(other)
        assert found.keys() == wanted.keys()
        assert [(folder.path, folder.mode) for folder in one.directories()] == [
            (folder.path, folder.mode) for folder in other.directories()
        ]
        for path, entry in found.items():
            assert (entry.size, entry.kind, entry.mode) == (
                wanted[path].size,
                wanted[path].kind,
                wanted[path].mode,
            ), path
            _assert_same_bytes(one, entry, other, wanted[path], start=document.facts.start_lsn)


def _files(reader: SnapshotReader) -> dict[str, FileEntry]:
    """What is compared: all but WAL and pg_control, which say when a copy was made."""
    return {
        file.path: file
        for file in reader.files()
        if not file.path.startswith("pg_wal/") and file.path != CONTROL_FILE
    }


def _assert_same_bytes(
    one: SnapshotReader, entry: FileEntry, other: SnapshotReader, wanted: FileEntry, *, start: int
) -> None:
    for offset in range(0, entry.size, _PART):
        found, expected = one.read_file(entry, offset, _PART), other.read_file(wanted, offset, _PART)
        if found != expected:
            _assert_same_pages(entry.path, found, expected, start=start, first=offset // PAGE_SIZE)


def _assert_same_pages(path: str, found: bytes, expected: bytes, *, start: int, first: int) -> None:
    relation = parse_relation_name(path.rpartition("/")[2])
    assert relation is not None, path
    assert len(found) == len(expected), path
    for index, lsn in enumerate(page_lsns(expected).tolist()):
        place = slice(index * PAGE_SIZE, (index + 1) * PAGE_SIZE)
        if found[place] != expected[place]:
            assert relation.number < FIRST_USER_OID, f"{path} block {first + index}"
            assert lsn >= start, f"{path} block {first + index}"


def summary_files(cluster: Cluster) -> list[Path]:
    """The server's WAL summaries, in the order of history."""
    return sorted((cluster.data_directory / FOLDER).glob("*.summary"))

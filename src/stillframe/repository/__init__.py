"""Snapshots as immutable, encrypted, deduplicated content; docs/spec/repository-v1.md is the stored form.

`Repository` is the way in, `SnapshotWriter` and `SnapshotReader` what it hands out; the rest is plain data.
"""

from stillframe.repository.accounting import RepositoryUsage, SnapshotUsage
from stillframe.repository.check import CheckProgress, CheckReport, Level
from stillframe.repository.collecting import SweepPolicy, SweepReport
from stillframe.repository.extents import Extent
from stillframe.repository.facts import (
    AncestryEntry,
    CaptureMode,
    DatabaseFacts,
    PostgresIdentity,
    RoleFacts,
    SnapshotAttributes,
    SnapshotDocument,
    SnapshotFacts,
    SnapshotStatistics,
)
from stillframe.repository.fetch import FetchGroup, Piece
from stillframe.repository.files import FileWriter
from stillframe.repository.indexing import IndexPolicy, IndexState
from stillframe.repository.local import LocalFiles, Span
from stillframe.repository.measure import RepositoryStatistics
from stillframe.repository.nodes import FileKind
from stillframe.repository.places import Places
from stillframe.repository.reader import SnapshotReader
from stillframe.repository.relations import RelationWriter
from stillframe.repository.repository import Repository
from stillframe.repository.tree import DirectoryEntry, FileEntry
from stillframe.repository.treecheck import Finding
from stillframe.repository.writer import SnapshotWriter

__all__ = [
    "AncestryEntry",
    "CaptureMode",
    "CheckProgress",
    "CheckReport",
    "DatabaseFacts",
    "DirectoryEntry",
    "Extent",
    "FetchGroup",
    "FileEntry",
    "FileKind",
    "FileWriter",
    "Finding",
    "IndexPolicy",
    "IndexState",
    "Level",
    "LocalFiles",
    "Piece",
    "Places",
    "PostgresIdentity",
    "RelationWriter",
    "Repository",
    "RepositoryStatistics",
    "RepositoryUsage",
    "RoleFacts",
    "SnapshotAttributes",
    "SnapshotDocument",
    "SnapshotFacts",
    "SnapshotReader",
    "SnapshotStatistics",
    "SnapshotUsage",
    "SnapshotWriter",
    "Span",
    "SweepPolicy",
    "SweepReport",
]

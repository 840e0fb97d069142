"""What a running cluster still has of a snapshot that it goes on from: cloned file by file, and what differs by WAL.

Why a page that is not named here is the snapshot's (docs/explanation/instant-restore.md has the whole argument):

* It differs only if it was changed since the snapshot was begun: beginning it made durable what was older.
* WAL tells of every such change which page it was of, and a page reaches its file only after its WAL was flushed. So
  the summaries up to a checkpoint that begins after the last file was cloned name every page that can differ, also
  one that was being written while its file was cloned.
* What WAL does not tell of is not cloned: maps of free space and of visibility, initial forks, and whatever is no
  relation.

Every doubt is a SummariesUnusable, which means "fetch everything".
"""

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from stillframe.backup.changes import BlockRange, SinceParent
from stillframe.backup.parent import Source, changes_since, require_legal
from stillframe.domain.cancel import CancelToken
from stillframe.domain.identifiers import LineageId
from stillframe.domain.lsn import Lsn
from stillframe.errors import Cancelled, OperatorError, StillframeError
from stillframe.hydration.tags import limit_of
from stillframe.postgres.backup_session import BackupStart
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import Session, connect
from stillframe.postgres.control import read_control_file
from stillframe.postgres.files import Fork, ListedFile, parse_relation_name
from stillframe.postgres.pages import PAGE_SIZE
from stillframe.postgres.wal import ancestry
from stillframe.postgres.wal_summaries import Doubt, SummariesUnusable
from stillframe.repository import AncestryEntry, FileEntry, SnapshotReader

_FICLONE = 0x40049409
"""ioctl(2) request of linux/fs.h: share the blocks of one file with another."""

_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_NOW = "SELECT now::text, pg_walfile_name(now) FROM pg_current_wal_insert_lsn() AS now"
_REDO = "SELECT redo_lsn::text, redo_wal_file FROM pg_control_checkpoint()"
_DAMAGE = "SELECT coalesce(sum(checksum_failures), 0)::int8 FROM pg_stat_database"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneBase:
    """A cluster whose history may contain the snapshot. `origins` is its lineage's ancestry."""

    cluster: Cluster
    lineage_id: LineageId
    origins: Sequence[AncestryEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClonePlan:
    """Files that are fetched whole, and the pages that are of others. `size` is that of all files, in bytes."""

    whole: Sequence[FileEntry]
    parts: Sequence[tuple[FileEntry, BlockRange]]
    size: int

    @property
    def cloned_bytes(self) -> int:
        """What need not be fetched."""
        pages = sum(part.count for _, part in self.parts)
        return self.size - sum(file.size for file in self.whole) - pages * PAGE_SIZE


def clone_problem(directory: Path) -> str | None:
    """Why files of this directory, which exists, can not be cloned; None when they can. It is tried."""
    try:
        with (
            tempfile.TemporaryFile(dir=directory) as source,
            tempfile.TemporaryFile(dir=directory) as target,
        ):
            source.write(bytes(PAGE_SIZE))
            source.flush()
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return None


class Clones:
    """The files of one base for one snapshot. The order of calls: `clone` for each file, then `plan`."""

    def __init__(self, reader: SnapshotReader, base: CloneBase, session: Session) -> None:
        """Raises SummariesUnusable unless the base goes on from the snapshot, and what looking at it raises."""
        self._reader = reader
        self._session = session
        self._lengths: dict[str, int] = {}
        _require_sound(base.cluster, session)
        self._source = Source(
            cluster=base.cluster,
            session=session,
            control=read_control_file(base.cluster.data_directory),
            start=_point(session.row(_NOW)),
            lineage_id=base.lineage_id,
            origins=base.origins,
        )
        history = ancestry(base.cluster.data_directory, self._source.start.timeline)
        require_legal(reader.document.facts, self._source, history)

    def clone(self, file: FileEntry, descriptor: int) -> None:
        """Have the open, empty file share the base's blocks, if it has them; its length may be any then."""
        if not self._may_be_cloned(file):
            return
        try:
            self._lengths[file.path] = _clone(self._source.cluster.data_directory / file.path, descriptor)
        except (OSError, OperatorError):
            # Dropped meanwhile, for example: it is fetched.
            os.ftruncate(descriptor, 0)

    def plan(self, files: Sequence[FileEntry], cancel: CancelToken) -> ClonePlan:
        """What of these files has to be fetched: all that may not be the snapshot's.

        Waits for a checkpoint and PostgreSQL's summarizer. Raises SummariesUnusable, Cancelled.
        """
        with _doubting():
            changes = self._changes(cancel)
        whole, parts = [], []
        for file in files:
            if file.path not in self._lengths:
                whole.append(file)
                continue
            different = self._different(file, changes)
            if sum(found.count for found in different) * PAGE_SIZE == file.size:
                whole.append(file)
            else:
                parts += [(file, found) for found in different]
        return ClonePlan(whole=whole, parts=parts, size=sum(file.size for file in files))

    def _may_be_cloned(self, file: FileEntry) -> bool:
        if not file.is_relation or not 0 < file.size <= self._segment_bytes or file.size % PAGE_SIZE:
            return False
        relation = parse_relation_name(file.path.rpartition("/")[2])
        return relation is not None and relation.fork is Fork.MAIN

    @property
    def _segment_bytes(self) -> int:
        return self._source.control.relation_segment_blocks * PAGE_SIZE

    def _changes(self, cancel: CancelToken) -> SinceParent:
        before = _point(self._session.row(_NOW))
        self._session.execute("CHECKPOINT")
        start = _point(self._session.row(_REDO))
        if start.lsn < before.lsn:
            raise SummariesUnusable("The server's last checkpoint began before its files were cloned")
        return changes_since(
            self._reader.document.facts,
            replace(self._source, start=start),
            parent_file=self._reader.entry,
            cancel=cancel,
        )

    def _different(self, file: FileEntry, changes: SinceParent) -> list[BlockRange]:
        blocks, there = file.size // PAGE_SIZE, self._lengths[file.path] // PAGE_SIZE
        listed = ListedFile(
            path=file.path,
            mode=file.mode,
            size=file.size,
            relation=parse_relation_name(file.path.rpartition("/")[2]),
        )
        return list(_with_rest(changes.to_read(listed, blocks=blocks), first=there, end=blocks))


@contextmanager
def clones_of(reader: SnapshotReader, base: CloneBase) -> Iterator[Clones]:
    """What a base has of a snapshot, for the length of the block.

    Raises SummariesUnusable for every reason not to rely on it.
    """
    with ExitStack() as stack:
        with _doubting():
            session = stack.enter_context(connect(base.cluster))
            clones = Clones(reader, base, session)
        yield clones


@contextmanager
def _doubting() -> Iterator[None]:
    """Whatever is wrong with the base, it is a reason to fetch everything and none to fail."""
    try:
        yield
    except Cancelled:
        raise
    except StillframeError as error:
        raise SummariesUnusable(error.message) from error


def _require_sound(cluster: Cluster, session: Session) -> None:
    if cluster.arrival_note() is not None:
        raise SummariesUnusable("Files of these databases are still arriving themselves")
    (damaged,) = session.row(_DAMAGE)
    if damaged:
        raise SummariesUnusable("The server has met damaged pages in these databases", Doubt.DAMAGED_PARENT)


def _point(row: Sequence[object]) -> BackupStart:
    """Of an LSN and the name of its WAL file, which begins with the timeline in eight hexadecimal digits."""
    lsn, file = map(str, row)
    return BackupStart(lsn=Lsn.parse(lsn), timeline=int(file[:8], 16))


def _clone(path: Path, descriptor: int) -> int:
    """The length of what was cloned, in bytes. Raises OSError, OperatorError."""
    source = os.open(path, _READING)
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode) or limit_of(source) is not None:
            raise OSError(errno.EINVAL, "No file that is all there")
        fcntl.ioctl(descriptor, _FICLONE, source)
    finally:
        os.close(source)
    return os.fstat(descriptor).st_size


def _with_rest(ranges: Iterable[BlockRange], *, first: int, end: int) -> Iterator[BlockRange]:
    """The ranges below page `first`, and everything from there to the end."""
    for found in ranges:
        if found.first < first:
            yield BlockRange(first=found.first, count=min(found.count, first - found.first))
    if first < end:
        yield BlockRange(first=first, count=end - first)

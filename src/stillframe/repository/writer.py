"""Writing one snapshot: directories, relation files page by page, other files, and the commit."""

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Protocol, Self

import msgspec

from stillframe.errors import InvalidRequest, StillframeError
from stillframe.repository.content import ContentWriter
from stillframe.repository.extents import leaf_count
from stillframe.repository.facts import SnapshotDocument, SnapshotFacts, SnapshotStatistics
from stillframe.repository.files import FileContent, FileDone, FileWriter, PageCount
from stillframe.repository.format import ContentKind
from stillframe.repository.nodes import DirectoryRecord, FileRecord
from stillframe.repository.paths import checked_path, split
from stillframe.repository.places import Places
from stillframe.repository.relations import LeafLayout, RelationWriter
from stillframe.repository.tree import FileEntry, Tree, file_entry
from stillframe.repository.trie import NameMapEditor, NodeSource


class _Nodes:
    """Nodes of the parent and of stored snapshots to read, and the new snapshot's to store."""

    def __init__(self, reader: NodeSource, content: ContentWriter) -> None:
        self.load = reader.load
        self.save = content.save


@dataclass(slots=True)
class _Directory:
    """A directory that is being described: what it begins with, and what differs from that."""

    base: DirectoryRecord
    changes: dict[str, FileRecord | None] = field(default_factory=dict)


class Commit(Protocol):
    """What makes a document of a finished tree, and a snapshot of it if that is to be seen; given by the repository."""

    def __call__(
        self, facts: SnapshotFacts, statistics: SnapshotStatistics, root: bytes | None, *, visible: bool
    ) -> SnapshotDocument: ...


class End(Protocol):
    """What ends a writer's session; given by the repository."""

    def __call__(self, *, committed: bool) -> None: ...


class SnapshotWriter:
    """A snapshot in the making. Files may be written by several threads at once, each file's `close` by one.

    Nothing of it is visible before `commit` returns. As a context manager it aborts when it is left without a
    commit.
    """

    def __init__(
        self,
        *,
        content: ContentWriter,
        reader: NodeSource,
        parent: Tree | None,
        parent_document: SnapshotDocument | None,
        commit: Commit,
        end: End,
    ) -> None:
        self._content = content
        self._nodes = _Nodes(reader, content)
        self._parent = parent
        self._parent_document = parent_document
        self._commit = commit
        self._end = end
        self._lock = threading.Lock()
        self._directories: dict[str, _Directory] = {}
        self._being_written: set[str] = set()
        self._pages = PageCount()
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ended:
            return
        if error is None:
            self.abort()
            return
        try:
            self.abort()
        except StillframeError as second:
            error.add_note(f"What was stored could not be removed, and is left for a sweep: {second}")

    @property
    def parent(self) -> SnapshotDocument | None:
        """What the parent snapshot said of itself when it was made, or None when there is no parent."""
        return self._parent_document

    def parent_file(self, path: str) -> FileEntry | None:
        """A file of the parent, or None when it has no such file or there is no parent."""
        return None if self._parent is None else self._parent.file(path)

    def parent_file_count(self, directory: str) -> int | None:
        """How many files the parent has in a directory; None when it has no such directory."""
        record = self._parent.directory(directory) if self._parent is not None else None
        return None if record is None else record.count

    def parent_files(self, directory: str) -> dict[str, FileEntry] | None:
        """The parent's files in a directory, by name without the directory; None when it has no such directory.

        Costs in proportion to the files there.
        """
        record = self._parent.directory(directory) if self._parent is not None else None
        if self._parent is None or record is None:
            return None
        return {
            file.name: file_entry(directory, file) for file in self._parent.file_map.records(record.files)
        }

    def parent_places(self, path: str, leaf: int) -> Places | None:
        """Where the parent has the pages of a leaf of a relation file, as far as it has them; None for none.

        Raises what reading the page table raises.
        """
        entry = self.parent_file(path)
        if self._parent is None or entry is None or leaf >= leaf_count(entry.blocks):
            return None
        return self._parent.places(entry.record, leaf)

    def directory_sizes(self) -> dict[str, int]:
        """The bytes of the files in each directory so far, without those in directories below."""
        with self._lock:
            directories = dict(self._directories)
        return {path: self._totals(directory)[1] for path, directory in directories.items()}

    def add_directory(self, path: str, *, mode: int) -> None:
        """A directory, "" for the data directory itself, with these permission bits.

        Raises InvalidRequest for a path that is unsafe or was added before.
        """
        self._add(DirectoryRecord(checked_path(path), mode & 0o7777, None, 0, 0))

    def inherit_directory(self, path: str, *, mode: int | None = None) -> None:
        """A directory with every file the parent has there; files may then be written over or removed.

        Costs nothing in proportion to the files. Raises InvalidRequest when the parent has no such directory.
        """
        record = self._parent.directory(path) if self._parent is not None else None
        if record is None:
            raise InvalidRequest(f"The parent snapshot has no directory {path!r}.")
        self._add(msgspec.structs.replace(record, mode=record.mode if mode is None else mode & 0o7777))

    def remove(self, path: str) -> None:
        """Leave out a file that `inherit_directory` brought in."""
        with self._lock:
            self._directory_of(path).changes[split(path)[1]] = None

    def relation(self, path: str, *, mode: int, blocks: int) -> RelationWriter:
        """Begin a relation file of this many pages; see `RelationWriter`."""
        parent = self.parent_file(path)
        inherited = parent.record if parent is not None and parent.is_relation else None
        layout = LeafLayout(self._nodes, self._parent, inherited)
        return RelationWriter(self._nodes, layout, blocks=blocks, done=self._begin(path, mode=mode))

    def file(self, path: str, *, mode: int) -> FileWriter:
        """Begin any other file; see `FileWriter`."""
        return FileWriter(self._nodes, done=self._begin(path, mode=mode))

    def inherit_file(self, path: str) -> None:
        """The same file as in the parent, mode included, without reading it.

        Raises InvalidRequest when the parent has no such file.
        """
        entry = self.parent_file(path)
        if entry is None:
            raise InvalidRequest(f"The parent snapshot has no file {path!r}.")
        with self._lock:
            self._put(path, entry.record)

    def commit(self, facts: SnapshotFacts) -> SnapshotDocument:
        """Make it a snapshot: durable, complete and visible when this returns.

        Raises InvalidRequest when a file is still being written or a directory is missing, Conflict when the
        snapshot exists, what publishing raised, and StoreUnavailable when the outcome could not be learnt.
        """
        root, directories = self._build()
        self._content.finish()
        document = self._commit(facts, self._statistics(directories), root, visible=True)
        self._finish(committed=True)
        return document

    def begin_again(self, facts: SnapshotFacts) -> SnapshotDocument:
        """Take what was given so far for the parent, and begin with nothing: for a source that has changed meanwhile.

        `facts` are what the parent says of itself; returns its document, which is nowhere else. Nothing of it is
        visible or stays unless the snapshot that follows needs it. Raises as `commit`.
        """
        root, directories = self._build()
        self._content.flush()
        document = self._commit(facts, self._statistics(directories), root, visible=False)
        with self._lock:
            self._parent, self._parent_document = Tree(self._nodes, root), document
            self._directories = {}
        return document

    def abort(self) -> None:
        """Remove what has been stored so far. Does nothing after a commit or another abort."""
        if not self._ended:
            self._finish(committed=False)

    def _build(self) -> tuple[bytes | None, list[DirectoryRecord]]:
        """Store the maps of everything that was given; the id of the root, and the directories."""
        with self._lock:
            self._require_open()
            if self._being_written:
                raise InvalidRequest(f"{min(self._being_written)!r} is still being written.")
        editor = NameMapEditor[FileRecord](self._nodes, ContentKind.FILE_MAP)
        directories = [self._stored(directory, editor) for directory in self._directories.values()]
        root = NameMapEditor[DirectoryRecord](self._nodes, ContentKind.DIRECTORY_MAP).build(directories)
        return root, directories

    def _add(self, record: DirectoryRecord) -> None:
        with self._lock:
            self._require_open()
            if record.name in self._directories:
                raise InvalidRequest(f"The directory {record.name!r} was added twice.")
            self._directories[record.name] = _Directory(record)

    def _begin(self, path: str, *, mode: int) -> FileDone:
        """Note that a file is being written; the result notes that it is complete."""
        with self._lock:
            self._directory_of(path)
            if path in self._being_written:
                raise InvalidRequest(f"{path!r} is being written already.")
            self._being_written.add(path)

        def done(content: FileContent, pages: PageCount) -> None:
            record = FileRecord(
                split(path)[1], content.kind, mode & 0o7777, content.size, content.ref, content.inline
            )
            with self._lock:
                self._being_written.discard(path)
                self._put(path, record)
                self._pages = self._pages + pages

        return done

    def _put(self, path: str, record: FileRecord) -> None:
        changes = self._directory_of(path).changes
        if changes.get(record.name) is not None:
            raise InvalidRequest(f"The file {path!r} was given twice.")
        changes[record.name] = record

    def _directory_of(self, path: str) -> _Directory:
        self._require_open()
        directory = self._directories.get(split(checked_path(path))[0])
        if directory is None:
            raise InvalidRequest(f"The directory of {path!r} has not been added.")
        return directory

    def _stored(self, directory: _Directory, editor: NameMapEditor[FileRecord]) -> DirectoryRecord:
        """Store a directory's file map."""
        base = directory.base
        count, size = self._totals(directory)
        files = editor.edit(base.files, directory.changes)
        return DirectoryRecord(base.name, base.mode, files, count, size)

    def _totals(self, directory: _Directory) -> tuple[int, int]:
        """Files, and their bytes: what follows from the parent's and the changes."""
        base = directory.base
        count, size = base.count, base.size
        for name, new in directory.changes.items():
            for record, sign in ((self._inherited(base, name), -1), (new, 1)):
                count += sign * (record is not None)
                size += sign * (record.size if record is not None else 0)
        return count, size

    def _inherited(self, base: DirectoryRecord, name: str) -> FileRecord | None:
        """A file of the parent that the directory began with."""
        if self._parent is None or base.files is None:
            return None
        return self._parent.file_map.find(base.files, name)

    def _statistics(self, directories: Sequence[DirectoryRecord]) -> SnapshotStatistics:
        return SnapshotStatistics(
            logical_bytes=sum(directory.size for directory in directories),
            files=sum(directory.count for directory in directories),
            directories=len(directories),
            pages=self._pages.given,
            zero_pages=self._pages.zero,
            **asdict(self._content.counters),
        )

    def _require_open(self) -> None:
        if self._ended:
            raise InvalidRequest("The snapshot writer has ended.")

    def _finish(self, *, committed: bool) -> None:
        self._ended = True
        self._end(committed=committed)

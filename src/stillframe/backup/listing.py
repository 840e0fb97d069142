"""Finding what has to be copied: all of a data directory, or what may differ from the parent snapshot."""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stillframe.backup.changes import SinceParent
from stillframe.errors import InternalError
from stillframe.postgres.control import CONTROL_FILE
from stillframe.postgres.files import (
    Entry,
    FolderStamp,
    Fork,
    FoundFolder,
    KnownFolder,
    ListedDirectory,
    ListedFile,
    Listing,
    Recall,
    SortedNames,
    chosen_files,
    is_relation_folder,
    scan_folders,
    sorted_names,
    worth_knowing,
)
from stillframe.postgres.pages import PAGE_SIZE
from stillframe.repository import FileEntry, SnapshotWriter
from stillframe.system import translating_os_errors

_START_TIME = re.compile(r"^START TIME: ([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}) UTC$", re.M)
_CLOCK_MARGIN = timedelta(seconds=10)
_FEW = 200
_ONE_IN = 20
"""Up to so many files that WAL names, or one in so many, are cheaper to ask for than all names to compare."""


def list_changes(
    root: Path, writer: SnapshotWriter, changes: SinceParent, *, known: Mapping[str, KnownFolder] | None
) -> Listing:
    """What of a data directory has to be copied; everything else has been given to the writer as inherited.

    Directories are read, unless they are as `known` from the parent's own listing; only files that may differ
    from the parent's are looked at. Files that are gone are left out of the snapshot. Raises as
    `list_data_directory`.

    `known` is None when the server may have recovered from a crash since the parent. A crash takes WAL along that
    was not written yet, and leaves what it was about to explain: files that are longer. So all lengths are compared.
    """
    begun = time.time_ns()
    directories: list[ListedDirectory] = []
    files: list[ListedFile] = []
    seen: dict[str, KnownFolder] = {}
    with translating_os_errors("listing the data directory"):
        for found in scan_folders(root, _recalling(known or {}, writer, changes)):
            directories.append(found.directory)
            folder = _Folder(root, found, writer, changes, all_lengths=known is None)
            files.extend(folder.entered())
            seen |= worth_knowing(found, folder.names, before=begun)
    return Listing(directories=tuple(directories), files=tuple(files), known=seen)


def _recalling(known: Mapping[str, KnownFolder], writer: SnapshotWriter, changes: SinceParent) -> Recall:
    """What is known of a directory, when it is the same and WAL names few of its files."""

    def recall(path: str, stamp: FolderStamp) -> KnownFolder | None:
        found = known.get(path)
        if found is None or found.stamp != stamp or changes.nothing_inherited(path):
            return None
        count = writer.parent_file_count(path)
        if count is None or not _few(len(changes.touched_relations(path)) * len(Fork), of=count):
            return None
        return found

    return recall


def _few(names: int, *, of: int) -> bool:
    """Whether so many names are cheaper asked for one by one than all names of a directory compared."""
    return names <= max(of // _ONE_IN, _FEW)


class _Named:
    """A file that is known by its name."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.name = name

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        path = f"{self._folder}/{self.name}"
        return os.stat(path, follow_symlinks=follow_symlinks)  # noqa: PTH116 - a Path each would cost more


@dataclass(frozen=True, slots=True, kw_only=True)
class _Differences:
    """How the names in a directory differ from the parent's, and which of them are to be looked at."""

    removed: set[str]
    wanted: set[str]
    new: set[str]
    find: Callable[[str], FileEntry | None]
    """A file of the parent by its name."""


class _Folder:
    """One directory on its way into the snapshot."""

    def __init__(
        self,
        root: Path,
        found: FoundFolder,
        writer: SnapshotWriter,
        changes: SinceParent,
        *,
        all_lengths: bool,
    ) -> None:
        self._root = root
        self._all_lengths = all_lengths
        self._folder = found.directory
        self._known = found.known
        self._present: dict[str, Entry] = {entry.name: entry for entry in found.entries}
        self._writer = writer
        self._changes = changes
        self.names: SortedNames | None = None
        """Once they have been sorted."""

    def entered(self) -> Iterator[ListedFile]:
        """Describe the directory to the writer; the files that have to be copied."""
        path = self._folder.path
        if not self._inheritable():
            self._writer.add_directory(path, mode=self._folder.mode)
            return chosen_files(path, self._present.values())
        self._writer.inherit_directory(path, mode=self._folder.mode)
        if self._known is not None:
            return self._unchanged(self._known)
        touched = self._touched()
        differences = None if self._all_lengths else self._as_wal_says(touched)
        differences = differences or self._compared(touched)
        for name in differences.removed:
            self._remove(name)
        return self._differing(differences, touched)

    def _unchanged(self, known: KnownFolder) -> Iterator[ListedFile]:
        """The files to be copied of a directory that has the names that the parent's listing found in it.

        The parent has all of them that belong into a copy, so it tells the segments and forks there are.
        """
        touched = {name for base in self._touched_bases() for name in self._in_parent(base)}
        folder = self._root / self._folder.path
        self._present = {name: _Named(folder, name) for name in {*touched, *known.plain, *known.maps}}
        maps = {name for name in known.maps if name not in touched and not self._untouched(name)}
        wanted = touched | maps | set(known.plain)
        return self._differing(
            _Differences(removed=set(), wanted=wanted, new=set(), find=self._find), touched
        )

    def _inheritable(self) -> bool:
        """Whether files of this directory may be taken over from the parent unread."""
        path = self._folder.path
        if not is_relation_folder(path) or self._changes.nothing_inherited(path):
            return False
        return self._writer.parent_file_count(path) is not None

    def _as_wal_says(self, touched: set[str]) -> _Differences | None:
        """The differences that WAL names; None if they do not explain how many files there are now.

        Relations are not made or dropped without WAL. What can appear without it is a map, which changes the
        count; nothing can vanish without it. So names need not be compared, which saves reading the parent's: it
        would be most of the time with 100,000 relations.
        """
        count = self._writer.parent_file_count(self._folder.path)
        assert count is not None
        if not _few(len(touched), of=count):
            return None
        known = {name for base in touched if "." not in base for name in self._in_parent(base)}
        names = self.names = sorted_names(self._folder.path, self._present.keys())
        here = names.copied
        new, removed = (touched & here) - known, known - self._present.keys()
        # pg_control is in the parent, but comes last in every copy.
        apart = CONTROL_FILE.startswith(f"{self._folder.path}/")
        if len(here) + apart != count + len(new) - len(removed):
            return None
        maps = {name for name in names.maps - touched if not self._untouched(name)}
        wanted = (touched & self._present.keys()) | names.plain | maps
        return _Differences(removed=removed, wanted=wanted, new=new, find=self._find)

    def _compared(self, touched: set[str]) -> _Differences:
        """The differences by comparing every name with the parent's."""
        parent = self._writer.parent_files(self._folder.path) or {}
        # Files without pages may have changed at any time: nobody records that.
        plain = {name for name, entry in parent.items() if not entry.is_relation}
        maps = {name for name in self._present if "_fsm" in name}
        new = self._present.keys() - parent.keys()
        odd = (
            {name for name in parent if self._differs_in_length(name, parent)} if self._all_lengths else set()
        )
        return _Differences(
            removed=parent.keys() - self._present.keys(),
            wanted=(touched | plain | maps | new | odd) & self._present.keys(),
            new=new,
            find=parent.get,
        )

    def _differs_in_length(self, name: str, parent: Mapping[str, FileEntry]) -> bool:
        try:
            return name in self._present and (
                self._present[name].stat(follow_symlinks=False).st_size != parent[name].size
            )
        except FileNotFoundError:
            # Gone since the directory was read: whoever looks at it next finds that out.
            return True

    def _in_parent(self, base: str) -> Iterator[str]:
        """A fork's files in the parent: its first segment and those that follow it."""
        name, segment = base, 0
        while self._find(name) is not None:
            yield name
            segment += 1
            name = f"{base}.{segment}"

    def _find(self, name: str) -> FileEntry | None:
        return self._writer.parent_file(f"{self._folder.path}/{name}")

    def _differing(self, differences: _Differences, touched: set[str]) -> Iterator[ListedFile]:
        wanted = differences.wanted | self._of_new_init_forks(differences.new)
        missing = set(wanted)
        asked = (entry for name, entry in self._present.items() if name in wanted or "_init" in name)
        for file in chosen_files(self._folder.path, asked):
            name = file.path.rpartition("/")[2]
            if name not in wanted:
                continue
            missing.discard(name)
            if not self._same(file, differences.find(name), touched=touched):
                yield file
        # Of an unlogged relation now, or gone since the directory was read.
        for name in missing:
            if differences.find(name) is not None:
                self._remove(name)

    def _touched(self) -> set[str]:
        """Files of the relations that WAL names, with all their forks, and all segments there are now.

        Also forks that WAL does not name: a map may have grown by empty pages, which is not logged.
        """
        return {name for base in self._touched_bases() for name in (base, *self._further_segments(base))}

    def _touched_bases(self) -> Iterator[str]:
        for number in self._changes.touched_relations(self._folder.path):
            yield str(number)
            yield from (f"{number}_{fork}" for fork in Fork if fork)

    def _further_segments(self, base: str) -> Iterator[str]:
        segment = 1
        while (name := f"{base}.{segment}") in self._present:
            yield name
            segment += 1

    def _of_new_init_forks(self, new: Iterable[str]) -> set[str]:
        """The other files of relations that the parent may know as logged ones."""
        numbers = {name.partition("_")[0] for name in new if "_init" in name}
        return {name for name in self._present if re.split("[_.]", name)[0] in numbers} if numbers else set()

    def _same(self, file: ListedFile, parent: FileEntry | None, *, touched: set[str]) -> bool:
        """Whether a file that was looked at turns out to be the parent's."""
        if parent is None or not parent.is_relation or file.relation is None:
            return False
        if file.size != parent.size or file.mode != parent.mode:
            return False
        name = file.path.rpartition("/")[2]
        if file.relation.fork is Fork.FREE_SPACE:
            return name not in touched and self._untouched(name)
        return not tuple(self._changes.to_read(file, blocks=file.size // PAGE_SIZE))

    def _untouched(self, name: str) -> bool:
        """Whether a file was last written before the parent was begun.

        The parent read it later than that, so it has the same bytes. Both times are of the machine's clock, and
        PostgreSQL told the parent its own; the margin is for the clock's coarse steps. A clock that was set back
        by more than all the time since the parent could deceive us, which is why this is asked only about maps of
        free space: PostgreSQL takes what they say for a hint, does not log them, and repairs them as it goes.
        """
        begun = _begun(self._writer)
        try:
            found = self._present[name].stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        last = max(found.st_mtime, found.st_ctime)
        return begun is not None and last < (begun - _CLOCK_MARGIN).timestamp()

    def _remove(self, name: str) -> None:
        path = self._folder.path
        self._writer.remove(f"{path}/{name}" if path else name)


def _begun(writer: SnapshotWriter) -> datetime | None:
    """When the server says that the parent's copy began, if it says so in UTC."""
    if writer.parent is None:
        raise InternalError("Changes are listed, but there is no parent")
    match = _START_TIME.search(writer.parent.facts.backup_label)
    return datetime.fromisoformat(match[1]).replace(tzinfo=UTC) if match is not None else None

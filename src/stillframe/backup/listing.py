"""Finding what has to be copied: all of a data directory, or what may differ from the parent snapshot."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stillframe.backup.changes import SinceParent
from stillframe.errors import InternalError
from stillframe.postgres.files import (
    ListedDirectory,
    ListedFile,
    Listing,
    chosen_files,
    is_relation_folder,
    scan_folders,
)
from stillframe.postgres.osfiles import translating_os_errors
from stillframe.postgres.pages import PAGE_SIZE
from stillframe.repository import FileEntry, SnapshotWriter

_START_TIME = re.compile(r"^START TIME: ([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}) UTC$", re.M)
_CLOCK_MARGIN = timedelta(seconds=10)


def list_changes(root: Path, writer: SnapshotWriter, changes: SinceParent) -> Listing:
    """What of a data directory has to be copied; everything else has been given to the writer as inherited.

    Directories are read, but only files that may differ from the parent's are looked at. Files that are gone
    are left out of the snapshot. Raises as `list_data_directory`.
    """
    directories: list[ListedDirectory] = []
    files: list[ListedFile] = []
    with translating_os_errors("listing the data directory"):
        for folder, entries in scan_folders(root):
            directories.append(folder)
            files.extend(_Folder(folder, entries, writer, changes).entered())
    return Listing(directories=tuple(directories), files=tuple(files))


class _Folder:
    """One directory on its way into the snapshot."""

    def __init__(
        self,
        folder: ListedDirectory,
        entries: Iterable[os.DirEntry[str]],
        writer: SnapshotWriter,
        changes: SinceParent,
    ) -> None:
        self._folder = folder
        self._present = {entry.name: entry for entry in entries}
        self._writer = writer
        self._changes = changes

    def entered(self) -> Iterator[ListedFile]:
        """Describe the directory to the writer; the files that have to be copied."""
        parent = self._inheritable()
        if parent is None:
            self._writer.add_directory(self._folder.path, mode=self._folder.mode)
            yield from chosen_files(self._folder.path, self._present.values())
            return
        self._writer.inherit_directory(self._folder.path, mode=self._folder.mode)
        for name in parent.keys() - self._present.keys():
            self._remove(name)
        yield from self._differing(parent)

    def _inheritable(self) -> Mapping[str, FileEntry] | None:
        """The parent's files, if those of this directory may be taken over unread."""
        path = self._folder.path
        if not is_relation_folder(path) or self._changes.nothing_inherited(path):
            return None
        return self._writer.parent_files(path)

    def _differing(self, parent: Mapping[str, FileEntry]) -> Iterator[ListedFile]:
        touched = self._touched()
        wanted = touched | self._new_or_plain(parent) | self._free_space_maps()
        wanted |= self._of_new_init_forks(wanted - parent.keys())
        asked = (entry for name, entry in self._present.items() if name in wanted or "_init" in name)
        for file in chosen_files(self._folder.path, asked):
            name = file.path.rpartition("/")[2]
            if name not in wanted:
                continue
            wanted.discard(name)
            if not self._same(file, parent.get(name), touched=touched):
                yield file
        # Of an unlogged relation now, or gone since the directory was read.
        for name in wanted & parent.keys():
            self._remove(name)

    def _touched(self) -> set[str]:
        """Files of the relations that WAL names, with all their segments and forks."""
        names: set[str] = set()
        for relation in self._changes.touched_forks(self._folder.path):
            base = f"{relation.number}_{relation.fork}" if relation.fork else str(relation.number)
            names |= {base, f"{relation.number}_fsm"}
            segment = 1
            while f"{base}.{segment}" in self._present:
                names.add(f"{base}.{segment}")
                segment += 1
        return names

    def _new_or_plain(self, parent: Mapping[str, FileEntry]) -> set[str]:
        """Files that the parent does not have, and those without pages, whose changes nobody records."""
        plain = {name for name, entry in parent.items() if not entry.is_relation}
        return (self._present.keys() - parent.keys()) | plain

    def _free_space_maps(self) -> set[str]:
        return {name for name in self._present if "_fsm" in name}

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
        if "_fsm" in name:
            return name.partition(".")[0] not in touched and self._untouched(name)
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

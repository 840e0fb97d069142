"""What is in a data directory, and which of it belongs into a copy (rules 16-19, 22, 23, 28, 30, 36)."""

import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from stillframe.errors import Unsupported
from stillframe.postgres.control import CONTROL_FILE
from stillframe.system import translating_os_errors


class Fork(StrEnum):
    """The files of one relation; the value is the suffix of the name."""

    MAIN = ""
    FREE_SPACE = "fsm"
    VISIBILITY = "vm"
    INIT = "init"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationFile:
    """What the name of a relation file says: relation, fork and number of the segment."""

    number: int
    fork: Fork
    segment: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDirectory:
    """A directory, by its path relative to the data directory ("" is the data directory itself)."""

    path: str
    mode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """A file that belongs into a copy; `size` in bytes when listed, `relation` if it is one."""

    path: str
    mode: int
    size: int
    relation: RelationFile | None


class Entry(Protocol):
    """A name in a directory that can be looked at; `os.DirEntry` is one."""

    @property
    def name(self) -> str:
        """The last part of its path."""
        ...

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        """What it is now. Raises OSError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderStamp:
    """Which directory it is, and when a name was last put into it or taken out; times in nanoseconds."""

    device: int
    inode: int
    modified: int
    changed: int

    def older_than(self, moment: int) -> bool:
        """Whether the last change was long enough before `moment` that a later one has another time."""
        return max(self.modified, self.changed) < moment - _COARSEST_CLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFolder:
    """What was in a directory with relation files when it had this stamp.

    While it has it, the names in it are the same: every change of a name sets both times. Of all names only
    those are kept that have to be asked about whatever WAL says: files without pages, and maps of free space.
    """

    stamp: FolderStamp
    subfolders: tuple[str, ...]
    plain: tuple[str, ...]
    maps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFolder:
    """A directory as a walk finds it; `entries` are its regular files.

    With `known` its names are as that says, and were not read: there are no `entries` then.
    """

    directory: ListedDirectory
    stamp: FolderStamp
    subfolders: tuple[str, ...]
    entries: "list[os.DirEntry[str]]"
    known: KnownFolder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Everything a copy consists of, but pg_control, which comes last, and WAL.

    `known` are the directories whose names need not be read again while their stamps stay.
    """

    directories: tuple[ListedDirectory, ...]
    files: tuple[ListedFile, ...]
    known: Mapping[str, KnownFolder] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedNames:
    """The names of a directory's files that belong into a copy; among them the files without pages, and the maps
    of free space.
    """

    copied: set[str]
    plain: set[str]
    maps: set[str]


Recall = Callable[[str, FolderStamp], KnownFolder | None]
"""What is known of a directory that has this stamp now, if that may be relied on."""


_RELATION = re.compile(
    r"(?P<number>[1-9][0-9]{0,9})(?:_(?P<fork>fsm|vm|init))?(?:\.(?P<segment>[1-9][0-9]{0,9}))?"
)
_TEMPORARY = re.compile(r"t[0-9]+_[0-9]+(?:_(?:fsm|vm|init))?(?:\.[0-9]+)?")
_RELATION_FOLDER = re.compile(r"global|base/[0-9]+|pg_tblspc/[0-9]+/PG_[^/]+/[0-9]+")
_OURS_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{12}\.tmp")
_FORK_NAMES = frozenset({"fsm", "vm", "init"})
_LARGEST_NUMBER = 2**32 - 1
_COARSEST_CLOCK = 2_000_000_000
"""No file system of Linux keeps coarser times than two seconds: of a change as recent as that, the next one may
have the same time."""
_MOST_MAPS_KNOWN = 100_000
"""Names kept of one directory: some ten megabytes."""

_EMPTIED_FOLDERS = frozenset(
    {
        "pg_stat_tmp",
        "pg_replslot",
        "pg_dynshmem",
        "pg_notify",
        "pg_serial",
        "pg_snapshots",
        "pg_subtrans",
        "pg_wal/archive_status",
        "pg_wal/summaries",
    }
)
_SKIPPED_NAMES = frozenset(
    {
        "postgresql.auto.conf.tmp",
        "current_logfiles",
        "current_logfiles.tmp",
        "backup_label",
        "backup_label.old",
        "tablespace_map",
        "tablespace_map.old",
        "backup_manifest",
        "postmaster.pid",
        "postmaster.opts",
        "recovery.signal",
        "standby.signal",
        "promote",
        # Ours: a copy of a half-arrived directory is whole.
        "stillframe.arriving",
    }
)
_SKIPPED_PREFIXES = ("pg_internal.init", "pgsql_tmp")


def parse_relation_name(name: str) -> RelationFile | None:
    """The parts of a relation's file name, or None when it is no such name.

    PostgreSQL: parse_filename_for_nontemp_relation(); numbers have no leading zeros, segment 0 has no suffix.
    """
    match = _RELATION.fullmatch(name)
    if (
        match is None
        or int(match["number"]) > _LARGEST_NUMBER
        or int(match["segment"] or 0) > _LARGEST_NUMBER
    ):
        return None
    return RelationFile(
        number=int(match["number"]),
        fork=Fork(match["fork"] or ""),
        segment=int(match["segment"] or 0),
    )


def is_relation_folder(path: str) -> bool:
    """Whether relation files live in this directory (relative to the data directory)."""
    return _RELATION_FOLDER.fullmatch(path) is not None


def is_temporary_relation(name: str) -> bool:
    """Whether a file belongs to a temporary table (PostgreSQL: looks_like_temp_rel_name())."""
    return _TEMPORARY.fullmatch(name) is not None


def list_data_directory(root: Path) -> Listing:
    """What a copy of this data directory consists of; the server may run meanwhile.

    What vanishes while we look is left out: WAL knows why. Raises Unsupported for a tablespace elsewhere or
    another symbolic link, PermissionMissing or OperatorError when something cannot be read.
    """
    begun = time.time_ns()
    directories: list[ListedDirectory] = []
    files: list[ListedFile] = []
    known: dict[str, KnownFolder] = {}
    with translating_os_errors("listing the data directory"):
        for folder in scan_folders(root):
            directories.append(folder.directory)
            files.extend(chosen_files(folder.directory.path, folder.entries))
            known |= worth_knowing(folder, before=begun)
    return Listing(
        directories=tuple(sorted(directories, key=lambda found: found.path)),
        files=tuple(sorted(files, key=lambda found: found.path)),
        known=known,
    )


def _nothing(path: str, stamp: FolderStamp) -> KnownFolder | None:
    del path, stamp
    return None


def scan_folders(root: Path, recall: Recall = _nothing) -> Iterator[FoundFolder]:
    """Every directory of a copy with the regular files in it, parents before children; no file is looked at.

    Names that `recall` knows are not read. Raises Unsupported as `list_data_directory`, and OSError.
    """
    pending = [""]
    while pending:
        path = pending.pop()
        try:
            # Before its names are read: what changes while they are gives it another stamp.
            found = (root / path).stat()
            stamp = _stamp(found)
            known = recall(path, stamp)
            entries = _scanned(root / path) if known is None else []
        except FileNotFoundError:
            continue
        subfolders, files = _divided(path, entries) if known is None else (known.subfolders, [])
        pending.extend(subfolders)
        yield FoundFolder(
            directory=ListedDirectory(path=path, mode=stat.S_IMODE(found.st_mode)),
            stamp=stamp,
            subfolders=tuple(subfolders),
            entries=files,
            known=known,
        )


def worth_knowing(
    folder: FoundFolder, names: SortedNames | None = None, *, before: int
) -> dict[str, KnownFolder]:
    """What to keep of a directory for the next walk, by its path; empty if it changed around `before` or later.

    `names` are those of its entries, if they were sorted already; `before` is a moment before the walk, in
    nanoseconds since 1970.
    """
    path = folder.directory.path
    if folder.known is not None:
        return {path: folder.known}
    if not is_relation_folder(path) or not folder.stamp.older_than(before):
        return {}
    names = names or sorted_names(path, {entry.name for entry in folder.entries})
    if len(names.maps) > _MOST_MAPS_KNOWN:
        return {}
    known = KnownFolder(
        stamp=folder.stamp,
        subfolders=folder.subfolders,
        plain=tuple(names.plain),
        maps=tuple(names.maps),
    )
    return {path: known}


def _stamp(found: os.stat_result) -> FolderStamp:
    return FolderStamp(
        device=found.st_dev, inode=found.st_ino, modified=found.st_mtime_ns, changed=found.st_ctime_ns
    )


def _scanned(directory: Path) -> "list[os.DirEntry[str]]":
    with os.scandir(directory) as scan:
        return list(scan)


def _divided(path: str, entries: list[os.DirEntry[str]]) -> tuple[list[str], list[os.DirEntry[str]]]:
    if path in _EMPTIED_FOLDERS:
        return [], []
    folders: list[str] = []
    files: list[os.DirEntry[str]] = []
    for entry in entries:
        # Files first: there may be hundreds of thousands.
        if entry.is_file(follow_symlinks=False):
            files.append(entry)
            continue
        child = f"{path}/{entry.name}" if path else entry.name
        if entry.is_symlink() and child != "pg_wal":
            _refuse_link(child)
        elif entry.is_dir() and not entry.name.startswith("pgsql_tmp"):
            folders.append(child)
    return folders, [] if path == "pg_wal" else files


def _refuse_link(path: str) -> None:
    if path.startswith("pg_tblspc/"):
        raise Unsupported(
            f"The tablespace {path.removeprefix('pg_tblspc/')} lies outside of the data directory",
            hint="Only in-place tablespaces (LOCATION '') can be in a snapshot: drop this one first.",
        )
    raise Unsupported(f"{path} in the data directory is a symbolic link, which a snapshot cannot contain")


def chosen_files(folder: str, entries: Iterable[Entry]) -> Iterator[ListedFile]:
    """Those of a directory's files that belong into a copy, with what they are at this moment.

    Give all files of the relations that are asked about: which relations are unlogged is seen by their init
    forks. Raises OSError.
    """
    entries = list(entries)
    relations = (
        {entry.name: parse_relation_name(entry.name) for entry in entries}
        if is_relation_folder(folder)
        else {}
    )
    unlogged = {found.number for found in relations.values() if found is not None and found.fork is Fork.INIT}
    for entry in entries:
        relation = relations.get(entry.name)
        if relation is None and _skipped(folder, entry.name):
            continue
        if relation is not None and relation.number in unlogged and relation.fork is not Fork.INIT:
            continue
        listed = _listed(folder, entry, relation)
        if listed is not None:
            yield listed


def sorted_names(folder: str, names: Collection[str]) -> SortedNames:
    """Those of all names of files in a directory with relation files that belong into a copy.

    As `chosen_files` has it, but it costs a tenth of a microsecond for most names, in directories with hundreds of
    thousands.
    """
    numbers = set(filter(_is_small_number, names))
    others = set(names) - numbers
    inits = {name: parse_relation_name(name) for name in others if "_init" in name}
    unlogged = {str(found.number) for found in inits.values() if found is not None}
    kept = {
        name
        for name in others
        # Nothing that is skipped begins with a digit.
        if (_of_logged(name, unlogged) if name[0].isdecimal() else not _skipped(folder, name))
    }
    return SortedNames(
        copied=(numbers - unlogged) | kept,
        plain={name for name in kept if not _of_a_fork(name) and parse_relation_name(name) is None},
        maps={name for name in kept if "_fsm" in name},
    )


def _of_a_fork(name: str) -> bool:
    """A quick answer for most names that are no numbers: the first segment of a map or an init fork."""
    number, _, fork = name.partition("_")
    return fork in _FORK_NAMES and _is_small_number(number)


def _is_small_number(text: str) -> bool:
    """Whether it is surely a number as PostgreSQL writes it; larger ones are looked at more closely."""
    return text.isdecimal() and len(text) < 10 and text[0] != "0" and text.isascii()


def _of_logged(name: str, unlogged: set[str]) -> bool:
    """Whether a file is none of an unlogged relation, or the one that recovery makes it from."""
    if not unlogged or name.partition(".")[0].partition("_")[0] not in unlogged:
        return True
    relation = parse_relation_name(name)
    return relation is None or relation.fork is Fork.INIT


def _skipped(folder: str, name: str) -> bool:
    return (
        name in _SKIPPED_NAMES
        or name.startswith(_SKIPPED_PREFIXES)
        or f"{folder}/{name}" == CONTROL_FILE
        or _OURS_UNFINISHED.fullmatch(name) is not None
        or (is_relation_folder(folder) and is_temporary_relation(name))
    )


def _listed(folder: str, entry: Entry, relation: RelationFile | None) -> ListedFile | None:
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    path = f"{folder}/{entry.name}" if folder else entry.name
    return ListedFile(path=path, mode=stat.S_IMODE(found.st_mode), size=found.st_size, relation=relation)

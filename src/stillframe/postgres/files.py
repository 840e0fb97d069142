"""What is in a data directory, and which of it belongs into a copy (rules 16-19, 22, 23, 28, 30, 36)."""

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from stillframe.errors import Unsupported
from stillframe.postgres.control import CONTROL_FILE
from stillframe.postgres.osfiles import translating_os_errors


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Everything a copy consists of, but pg_control, which comes last, and WAL."""

    directories: tuple[ListedDirectory, ...]
    files: tuple[ListedFile, ...]


_RELATION = re.compile(
    r"(?P<number>[1-9][0-9]{0,9})(?:_(?P<fork>fsm|vm|init))?(?:\.(?P<segment>[1-9][0-9]{0,9}))?"
)
_TEMPORARY = re.compile(r"t[0-9]+_[0-9]+(?:_(?:fsm|vm|init))?(?:\.[0-9]+)?")
_RELATION_FOLDER = re.compile(r"global|base/[0-9]+|pg_tblspc/[0-9]+/PG_[^/]+/[0-9]+")
_OURS_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{12}\.tmp")
_LARGEST_NUMBER = 2**32 - 1

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
    directories: list[ListedDirectory] = []
    files: list[ListedFile] = []
    with translating_os_errors("listing the data directory"):
        for folder, entries in scan_folders(root):
            directories.append(folder)
            files.extend(chosen_files(folder.path, entries))
    return Listing(
        directories=tuple(sorted(directories, key=lambda found: found.path)),
        files=tuple(sorted(files, key=lambda found: found.path)),
    )


def scan_folders(root: Path) -> Iterator[tuple[ListedDirectory, list[os.DirEntry[str]]]]:
    """Every directory of a copy with the regular files in it, parents before children; no file is looked at.

    Raises Unsupported as `list_data_directory`, and OSError.
    """
    pending = [""]
    while pending:
        path = pending.pop()
        try:
            mode = stat.S_IMODE((root / path).stat().st_mode)
            with os.scandir(root / path) as scan:
                entries = list(scan)
        except FileNotFoundError:
            continue
        subfolders, files = _divided(path, entries)
        pending.extend(subfolders)
        yield ListedDirectory(path=path, mode=mode), files


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


def chosen_files(folder: str, entries: Iterable[os.DirEntry[str]]) -> Iterator[ListedFile]:
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


def copied_names(folder: str, names: Collection[str]) -> set[str]:
    """Those of all names of files in a directory that belong into a copy, as `chosen_files` has it.

    Costs a fraction of a microsecond a name, for directories with hundreds of thousands.
    """
    inits = {name: parse_relation_name(name) for name in names if "_init" in name}
    unlogged = {str(found.number) for found in inits.values() if found is not None}
    return {
        name
        for name in names
        # Nothing that is skipped begins with a digit.
        if (_of_logged(name, unlogged) if name[0].isdecimal() else not _skipped(folder, name))
    }


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


def _listed(folder: str, entry: os.DirEntry[str], relation: RelationFile | None) -> ListedFile | None:
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    path = f"{folder}/{entry.name}" if folder else entry.name
    return ListedFile(path=path, mode=stat.S_IMODE(found.st_mode), size=found.st_size, relation=relation)

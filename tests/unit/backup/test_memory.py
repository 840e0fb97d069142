"""What is remembered of a data directory, and when it is believed."""

import os
import time
import uuid
from pathlib import Path

import pytest

from stillframe.backup.memory import ListingMemory, Moment
from stillframe.domain.identifiers import SnapshotId
from stillframe.postgres.files import (
    FolderStamp,
    KnownFolder,
    list_data_directory,
    scan_folders,
    worth_knowing,
)

pytestmark = pytest.mark.unit

STAMP = FolderStamp(device=1, inode=2, modified=3, changed=4)
KNOWN = {"base/5": KnownFolder(stamp=STAMP, subfolders=(), plain=("PG_VERSION",), maps=())}
LONG_AGO = 1_000_000_000
SECOND = 1_000_000_000


def snapshot(run: str = "7 since noon") -> Moment:
    return Moment(SnapshotId(uuid.uuid4()), run)


def folder_in(root: Path, *names: str) -> Path:
    """A database's directory with these files; it was changed a moment ago."""
    folder = root / "base" / "5"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_only_what_the_very_parent_found_is_remembered() -> None:
    memory, first, second = ListingMemory(), snapshot(), snapshot()
    memory.keep(Path("/data"), first, KNOWN)
    assert memory.recall(Path("/data"), first) == KNOWN
    assert memory.recall(Path("/other"), first) is None
    memory.keep(Path("/data"), second, {})
    assert memory.recall(Path("/data"), first) is None


def test_nothing_is_remembered_of_an_earlier_run_of_the_server() -> None:
    memory, taken = ListingMemory(), snapshot()
    memory.keep(Path("/data"), taken, KNOWN)
    assert memory.recall(Path("/data"), taken._replace(server_run="8 since noon")) is None


def test_the_directories_longest_unseen_are_forgotten() -> None:
    memory, taken = ListingMemory(most=2), snapshot()
    for name in ("one", "two", "one", "three"):
        memory.keep(Path(name), taken, KNOWN)
    assert [bool(memory.recall(Path(name), taken)) for name in ("one", "two", "three")] == [True, False, True]


def test_memory_is_bounded_by_the_names_in_it_too() -> None:
    memory, taken = ListingMemory(most_names=3), snapshot()
    for name in ("one", "two", "three", "four"):
        memory.keep(Path(name), taken, KNOWN)
    assert [bool(memory.recall(Path(name), taken)) for name in ("one", "two", "four")] == [False, True, True]


def test_a_directory_that_was_changed_a_moment_ago_is_not_remembered(tmp_path: Path) -> None:
    folder_in(tmp_path, "16384")
    assert list_data_directory(tmp_path).known == {}


def test_of_a_quiet_directory_only_the_names_are_kept_that_have_to_be_asked_about(tmp_path: Path) -> None:
    folder_in(
        tmp_path,
        *("PG_VERSION", "pg_internal.init", "16384", "16384_fsm", "16384_vm", "16384.1", "t3_16390"),
        *("16385", "16385_fsm", "16385_init"),
    )
    later = time.time_ns() + 3 * SECOND
    (found,) = (found for found in scan_folders(tmp_path) if found.directory.path == "base/5")
    known = worth_knowing(found, before=later)["base/5"]
    assert (set(known.plain), set(known.maps)) == ({"PG_VERSION"}, {"16384_fsm"})


@pytest.mark.parametrize("change", ["added", "removed", "renamed"])
def test_every_change_of_a_name_gives_another_stamp(tmp_path: Path, change: str) -> None:
    folder = folder_in(tmp_path, "16384", "16385")
    # As if it had been quiet for years: only the times count, and these nobody can set back.
    os.utime(folder, ns=(LONG_AGO, LONG_AGO))
    stamp = _stamp_of(tmp_path)
    assert stamp.modified == LONG_AGO
    # More than the steps of a clock.
    time.sleep(0.02)
    match change:
        case "added":
            (folder / "16386").touch()
        case "removed":
            (folder / "16384").unlink()
        case _:
            (folder / "16384").rename(folder / "16387")
    os.utime(folder, ns=(LONG_AGO, LONG_AGO))
    changed = _stamp_of(tmp_path)
    assert changed.modified == stamp.modified
    assert changed != stamp
    assert changed.changed > stamp.changed


def test_a_known_directory_is_not_read(tmp_path: Path) -> None:
    folder_in(tmp_path, "16384")
    stamp = _stamp_of(tmp_path)
    known = KnownFolder(stamp=stamp, subfolders=(), plain=(), maps=())
    asked: list[tuple[str, FolderStamp]] = []

    def recall(path: str, found: FolderStamp) -> KnownFolder | None:
        asked.append((path, found))
        return known if path == "base/5" else None

    found = {folder.directory.path: folder for folder in scan_folders(tmp_path, recall)}
    assert ("base/5", stamp) in asked
    assert found["base/5"].known is known
    assert found["base/5"].entries == []
    assert worth_knowing(found["base/5"], before=0) == {"base/5": known}


def _stamp_of(root: Path) -> FolderStamp:
    (found,) = (found for found in scan_folders(root) if found.directory.path == "base/5")
    return found.stamp

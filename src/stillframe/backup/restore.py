"""Bringing a snapshot back: its files into a new directory, then its first start (rules 31-39)."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stillframe.backup.changes import BlockRange
from stillframe.backup.local_clone import CloneBase, ClonePlan, clones_of
from stillframe.backup.parallel import Unit, beside, run_parallel
from stillframe.backup.progress import Progress
from stillframe.domain.cancel import CancelToken
from stillframe.errors import Conflict, StoredDataCorrupt, Unsupported
from stillframe.hydration import tag
from stillframe.hydration.filesystem import sync_file_system
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.control import CONTROL_FILE
from stillframe.postgres.identity import ServerIdentity
from stillframe.postgres.osfiles import publish, sync_directory, sync_tree
from stillframe.postgres.pages import PAGE_SIZE
from stillframe.postgres.recovery import RecoveryPlan, recover
from stillframe.postgres.settings import ServerSettings
from stillframe.repository import FetchGroup, FileEntry, SnapshotFacts, SnapshotReader
from stillframe.system import os_error, translating_os_errors

BACKUP_LABEL = "backup_label"
_DEFAULT_THREADS = 2
_PAGES_A_UNIT = 256

Prepare = Callable[[FileEntry, int], None]
"""Does something with a file that was just made, and its open descriptor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How a directory is announced whose files come later.

    `note` says how to go on after a crash (`Cluster.begin_arrival`). `prepare` is called once it is there, beside the
    making of files, and has returned before pg_control is there.
    """

    note: bytes
    prepare: Callable[[], None] = lambda: None


def restore(
    reader: SnapshotReader,
    target: Path,
    *,
    identity: ServerIdentity,
    progress: Progress,
    cancel: CancelToken,
    threads: int = _DEFAULT_THREADS,
) -> None:
    """Write a snapshot's files into `target`, a directory that is absent or empty, for `start_restored`.

    They are durable when this returns. pg_control comes last: until then no server starts there, so whatever
    interrupts a restore leaves only something to be removed. Raises Conflict when there is something in the
    directory, DiskFull, PermissionMissing, Cancelled, and what the reader raises for lost or damaged content.
    """
    progress.begin("layout")
    _require_empty(target)
    control, files = _listed(reader)
    _make_directories(reader, target, identity=identity)
    _make_files(files, target, identity=identity, cancel=cancel)
    progress.begin("copying")
    with _counted(progress, (control, *files)):
        run_parallel(_groups(reader, files, target, progress), threads=threads, cancel=cancel)
    progress.begin("syncing")
    _write_label(reader.document.facts, target, identity=identity)
    with translating_os_errors("making the restored files durable"):
        sync_tree(target)
        sync_directory(target.parent)
    _write_control(reader, control, target, identity=identity)


def lay_out(
    reader: SnapshotReader,
    target: Cluster,
    *,
    arrival: Arrival,
    progress: Progress,
    cancel: CancelToken,
    threads: int = _DEFAULT_THREADS,
) -> None:
    """Make the data directory of a snapshot without the pages of its relations, for a hydrator to bring them.

    Relation files are there with their final length and tagged as not arrived; all others are whole, pg_control
    last. From before that on the directory refuses to be started without its hydrator (`Cluster.begin_arrival`).
    Nothing is durable until the file system is synced, which has to be before the directory counts. Raises as
    `restore`, and what `arrival.prepare` raises.
    """
    progress.begin("layout")
    directory, identity = target.data_directory, target.identity
    _require_empty(directory)
    identity.make_directory(directory)
    target.announce_arrival(arrival.note)
    with beside(arrival.prepare) as prepared:
        control, files = _listed(reader)
        _make_directories(reader, directory, identity=identity)
        _make_files(files, directory, identity=identity, cancel=cancel, prepare=_tag_arriving)
        at_once = [file for file in files if not _arrives(file)]
        with _counted(progress, at_once):
            units = _groups(reader, at_once, directory, progress)
            run_parallel(units, threads=threads, cancel=cancel, polite=False)
        _write_label(reader.document.facts, directory, identity=identity, durable=False)
        target.begin_arrival(arrival.note, durable=False)
        prepared()
    _write_control(reader, control, directory, identity=identity, durable=False)


def restore_from_base(
    reader: SnapshotReader,
    target: Cluster,
    base: CloneBase,
    *,
    progress: Progress,
    cancel: CancelToken,
    threads: int = _DEFAULT_THREADS,
) -> int:
    """Write a snapshot's files as `restore` does, but clone what a running cluster on the same file system still has.

    Returns how many bytes of files were cloned and are as they were. Costs a clone for each file, and what has changed
    since the snapshot. Raises SummariesUnusable, with the directory as it was, unless it is certain what that is; else
    as `restore`.
    """
    progress.begin("layout")
    directory, identity = target.data_directory, target.identity
    _require_empty(directory)
    control, files = _listed(reader)
    with clones_of(reader, base) as clones, _emptied_again(directory):
        _make_directories(reader, directory, identity=identity)
        _make_files(files, directory, identity=identity, cancel=cancel, prepare=clones.clone)
        progress.begin("comparing")
        plan = clones.plan(files, cancel)
    progress.begin("copying")
    with _counted(progress, (control, *files)):
        _make_empty(plan.whole, directory)
        run_parallel(_groups(reader, plan.whole, directory, progress), threads=threads, cancel=cancel)
        run_parallel(_parts(plan, reader, directory, progress), threads=threads, cancel=cancel)
    progress.begin("syncing")
    _write_label(reader.document.facts, directory, identity=identity)
    sync_file_system(directory)
    _write_control(reader, control, directory, identity=identity)
    return plan.cloned_bytes


def _parts(plan: ClonePlan, reader: SnapshotReader, target: Path, progress: Progress) -> Iterator[Unit]:
    for file, found in plan.parts:
        for first in range(found.first, found.first + found.count, _PAGES_A_UNIT):
            count = min(_PAGES_A_UNIT, found.first + found.count - first)
            part = BlockRange(first=first, count=count)
            yield partial(_fill_part, reader, file, part, target=target, progress=progress)


def _fill_part(
    reader: SnapshotReader, file: FileEntry, part: BlockRange, *, target: Path, progress: Progress
) -> None:
    """Zeros included: here the file is no hole."""
    pages = reader.read_blocks(file, part.first, part.count)
    _write_at(target, file.path, memoryview(pages), offset=part.first * PAGE_SIZE)
    progress.advance(len(pages))


def _make_empty(files: Iterable[FileEntry], target: Path) -> None:
    """Holes again, which read as zeros."""
    for file in files:
        with translating_os_errors(f"creating {file.path}"):
            os.truncate(target / file.path, 0)
            os.truncate(target / file.path, file.size)


@contextmanager
def _emptied_again(directory: Path) -> Iterator[None]:
    """When the block fails, what it has put into the directory is removed."""
    try:
        yield
    except BaseException:
        with translating_os_errors("removing what was begun"):
            for entry in list(directory.iterdir()):
                if entry.is_dir():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        raise


def _tag_arriving(file: FileEntry, descriptor: int) -> None:
    """The holes of a relation file are no zeros, but wait to be filled."""
    if _arrives(file):
        tag(descriptor, file.size)


def _arrives(file: FileEntry) -> bool:
    """Whether a file's pages come later."""
    return file.is_relation and file.size > 0


def start_restored(
    cluster: Cluster,
    facts: SnapshotFacts,
    *,
    timeline: int,
    settings: ServerSettings,
    deadline: float = 3600,
    inherited: Sequence[int] = (),
) -> int:
    """Start a restored directory for the first time, on a timeline of its own; the server's pid.

    `timeline` must be new for the snapshot's system identifier, `inherited` is as in `Cluster.start`. When this
    returns the server has left recovery exactly at the snapshot's end. Raises Unsupported when the installation
    is of another major version, ServerUnavailable when it does not start, StoredDataCorrupt when something else
    came up.
    """
    _require_same_major(cluster, facts)
    plan = RecoveryPlan(
        system_identifier=facts.postgres.system_identifier,
        source_timeline=facts.timeline,
        timeline=timeline,
        stop_lsn=facts.stop_lsn,
    )
    return recover(cluster, settings, plan, deadline=deadline, inherited=inherited)


def _require_same_major(cluster: Cluster, facts: SnapshotFacts) -> None:
    wanted = facts.postgres.server_version_num // 10000
    if cluster.installation.major != wanted:
        raise Unsupported(
            f"The snapshot was taken from PostgreSQL {wanted}, and PostgreSQL {cluster.installation.build} is used",
            hint=f"Configure the bin directory of a PostgreSQL {wanted}.",
        )


def _require_empty(target: Path) -> None:
    with translating_os_errors("looking at the directory to restore into"):
        if target.exists() and any(target.iterdir()):
            raise Conflict(f"The directory {target} is not empty")


def _listed(reader: SnapshotReader) -> tuple[FileEntry, list[FileEntry]]:
    """pg_control, which comes last, and all other files."""
    files = list(reader.files())
    for file in files:
        if file.path == CONTROL_FILE:
            files.remove(file)
            return file, files
    raise StoredDataCorrupt("The snapshot has no pg_control")


def _make_directories(reader: SnapshotReader, target: Path, *, identity: ServerIdentity) -> None:
    for directory in reader.directories():
        # Deeper ones are made while their parents may still be written to by us.
        identity.make_directory(target / directory.path, mode=directory.mode)


def _make_files(
    files: Iterable[FileEntry],
    target: Path,
    *,
    identity: ServerIdentity,
    cancel: CancelToken,
    prepare: Prepare = lambda _file, _descriptor: None,
) -> None:
    """Every file with its final length; what is not written later stays a hole, which reads as zeros.

    Each is prepared while it is empty.
    """
    base = str(target)
    for file in files:
        cancel.raise_if_cancelled()
        with translating_os_errors(f"creating {file.path}"):
            _make_file(f"{base}/{file.path}", file, identity=identity, prepare=prepare)


def _make_file(path: str, file: FileEntry, *, identity: ServerIdentity, prepare: Prepare) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file.mode & 0o700)
    try:
        if identity.owner is not None:
            os.fchown(descriptor, *identity.owner)
        os.fchmod(descriptor, file.mode)
        prepare(file, descriptor)
        os.ftruncate(descriptor, file.size)
    finally:
        os.close(descriptor)


@contextmanager
def _counted(progress: Progress, files: Iterable[FileEntry]) -> Iterator[None]:
    """Progress over the bytes of these files, which the block fills."""
    size, before = sum(file.size for file in files), progress.current.done_bytes
    progress.expect(size)
    yield
    # Zeros were never written: they are done, too.
    progress.advance(before + size - progress.current.done_bytes)


def _groups(
    reader: SnapshotReader, files: Iterable[FileEntry], target: Path, progress: Progress
) -> Iterator[Unit]:
    return (
        partial(_fill_group, reader, group, target=target, progress=progress)
        for group in reader.fetch_plan(files)
    )


def _fill_group(reader: SnapshotReader, group: FetchGroup, *, target: Path, progress: Progress) -> None:
    for piece in reader.fetch(group):
        _write_at(target, piece.entry.path, piece.data, offset=piece.offset)
    progress.advance(group.plain_bytes)


def _write_at(target: Path, path: str, data: memoryview, *, offset: int) -> None:
    try:
        descriptor = os.open(target / path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            while data:
                written = os.pwrite(descriptor, data, offset)
                data, offset = data[written:], offset + written
        finally:
            os.close(descriptor)
    except OSError as error:
        raise os_error(error, f"writing {path}") from error


def _write_label(
    facts: SnapshotFacts, target: Path, *, identity: ServerIdentity, durable: bool = True
) -> None:
    """The label exactly as PostgreSQL gave it: without it pg_control, which is poisoned, starts nothing."""
    publish(target / BACKUP_LABEL, facts.backup_label.encode(), owner=identity.owner, durable=durable)


def _write_control(
    reader: SnapshotReader,
    control: FileEntry,
    target: Path,
    *,
    identity: ServerIdentity,
    durable: bool = True,
) -> None:
    content = reader.read_file(control, 0, control.size)
    publish(target / CONTROL_FILE, content, mode=control.mode, owner=identity.owner, durable=durable)

"""Taking a snapshot of a running cluster: read what may have changed, made whole by WAL (rules 1-7, 22-30)."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import structlog

from stillframe.backup.changes import ChangeSet, Everything, SinceParent
from stillframe.backup.damage import damaged_map_sentences
from stillframe.backup.facts import Outcome, describe_server, gather_facts
from stillframe.backup.listing import list_changes
from stillframe.backup.memory import ListingMemory, Moment
from stillframe.backup.parallel import Unit, run_parallel
from stillframe.backup.parent import Source, changes_since_parent
from stillframe.backup.progress import Progress
from stillframe.backup.reading import CHUNK, CopyContext, open_to_read, read_at, write_small
from stillframe.backup.relations import relation_units
from stillframe.backup.tidying import Tidying
from stillframe.backup.wal import copy_history, copy_wal
from stillframe.domain.cancel import CancelToken
from stillframe.domain.clock import Clock, SystemClock
from stillframe.domain.identifiers import LineageId
from stillframe.errors import SourceDataCorrupt, Unsupported
from stillframe.postgres.backup_session import BackupSession, BackupStart, backup_session
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.control import (
    CONTROL_FILE,
    ControlFile,
    parse_control_file,
    poisoned,
    read_control_bytes,
)
from stillframe.postgres.files import ListedFile, Listing, list_data_directory
from stillframe.postgres.pages import PAGE_SIZE
from stillframe.postgres.wal_summaries import Doubt
from stillframe.repository import AncestryEntry, SnapshotAttributes, SnapshotDocument, SnapshotWriter
from stillframe.system import translating_os_errors

_DEFAULT_THREADS = 2
_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Remarks:
    """What a capture found worth telling beside what is in its document.

    `doubt` is why it read everything, None for an incremental one. `damaged_maps` are sentences about pages of maps
    of free space and visibility that fail their checksums; nothing is lost with them.
    """

    doubt: Doubt | None = None
    damaged_maps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """What a capture is to be. `deadline` bounds the wait for the first checkpoint, in seconds.

    `ancestry` is where the source's incarnation came from, oldest first. Without `changes` they are learnt from
    the server, relative to the parent that the writer was begun with, if it has one. Give the same `memory` to
    the captures of one process, and look into `remarks` when it has been taken.
    """

    lineage_id: LineageId
    attributes: SnapshotAttributes
    ancestry: Sequence[AncestryEntry] = ()
    changes: ChangeSet | None = None
    threads: int = _DEFAULT_THREADS
    label: str = "stillframe"
    deadline: float = 3600
    clock: Clock = field(default_factory=SystemClock)
    memory: ListingMemory = field(default_factory=ListingMemory)
    remarks: Remarks = field(default_factory=Remarks)


def capture(
    source: Cluster,
    writer: SnapshotWriter,
    request: CaptureRequest,
    *,
    progress: Progress,
    cancel: CancelToken,
) -> SnapshotDocument:
    """Take a snapshot of a running cluster, exact at the LSN where the copy ends; it is committed on return.

    Raises ServerUnavailable when the server goes away, SourceDataCorrupt when files cannot be read or WAL is
    missing, Unsupported for what a snapshot cannot hold, Cancelled, and what the writer raises: then nothing
    was committed, and the writer is to be aborted. Damaged pages are no error: they are in the document's
    `damage`, with names.
    """
    started_at = request.clock.now()
    progress.begin("checkpoint")
    with backup_session(source, label=request.label, cancel=cancel, deadline=request.deadline) as backup:
        progress.begin("comparing")
        context = _context(source, writer, request, backup, progress=progress, cancel=cancel)
        run = backup.server_run()
        described = backup.beside(partial(describe_server, backup.session))
        progress.begin("listing")
        listing = _listing(context, request.memory, run)
        _announce(context, listing)
        progress.begin("copying")
        _copy_files(context, listing, backup, threads=request.threads)
        progress.begin("finishing")
        control = _copy_control_file(source, writer, start=backup.start)
        stop = backup.stop()
        context.findings.judge_newer(stop.lsn)
        progress.begin("wal")
        wal_bytes = copy_wal(context, control, start=backup.start, stop=stop)
        history = copy_history(context, timeline=backup.start.timeline)
        outcome = Outcome(
            started_at=started_at,
            control=control,
            start=backup.start,
            stop=stop,
            wal_bytes=wal_bytes,
            history=history,
            server=described.result(),
        )
    facts = gather_facts(source, request, context, outcome)
    _remark(source, request, context, outcome)
    progress.begin("committing")
    cancel.raise_if_cancelled()
    document = writer.commit(facts)
    request.memory.keep(source.data_directory, Moment(document.snapshot_id, run), listing.known)
    return document


def _remark(source: Cluster, request: CaptureRequest, context: CopyContext, outcome: Outcome) -> None:
    if isinstance(context.changes, Everything):
        request.remarks.doubt = context.changes.doubt
    request.remarks.damaged_maps = damaged_map_sentences(
        source, context.findings, databases=outcome.server.databases
    )
    for sentence in request.remarks.damaged_maps:
        _log.warning("map_page_damaged", finding=sentence)


def _context(
    source: Cluster,
    writer: SnapshotWriter,
    request: CaptureRequest,
    backup: BackupSession,
    *,
    progress: Progress,
    cancel: CancelToken,
) -> CopyContext:
    control = parse_control_file(read_control_bytes(source.data_directory))
    if control.block_size != PAGE_SIZE or control.wal_block_size != PAGE_SIZE:
        raise Unsupported(
            f"The cluster has pages of {control.block_size} bytes; only {PAGE_SIZE} are supported"
        )
    described = Source(
        cluster=source,
        session=backup.session,
        control=control,
        start=backup.start,
        lineage_id=request.lineage_id,
        origins=request.ancestry,
    )
    changes = request.changes or changes_since_parent(described, writer, cancel=cancel)
    return CopyContext(
        root=source.data_directory,
        writer=writer,
        changes=changes,
        tidying=Tidying(writer, changed=changes.changed_pages) if isinstance(changes, SinceParent) else None,
        start_lsn=backup.start.lsn,
        segment_blocks=control.relation_segment_blocks,
        verify_pages=control.data_checksum_version != 0,
        progress=progress,
        cancel=cancel,
    )


def _listing(context: CopyContext, memory: ListingMemory, run: str) -> Listing:
    """What has to be copied. The writer knows all directories then, and everything that is inherited."""
    parent = context.writer.parent
    if isinstance(context.changes, SinceParent) and parent is not None:
        known = memory.recall(context.root, Moment(parent.snapshot_id, run))
        return list_changes(context.root, context.writer, context.changes, known=known)
    listing = list_data_directory(context.root)
    for directory in listing.directories:
        context.writer.add_directory(directory.path, mode=directory.mode)
    return listing


def _announce(context: CopyContext, listing: Listing) -> None:
    pages = sum(
        chosen.count
        for file in listing.files
        if file.relation is not None
        for chosen in context.changes.to_read(file, blocks=file.size // PAGE_SIZE)
    )
    others = sum(file.size for file in listing.files if file.relation is None)
    context.progress.expect(pages * PAGE_SIZE + others)
    _warn_of_odd_lengths(context, listing)


def _warn_of_odd_lengths(context: CopyContext, listing: Listing) -> None:
    """A page that is just being added, or a file that something else than PostgreSQL wrote to (rule 17)."""
    largest = context.segment_blocks * PAGE_SIZE
    for file in listing.files:
        if file.relation is not None and (file.size % PAGE_SIZE or file.size > largest):
            _log.warning("relation_file_has_odd_length", path=file.path, bytes=file.size)


def _copy_files(context: CopyContext, listing: Listing, backup: BackupSession, *, threads: int) -> None:
    relations = (file for file in listing.files if file.relation is not None)
    others = (file for file in listing.files if file.relation is None)
    units = chain(_file_units(context, others), relation_units(context, relations))
    # A broken session would make the copy worthless: better to learn of it now than after the last gigabyte.
    run_parallel(units, threads=threads, cancel=context.cancel, heartbeat=backup.check)


def _file_units(context: CopyContext, files: Iterator[ListedFile]) -> Iterator[Unit]:
    return (partial(_copy_file, context, file) for file in files)


def _copy_file(context: CopyContext, file: ListedFile) -> None:
    """Copy a file that has no pages, up to the length it has when it is opened."""
    descriptor = open_to_read(context.root / file.path)
    if descriptor is None:
        context.add_vanished(file.path)
        return
    try:
        with translating_os_errors(f"reading {file.path}"):
            size = os.fstat(descriptor).st_size
        target = context.writer.file(file.path, mode=file.mode)
        for offset in range(0, size, CHUNK):
            context.cancel.raise_if_cancelled()
            target.write(read_at(descriptor, min(CHUNK, size - offset), offset=offset, path=file.path))
        target.close()
    finally:
        os.close(descriptor)
    context.findings.add_read(size)
    context.progress.advance(file.size)


def _copy_control_file(source: Cluster, writer: SnapshotWriter, *, start: BackupStart) -> ControlFile:
    """Store pg_control after all other files, checked, and of no use without the backup label (29, 38)."""
    content = read_control_bytes(source.data_directory)
    control = parse_control_file(content)
    if control.timeline != start.timeline:
        raise SourceDataCorrupt(
            f"The server changed from timeline {start.timeline} to {control.timeline} while it was copied",
        )
    write_small(writer, CONTROL_FILE, poisoned(content))
    return control

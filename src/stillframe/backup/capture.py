"""Taking a snapshot of a running cluster: read what may have changed, made whole by WAL (rules 1-7, 22-30)."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import msgspec
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
from stillframe.postgres.files import KnownFolder, ListedFile, Listing, list_data_directory
from stillframe.postgres.pages import PAGE_SIZE
from stillframe.postgres.wal_summaries import Doubt
from stillframe.repository import (
    AncestryEntry,
    SnapshotAttributes,
    SnapshotDocument,
    SnapshotFacts,
    SnapshotWriter,
)
from stillframe.system import translating_os_errors

_DEFAULT_THREADS = 2
_SHORT_WAL = 64 << 20
"""Bytes that a restored server replays in less than half a second."""
_MOST_PASSES = 5
_GAIN = 2
"""Another pass is worth it when it has at most half of the last one's work to do."""
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
    the captures of one process, and look into `remarks` when it has been taken. When more WAL than `short_wal` bytes
    was written meanwhile, what changed is read once more before it ends.
    """

    lineage_id: LineageId
    attributes: SnapshotAttributes
    ancestry: Sequence[AncestryEntry] = ()
    changes: ChangeSet | None = None
    threads: int = _DEFAULT_THREADS
    short_wal: int = _SHORT_WAL
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

    A restored server replays the WAL from the copy's beginning to its end. So a copy that took long beside much work
    becomes the parent of another one, which is taken at once, reads what has changed since, and ends sooner.

    Raises ServerUnavailable when the server goes away, SourceDataCorrupt when files cannot be read or WAL is
    missing, Unsupported for what a snapshot cannot hold, Cancelled, and what the writer raises: then nothing
    was committed, and the writer is to be aborted. Damaged pages are no error: they are in the document's
    `damage`, with names.
    """
    passes: list[SnapshotFacts] = []
    while True:
        taken = _pass(source, writer, request, passes, progress=progress, cancel=cancel)
        facts = gather_facts(source, request, taken.context, taken.outcome)
        if not taken.again:
            break
        passes.append(facts)
        parent = writer.begin_again(facts)
        request.memory.keep(source.data_directory, Moment(parent.snapshot_id, taken.run), taken.known)
        _log.info("another_pass", wal_bytes=taken.outcome.wal_bytes, read_bytes=facts.bytes_read)
    _remark(source, request, taken.context, taken.outcome)
    progress.begin("committing")
    cancel.raise_if_cancelled()
    document = writer.commit(_in_all(facts, passes))
    request.memory.keep(source.data_directory, Moment(document.snapshot_id, taken.run), taken.known)
    return document


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """What a pass has found: `again` when another one shall follow. `known` are the directories of that `run`."""

    context: CopyContext
    outcome: Outcome
    run: str
    known: Mapping[str, KnownFolder]
    again: bool


def _pass(
    source: Cluster,
    writer: SnapshotWriter,
    request: CaptureRequest,
    passes: Sequence[SnapshotFacts],
    *,
    progress: Progress,
    cancel: CancelToken,
) -> _Taken:
    """Copy everything, or what has changed since the writer's parent; and the WAL, if this pass is the last one."""
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
        wal_bytes, history = stop.lsn - backup.start.lsn, ""
        again = _is_worth_another(context, request, passes, wal_bytes=wal_bytes)
        if not again:
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
    if not passes and isinstance(context.changes, Everything):
        request.remarks.doubt = context.changes.doubt
    return _Taken(context=context, outcome=outcome, run=run, known=listing.known, again=again)


def _is_worth_another(
    context: CopyContext, request: CaptureRequest, passes: Sequence[SnapshotFacts], *, wal_bytes: int
) -> bool:
    """Whether much was written meanwhile, and another pass would have much less to do.

    Not after damaged pages: the next pass would not read them again, and nobody be told.
    """
    findings = context.findings
    return (
        request.changes is None
        and wal_bytes > request.short_wal
        and wal_bytes * _GAIN <= findings.bytes_read
        and len(passes) + 1 < _MOST_PASSES
        and not findings.damaged_count
    )


def _in_all(facts: SnapshotFacts, passes: Sequence[SnapshotFacts]) -> SnapshotFacts:
    """The last pass says where the copy begins and ends, the first one when it was begun and whether it relied on an
    earlier snapshot.
    """
    if not passes:
        return facts
    return msgspec.structs.replace(
        facts,
        mode=passes[0].mode,
        full_reason=passes[0].full_reason,
        started_at=passes[0].started_at,
        duration_seconds=max((facts.finished_at - passes[0].started_at).total_seconds(), 0.0),
        bytes_read=sum(one.bytes_read for one in (*passes, facts)),
    )


def _remark(source: Cluster, request: CaptureRequest, context: CopyContext, outcome: Outcome) -> None:
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

"""The WAL of a snapshot: what makes its torn and changing pages whole, and where its timeline came from."""

import os
from functools import partial

from stillframe.backup.parallel import run_parallel
from stillframe.backup.reading import CHUNK, CopyContext, open_to_read, read_at, write_small
from stillframe.errors import SourceDataCorrupt
from stillframe.postgres.backup_session import BackupStart, BackupStop
from stillframe.postgres.control import ControlFile
from stillframe.postgres.wal import WalSegment, check_wal_pages, history_path, read_history, wal_segments


def copy_wal(context: CopyContext, control: ControlFile, *, start: BackupStart, stop: BackupStop) -> int:
    """Store the WAL that makes the copy exact, without a gap, zero after its end; how much was needed."""
    segments = wal_segments(
        start=start.lsn, stop=stop.lsn, timeline=start.timeline, segment_size=control.wal_segment_size
    )
    needed = sum(segment.needed for segment in segments)
    context.progress.expect(needed)
    units = (partial(_copy_segment, context, control, segment) for segment in segments)
    run_parallel(units, threads=1, cancel=context.cancel)
    return needed


def _copy_segment(context: CopyContext, control: ControlFile, segment: WalSegment) -> None:
    descriptor = open_to_read(context.root / segment.path)
    if descriptor is None:
        raise SourceDataCorrupt(
            f"The server has removed {segment.path}, which the snapshot needs",
            hint="Let the server keep more WAL during a snapshot, or take it at a quieter time.",
        )
    try:
        target = context.writer.file(segment.path, mode=0o600)
        ended = False
        for offset in range(0, segment.needed, CHUNK):
            context.cancel.raise_if_cancelled()
            wanted = min(segment.needed - offset, CHUNK)
            content = read_at(descriptor, wanted, offset=offset, path=segment.path)
            if len(content) < wanted:
                raise SourceDataCorrupt(f"{segment.path} ends before the WAL that the snapshot needs")
            ended = check_wal_pages(
                content,
                segment=segment,
                offset=offset,
                system_identifier=control.system_identifier,
                ended=ended,
            )
            target.write(content)
            context.progress.advance(wanted)
        # What follows is of a time after the copy, or of an earlier use of the file.
        target.write_zeros(segment.size - segment.needed)
        target.close()
    finally:
        os.close(descriptor)
    context.findings.add_read(segment.needed)


def copy_history(context: CopyContext, *, timeline: int) -> str:
    """Store the history files of the whole ancestry; the text of this timeline's own, "" on the first."""
    files = read_history(context.root, timeline)
    for path, content in files.items():
        write_small(context.writer, path, content)
    own = files.get(history_path(timeline), b"")
    return own.decode(errors="replace")

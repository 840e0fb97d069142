"""WAL files of a running cluster: which ones a copy needs, and their bytes (rules 3-5)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stillframe.domain.lsn import Lsn
from stillframe.errors import SourceDataCorrupt
from stillframe.system import translating_os_errors

WAL_DIRECTORY = "pg_wal"
WAL_PAGE = 8192
_HISTORY_LINE = re.compile(r"\s*(?P<timeline>[0-9]+)\s+(?P<lsn>[0-9A-Fa-f]+/[0-9A-Fa-f]+)(?:\s.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class WalSegment:
    """One file of WAL. A copy needs its first `needed` bytes; the rest is zero there."""

    path: str
    start: Lsn
    size: int
    needed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """A line of a timeline history: `timeline` was followed up to `until`."""

    timeline: int
    until: Lsn


def wal_segments(*, start: Lsn, stop: Lsn, timeline: int, segment_size: int) -> list[WalSegment]:
    """The segments that hold everything from `start` up to `stop`, in order, without a gap."""
    first, last = start // segment_size, (stop - 1) // segment_size
    segments = []
    for position in range(first * segment_size, (last + 1) * segment_size, segment_size):
        name = Lsn(position).segment_name(timeline=timeline, segment_size=segment_size)
        needed = min(stop - position, segment_size)
        segments.append(
            WalSegment(path=f"{WAL_DIRECTORY}/{name}", start=Lsn(position), size=segment_size, needed=needed)
        )
    return segments


def check_wal_pages(
    content: bytes, *, segment: WalSegment, offset: int, system_identifier: int, ended: bool = False
) -> bool:
    """Raise SourceDataCorrupt unless these bytes, from `offset` of the segment on, are WAL of this place.

    Every page says where it belongs, and the first also to which cluster (PostgreSQL: XLogLongPageHeaderData);
    a recycled segment still has the pages of its former place. `offset` is a multiple of the page size.

    Where the server switched to the next segment early, all pages that follow are zero (PostgreSQL:
    CopyXLogRecordToWAL). True when that was met: pass it on as `ended` with what follows in the segment.
    """
    expected = min(segment.needed - offset, len(content)) if offset < segment.needed else 0
    used = 0 if ended else expected
    if not ended and segment.needed == segment.size:
        used = _used_bytes(content, first=0 if offset else WAL_PAGE)
    position = segment.start + offset
    headers = range(0, used, WAL_PAGE)
    right = [_place(content, at) for at in headers] == [position + at for at in headers]
    right = right and len(content) >= min(segment.needed - offset, 1) and not any(content[used:expected])
    if right and offset == 0:
        system, size = int.from_bytes(content[24:32], "little"), int.from_bytes(content[32:36], "little")
        right = (system, size) == (system_identifier, segment.size)
    if not right:
        raise SourceDataCorrupt(f"{segment.path} does not hold the WAL from {Lsn(position)} on")
    return used < expected


def _used_bytes(content: bytes, *, first: int) -> int:
    """How much comes before the first page that says nothing of its place; the first page at `first` at most."""
    return next((at for at in range(first, len(content), WAL_PAGE) if not _place(content, at)), len(content))


def _place(content: bytes, at: int) -> int:
    return int.from_bytes(content[at + 8 : at + 16], "little")


def history_path(timeline: int) -> str:
    """Where the history of a timeline is kept, relative to the data directory."""
    return f"{WAL_DIRECTORY}/{timeline:08X}.history"


def read_history(data_directory: Path, timeline: int) -> dict[str, bytes]:
    """The history files of `timeline` and of all its ancestors, by path relative to the data directory.

    Timeline 1 has none. Raises SourceDataCorrupt when one is missing: the ancestry is whole or worthless.
    """
    files: dict[str, bytes] = {}
    for number in [timeline, *(entry.timeline for entry in ancestry(data_directory, timeline))]:
        if number > 1:
            path = history_path(number)
            files[path] = _history_bytes(data_directory, path)
    return dict(sorted(files.items()))


def ancestry(data_directory: Path, timeline: int) -> tuple[TimelineEntry, ...]:
    """The timelines before this one, oldest first, with the point where each was left."""
    if timeline == 1:
        return ()
    text = _history_bytes(data_directory, history_path(timeline)).decode(errors="replace")
    return tuple(parse_history(text))


def parse_history(text: str) -> Iterator[TimelineEntry]:
    """The entries of a timeline history file. Raises SourceDataCorrupt for a line that is none."""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _HISTORY_LINE.fullmatch(line)
        if match is None:
            raise SourceDataCorrupt(f"A timeline history has a line that is none: {line[:80]!r}")
        yield TimelineEntry(timeline=int(match["timeline"]), until=Lsn.parse(match["lsn"]))


def _history_bytes(data_directory: Path, path: str) -> bytes:
    with translating_os_errors("reading the timeline history"):
        try:
            return (data_directory / path).read_bytes()
        except FileNotFoundError:
            raise SourceDataCorrupt(f"The timeline history {path} is missing") from None

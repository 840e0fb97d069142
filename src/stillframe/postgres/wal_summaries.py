"""PostgreSQL's own record of which blocks changed: the WAL summary files, read and merged (rules 8-14).

The files are parsed instead of asked for through SQL: that is about a hundred times faster, and they carry a CRC.
Every doubt is a SummariesUnusable, which means "read everything", never "nothing changed".
"""

import re
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stillframe.domain.cancel import CancelToken
from stillframe.domain.lsn import Lsn
from stillframe.postgres.connection import Session
from stillframe.postgres.crc32c import crc32c
from stillframe.postgres.files import Fork
from stillframe.system import translating_os_errors

FOLDER = "pg_wal/summaries"
NO_LIMIT = 0xFFFFFFFF
"""InvalidBlockNumber: the fork was neither truncated, created nor dropped."""

_NAME = re.compile(r"([0-9A-F]{8})([0-9A-F]{16})([0-9A-F]{16})\.summary")
_MAGIC = 0x652B137B
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<6I")
_CRC = struct.Struct("<I")
_BLOCKS_A_CHUNK = 1 << 16
_WORDS_OF_A_BITMAP = _BLOCKS_A_CHUNK // 16
_FORKS = (Fork.MAIN, Fork.FREE_SPACE, Fork.VISIBILITY, Fork.INIT)

_STATE = """
    SELECT current_setting('summarize_wal')::bool, summarized_tli, summarized_lsn::text, pending_lsn::text,
           summarizer_pid
    FROM pg_get_wal_summarizer_state()
"""
_PATIENCE_SECONDS = 30.0
"""A summarizer that failed tries again after ten seconds."""
_FIRST_PAUSE_SECONDS = 0.001
_LONGEST_PAUSE_SECONDS = 0.1

Blocks = npt.NDArray[np.uint32]


class Doubt(StrEnum):
    """Why a copy reads everything, in one word for a counter."""

    ASKED = "asked"
    NO_PARENT = "no_parent"
    DAMAGED_PARENT = "damaged_parent"
    OTHER_CLUSTER = "other_cluster"
    OTHER_HISTORY = "other_history"
    NO_CHECKSUMS = "no_checksums"
    HISTORY_UNREADABLE = "history_unreadable"
    SUMMARIES_OFF = "summaries_off"
    SUMMARIES_BEHIND = "summaries_behind"
    SUMMARIES_INCOMPLETE = "summaries_incomplete"


class SummariesUnusable(Exception):
    """The summaries do not tell everything that happened; the message says why. Read everything instead."""

    def __init__(self, message: str, doubt: Doubt = Doubt.SUMMARIES_INCOMPLETE) -> None:
        super().__init__(message)
        self.doubt = doubt


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryFile:
    """One summary: what changed on `timeline` from `start` (inclusive) to `end`."""

    path: Path
    timeline: int
    start: Lsn
    end: Lsn


@dataclass(frozen=True, slots=True, kw_only=True)
class WalRange:
    """A stretch of WAL on one timeline."""

    timeline: int
    start: Lsn
    end: Lsn


@dataclass(frozen=True, slots=True)
class ForkKey:
    """A fork as WAL names it: tablespace, database and relation file number. Number 0 is a whole database."""

    tablespace: int
    database: int
    number: int
    fork: Fork


@dataclass(slots=True)
class ForkChanges:
    """What happened to one fork. Block numbers count over all segments.

    `limit` is the smallest length it had meanwhile (0 when it was created or dropped), NO_LIMIT without any of
    that. `blocks` changed after that.
    """

    limit: int = NO_LIMIT
    parts: list[Blocks] = field(default_factory=list)

    def merge(self, limit: int, blocks: Blocks) -> None:
        """Add what a later summary says: first its limit, then its blocks (rule 12)."""
        if limit < NO_LIMIT:
            self.limit = min(self.limit, limit)
            self.parts = [part[part < limit] for part in self.parts]
        if len(blocks):
            self.parts.append(blocks)

    def blocks(self) -> Blocks:
        """The changed blocks, ascending, each once."""
        if not self.parts:
            return np.empty(0, dtype=np.uint32)
        return np.unique(np.concatenate(self.parts))


def wait_until_summarized(
    session: Session, *, lsn: Lsn, timeline: int, cancel: CancelToken, patience: float = _PATIENCE_SECONDS
) -> None:
    """Wait until the server's summaries reach `lsn` on `timeline`; it has to be the end of a summary (rule 10).

    Raises SummariesUnusable when the server makes none, or when it has not moved on for `patience` seconds;
    ServerUnavailable and Cancelled.
    """
    pause = _FIRST_PAUSE_SECONDS
    moved, last = time.monotonic(), None
    while True:
        enabled, *state = session.row(_STATE)
        reached = Lsn.parse(state[1])
        if not enabled:
            raise SummariesUnusable(
                "The server writes no WAL summaries: summarize_wal is off", Doubt.SUMMARIES_OFF
            )
        if (state[0], reached) >= (timeline, lsn):
            return
        if state != last:
            moved, last = time.monotonic(), state
        elif time.monotonic() - moved > patience:
            raise SummariesUnusable(
                f"The server's WAL summaries stay at {reached}, before {lsn}", Doubt.SUMMARIES_BEHIND
            )
        cancel.wait(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


def list_summaries(data_directory: Path) -> list[SummaryFile]:
    """All summary files of a cluster, in the order of timeline and start; none when it has no place for them.

    Raises PermissionMissing or OperatorError when they cannot be listed.
    """
    with translating_os_errors("listing the WAL summaries"):
        try:
            found = [_parsed_name(path) for path in (data_directory / FOLDER).iterdir()]
        except FileNotFoundError:
            return []
    files = [file for file in found if file is not None]
    return sorted(files, key=lambda file: (file.timeline, file.start, file.end))


def choose_summaries(files: Sequence[SummaryFile], ranges: Iterable[WalRange]) -> list[SummaryFile]:
    """The files that cover these stretches, in the order of history (rules 9, 11, 12).

    Raises SummariesUnusable when a part of a stretch is not covered.
    """
    chosen: list[SummaryFile] = []
    for stretch in ranges:
        chosen += _covering(files, stretch)
    return chosen


def merge_summaries(files: Iterable[SummaryFile]) -> dict[ForkKey, ForkChanges]:
    """What all of these files say together; they have to come in the order of history.

    Raises SummariesUnusable for a file that is damaged or gone.
    """
    merged: dict[ForkKey, ForkChanges] = {}
    for file in files:
        for key, limit, blocks in _entries(file):
            merged.setdefault(key, ForkChanges()).merge(limit, blocks)
    return merged


def _parsed_name(path: Path) -> SummaryFile | None:
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    timeline, start, end = (int(part, 16) for part in match.groups())
    return SummaryFile(path=path, timeline=timeline, start=Lsn(start), end=Lsn(end))


def _covering(files: Sequence[SummaryFile], stretch: WalRange) -> Iterator[SummaryFile]:
    position = stretch.start
    for file in files:
        if file.timeline != stretch.timeline or file.end <= position or position >= stretch.end:
            continue
        if file.start > position:
            break
        yield file
        position = file.end
    if position < stretch.end:
        raise SummariesUnusable(
            f"WAL from {position} to {stretch.end} on timeline {stretch.timeline} was not summarised"
        )


def _entries(file: SummaryFile) -> Iterator[tuple[ForkKey, int, Blocks]]:
    content = _checked_content(file)
    offset = _HEADER.size
    end = len(content) - _CRC.size
    while offset + _ENTRY.size <= end:
        tablespace, database, number, fork, limit, chunks = _ENTRY.unpack_from(content, offset)
        offset += _ENTRY.size
        if not (tablespace or database or number or fork or limit or chunks):
            # The end is marked by an entry of zeros, right before the CRC.
            if offset != end:
                break
            return
        blocks, offset = _blocks(content, offset, chunks=chunks, end=end, file=file)
        if fork >= len(_FORKS):
            break
        yield ForkKey(tablespace, database, number, _FORKS[fork]), limit, blocks
    raise SummariesUnusable(f"The WAL summary {file.path.name} is not complete")


def _checked_content(file: SummaryFile) -> bytes:
    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise SummariesUnusable(
            f"The WAL summary {file.path.name} cannot be read: {error.strerror}"
        ) from None
    if len(content) < _HEADER.size + _ENTRY.size + _CRC.size or _HEADER.unpack_from(content)[0] != _MAGIC:
        raise SummariesUnusable(f"{file.path.name} is not a WAL summary of a form that is known")
    (expected,) = _CRC.unpack_from(content, len(content) - _CRC.size)
    if crc32c(content[: -_CRC.size]) != expected:
        raise SummariesUnusable(f"The WAL summary {file.path.name} fails its CRC")
    return content


def _blocks(content: bytes, offset: int, *, chunks: int, end: int, file: SummaryFile) -> tuple[Blocks, int]:
    """The blocks of one entry: a count for each chunk of 65,536, then each chunk as a list or as a bitmap."""
    usage = _words(content, offset, chunks, end=end, file=file)
    offset += usage.nbytes
    parts: list[Blocks] = []
    for number, used in enumerate(usage.tolist()):
        words = _words(content, offset, used, end=end, file=file)
        offset += words.nbytes
        within = _of_bitmap(words) if used == _WORDS_OF_A_BITMAP else words.astype(np.uint32)
        parts.append(within + np.uint32(number * _BLOCKS_A_CHUNK))
    return (np.concatenate(parts) if parts else np.empty(0, dtype=np.uint32)), offset


def _words(content: bytes, offset: int, count: int, *, end: int, file: SummaryFile) -> npt.NDArray[np.uint16]:
    if offset + 2 * count > end:
        raise SummariesUnusable(f"The WAL summary {file.path.name} is not complete")
    return np.frombuffer(content, dtype="<u2", count=count, offset=offset)


def _of_bitmap(words: npt.NDArray[np.uint16]) -> Blocks:
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    return np.flatnonzero(bits).astype(np.uint32)

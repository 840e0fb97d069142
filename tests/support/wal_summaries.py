"""WAL summary files made to order, as PostgreSQL would write them (common/blkreftable.c)."""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from stillframe.domain.lsn import Lsn
from stillframe.postgres.crc32c import crc32c
from stillframe.postgres.files import Fork
from stillframe.postgres.wal_summaries import ForkKey, SummaryFile

FORKS = (Fork.MAIN, Fork.FREE_SPACE, Fork.VISIBILITY, Fork.INIT)
MAGIC = 0x652B137B
CHUNK = 65536
Entries = Mapping[ForkKey, tuple[int, Iterable[int]]]
"""For each fork its limit and its blocks."""


def summary_bytes(entries: Entries) -> bytes:
    """The content of a summary file; a chunk with 4,096 blocks or more becomes a bitmap."""
    parts = [struct.pack("<I", MAGIC)]
    for key, (limit, blocks) in entries.items():
        chunks = _chunks(blocks)
        fork = FORKS.index(key.fork)
        parts.append(
            struct.pack("<6I", key.tablespace, key.database, key.number, fork, limit, len(chunks)),
        )
        parts.append(struct.pack(f"<{len(chunks)}H", *(len(words) for words in chunks)))
        parts.extend(words.astype("<u2").tobytes() for words in chunks)
    content = b"".join([*parts, bytes(24)])
    return content + struct.pack("<I", crc32c(content))


def write_summary(folder: Path, entries: Entries, *, start: int, end: int, timeline: int = 1) -> SummaryFile:
    """A summary file in that folder."""
    path = folder / f"{timeline:08X}{start:016X}{end:016X}.summary"
    path.write_bytes(summary_bytes(entries))
    return SummaryFile(path=path, timeline=timeline, start=Lsn(start), end=Lsn(end))


def _chunks(blocks: Iterable[int]) -> list["np.ndarray[tuple[int], np.dtype[np.uint16]]"]:
    numbers = np.array(sorted(set(blocks)), dtype=np.int64)
    count = int(numbers.max()) // CHUNK + 1 if len(numbers) else 0
    result = []
    for chunk in range(count):
        within = numbers[numbers // CHUNK == chunk] % CHUNK
        if len(within) >= CHUNK // 16:
            bits = np.zeros(CHUNK, dtype=np.uint8)
            bits[within] = 1
            result.append(np.packbits(bits, bitorder="little").view("<u2").astype(np.uint16))
        else:
            # PostgreSQL keeps them in the order in which they came.
            result.append(within[::-1].astype(np.uint16))
    return result

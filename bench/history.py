"""A month of snapshots: what they take on disk, and what it costs to check them again."""

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import zstandard
from rich.console import Console

from bench.dirt import PAGE_SIZE, Scatter
from bench.measure import Stopwatch, settle
from bench.ours import Engine
from bench.results import Goal, Section, Series, Table, megabytes, seconds
from bench.warehouse import Source, Warehouse

_SNAPSHOTS = 30
_SHARE = 0.01
_STORED_FACTOR = 1.25
_CHECK_FACTOR = 50
_FORKS = {0: "", 1: "_fsm", 2: "_vm"}
_SHARED_TABLESPACE = 1664
_SEGMENT_PAGES = 131_072
_TOGETHER = 32
_POLL_SECONDS = 0.02
_PATIENCE = 60.0
_SUMMARIZED = """
    SELECT coalesce(max(end_lsn) >= (SELECT redo_lsn FROM pg_control_checkpoint()), false)
    FROM pg_available_wal_summaries()
"""
_CHANGED = """
    SELECT DISTINCT reltablespace, reldatabase, relfilenode, relforknumber, relblocknumber
    FROM pg_available_wal_summaries() AS s, pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn)
    WHERE s.end_lsn > %s::pg_lsn AND NOT is_limit_block
    ORDER BY 1, 2, 3, 4, 5
"""


def run_history(house: Warehouse, source: Source, *, console: Console) -> Section:
    """A full snapshot and thirty more, with a hundredth of the pages changed before each."""
    engine, scatter = Engine(house, source), Scatter(house, source, first_row=2)
    pages = int(source.bytes * _SHARE / PAGE_SIZE)
    times, stored, needed = [], [], []
    try:
        engine.prepare_copy()
        engine.copy()
        full = engine.stored()
        checks = [_checked(engine)]
        console.print("[dim]history: thirty snapshots[/]")
        with house.service_connection(source) as session:
            for _ in range(_SNAPSHOTS):
                before = _position(session)
                scatter.change(pages)
                needed.append(_compressed_changes(session, source.cluster.data_directory, since=before))
                engine.prepare_next()
                watch = Stopwatch()
                engine.copy_next()
                times.append(watch.seconds)
                stored.append(engine.stored())
                if len(checks) == 1:
                    checks.append(_checked(engine))
    finally:
        engine.close()
    return _section(source, full=full, times=times, stored=stored, needed=needed, checks=checks)


def _checked(engine: Engine) -> float:
    """Seconds until every stored byte that no earlier check has seen was read and found in order."""
    settle(cold=False)
    watch = Stopwatch()
    engine.check()
    return watch.seconds


def _position(session: "psycopg.Connection[Any]") -> str:
    found = session.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    assert found is not None
    return str(found[0])


def _compressed_changes(session: "psycopg.Connection[Any]", data: Path, *, since: str) -> int:
    """What the pages that changed since then take, compressed as ours are: by PostgreSQL's own account of them."""
    watch = Stopwatch()
    while session.execute(_SUMMARIZED).fetchone() != (True,):
        assert watch.seconds < _PATIENCE, "the summarizer does not move"
        time.sleep(_POLL_SECONDS)
    coder = zstandard.ZstdCompressor(level=1)
    pages = _pages(data, session.execute(_CHANGED, (since,)).fetchall())
    size = 0
    while together := b"".join(islice(pages, _TOGETHER)):
        size += len(coder.compress(together))
    return size


def _pages(data: Path, changed: Sequence[tuple[Any, ...]]) -> Iterator[bytes]:
    """The changed pages that are still there, as they are on disk after a checkpoint."""
    for tablespace, database, relation, fork, block in changed:
        folder = Path("global") if tablespace == _SHARED_TABLESPACE else Path("base", str(database))
        segment = f".{block // _SEGMENT_PAGES}" if block >= _SEGMENT_PAGES else ""
        path = data / folder / f"{relation}{_FORKS[fork]}{segment}"
        if path.exists():
            with path.open("rb") as file:
                file.seek(block % _SEGMENT_PAGES * PAGE_SIZE)
                if page := file.read(PAGE_SIZE):
                    yield page


def _section(
    source: Source,
    *,
    full: int,
    times: Sequence[float],
    stored: Sequence[int],
    needed: Sequence[int],
    checks: Sequence[float],
) -> Section:
    size = megabytes(source.bytes)
    series = Series(values=tuple(times))
    factor = (full + sum(stored)) / (full + sum(needed))
    kept = Table(
        title=f"{_SNAPSHOTS} snapshots of {size}, {_SHARE:.0%} of its pages changed before each",
        columns=["", "value"],
    )
    kept.rows += [
        ["first snapshot, stored", megabytes(full)],
        ["the others, stored", megabytes(sum(stored))],
        ["the changed pages, compressed", megabytes(sum(needed))],
        ["stored, to the first and the changed pages", f"{factor:.2f}"],
        ["time of one, median", seconds(series.median)],
        ["least to largest", f"{series.spread()} s"],
    ]
    kept.notes = [
        "Engine alone. Stored: everything that the repository grows by, descriptions and WAL included.",
        "Changed pages: those that PostgreSQL's WAL summaries name, compressed by zstd 1 in frames of 32.",
    ]
    checked = Table(title="Checking every stored byte", columns=["", "time", "share of the first"])
    names = (f"first time, {megabytes(full)}", f"again after one more snapshot, {megabytes(stored[0])}")
    checked.rows += [
        [name, seconds(value), f"1/{checks[0] / value:,.0f}"]
        for name, value in zip(names, checks, strict=True)
    ]
    goals = [
        Goal(
            text=f"{_SNAPSHOTS} snapshots in at most {_STORED_FACTOR:g} times the first and the changed pages",
            found=f"{factor:.2f} times",
            reached=factor <= _STORED_FACTOR,
        ),
        Goal(
            text=f"checking {_SHARE:.0%} that is new in at most a {_CHECK_FACTOR}th of the first time",
            found=f"a {checks[0] / checks[1]:.1f}th",
            reached=checks[0] / checks[1] >= _CHECK_FACTOR,
        ),
    ]
    raw = {"full_bytes": full, "seconds": times, "stored_bytes": stored, "compressed_bytes": needed}
    return Section(
        name="History", tables=[kept, checked], goals=goals, raw={**raw, "check_seconds": list(checks)}
    )

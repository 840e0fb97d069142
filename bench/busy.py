"""What snapshots take from the users of a namespace: pgbench with one every thirty seconds, and without."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from bench.measure import settle
from bench.pgbench import endpoint_of, pgbench, prepare_pgbench
from bench.results import Goal, Section, Series, Table
from bench.warehouse import Source, Warehouse

_PERIOD = 30.0
_FIRST_AFTER = 5.0
_CLIENTS = 4
_MOST_LOST = 0.05
_WITHOUT, _WITH = "without snapshots", f"a snapshot every {_PERIOD:g} s"


def run_busy(house: Warehouse, source: Source, *, rounds: int, console: Console) -> Section:
    """pgbench's writing test for one period with a snapshot in it, and for one without, in turns."""
    prepare_pgbench(house, source)
    house.snapshot(source.namespace, f"busy-{uuid.uuid4().hex[:8]}")
    way = endpoint_of(house, source.workgroup)
    found: dict[str, list[float]] = {_WITHOUT: [], _WITH: []}
    for number in range(rounds):
        # Who begins changes from round to round: the tables grow, and later runs are slower.
        for what in (_WITHOUT, _WITH) if number % 2 else (_WITH, _WITHOUT):
            console.print(f"[dim]busy: {what}, round {number + 1}[/]")
            settle(cold=False)
            with _snapshots(house, source, count=1 if what == _WITH else 0):
                found[what].append(pgbench(source, way, clients=_CLIENTS, duration=_PERIOD))
    return _section(found)


@contextmanager
def _snapshots(house: Warehouse, source: Source, *, count: int) -> Iterator[None]:
    """Taken beside the block, the first some seconds after its beginning; all of them have to succeed."""
    done: list[str] = []

    def take() -> None:
        done.append(house.snapshot(source.namespace, f"busy-{uuid.uuid4().hex[:8]}")["status"])

    timers = [threading.Timer(_FIRST_AFTER + number * _PERIOD, take) for number in range(count)]
    for timer in timers:
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.join()
    assert done == ["AVAILABLE"] * count, "a snapshot failed"


def _section(found: dict[str, list[float]]) -> Section:
    table = Table(
        title=f"pgbench with {_CLIENTS} clients, {_PERIOD:g} s each",
        columns=["", "transactions/s", "least to largest", "runs", "share"],
    )
    without = Series(values=tuple(found[_WITHOUT])).median
    for name, values in found.items():
        series = Series(values=tuple(values))
        share = f"{series.median / without:.1%}"
        table.rows.append([name, f"{series.median:,.0f}", series.spread(digits=0), str(len(values)), share])
    table.notes = [
        "pgbench's writing test (TPC-B) through the endpoint; the server waits for the disk at every commit.",
        "The snapshot is taken by boto3 while pgbench runs, incremental to the one before.",
    ]
    lost = 1 - Series(values=tuple(found[_WITH])).median / without
    goal = Goal(
        text=f"pgbench loses at most {_MOST_LOST:.0%} with {_WITH}",
        found=f"{lost:.1%}",
        reached=lost <= _MOST_LOST,
    )
    return Section(name="Snapshots beside work", tables=[table], goals=[goal], raw=dict(found))

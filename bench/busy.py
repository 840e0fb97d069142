"""What snapshots take from the users of a namespace, and what users do to snapshots.

pgbench with one every thirty seconds, and without; and the first answer of a snapshot that was taken beside pgbench,
which brings the WAL of its time with it, and of a quiet one.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from bench.answers import await_answer, restore_until_answer, service_session, started
from bench.measure import Stopwatch, settle
from bench.native import PlainBaseBackup
from bench.pgbench import Way, endpoint_of, pgbench, prepare_pgbench
from bench.results import Goal, Section, Series, Table, seconds
from bench.warehouse import Source, Warehouse

_PERIOD = 30.0
_FIRST_AFTER = 5.0
_CLIENTS = 4
_MOST_LOST = 0.05
_QUIET, _BUSY = "quiet", "busy"
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
    section = _section(found)
    section.tables.append(_restores(house, source, way, rounds=rounds, console=console))
    return section


def _restores(house: Warehouse, source: Source, way: Way, *, rounds: int, console: Console) -> Table:
    """Until the first answer, cold: of a quiet snapshot and of a busy one in turns, and of a peer's busy copy once."""
    snapshots = {name: f"{name}-{uuid.uuid4().hex[:8]}" for name in (_QUIET, _BUSY)}
    found: dict[str, list[float]] = {name: [] for name in snapshots}
    peer = PlainBaseBackup(house, source)
    with house.service_connection(source) as session:
        session.execute("CHECKPOINT")
    house.snapshot(source.namespace, snapshots[_QUIET])
    with _load(source, way):
        house.snapshot(source.namespace, snapshots[_BUSY])
    with _load(source, way):
        peer.prepare_copy()
        peer.copy()
    for number in range(rounds):
        for name, snapshot in snapshots.items():
            console.print(f"[dim]busy: restore of a {name} snapshot, round {number + 1}[/]")
            found[name].append(_first_answer(house, snapshot, number))
    console.print(f"[dim]busy: {peer.name}[/]")
    of_peer = _first_answer_of(house, source, peer)
    peer.close()
    return _restore_table(found, peer.name, of_peer)


def _first_answer(house: Warehouse, snapshot: str, number: int) -> float:
    target = house.make(f"{snapshot}-{number}")
    first = restore_until_answer(house, target, snapshot).seconds
    house.await_available(target)
    house.require_success(target)
    house.remove(target)
    return first


def _first_answer_of(house: Warehouse, source: Source, peer: PlainBaseBackup) -> float:
    peer.prepare_return()
    settle(cold=True)
    watch = Stopwatch()
    peer.bring_back()
    with started(house, source, peer) as cluster:
        await_answer(lambda: service_session(cluster))
        first = watch.seconds
    peer.clean_return()
    return first


def _restore_table(found: dict[str, list[float]], peer: str, of_peer: float) -> Table:
    table = Table(
        title="First answer after a restore, cold",
        columns=["", "median", "least to largest", "runs", "ratio"],
    )
    quiet = Series(values=tuple(found[_QUIET])).median
    for name, values in found.items():
        series = Series(values=tuple(values))
        ratio = f"{series.median / quiet:.2f}"
        table.rows.append(
            [f"{name} snapshot", seconds(series.median), series.spread(), str(len(values)), ratio]
        )
    table.rows.append([f"busy copy by {peer}, by cp", seconds(of_peer), "", "1", f"{of_peer / quiet:.1f}"])
    table.notes = [
        f"Busy: taken beside pgbench with {_CLIENTS} clients. Quiet: after a checkpoint, beside nothing."
    ]
    return table


@contextmanager
def _load(source: Source, way: Way) -> Iterator[None]:
    """pgbench beside the block, which begins some seconds after it."""
    load = threading.Thread(target=lambda: pgbench(source, way, clients=_CLIENTS, duration=_PERIOD))
    load.start()
    try:
        time.sleep(_FIRST_AFTER)
        yield
    finally:
        load.join()


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

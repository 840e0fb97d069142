"""Less than a restore, and work beside one: a table, an opened snapshot, pgbench while files arrive."""

import math
import time
import uuid
from dataclasses import asdict, dataclass
from statistics import mean

from rich.console import Console

from bench.measure import Stopwatch, can_drop_caches, settle
from bench.pgbench import endpoint_of, pgbench_beside, prepare_pgbench
from bench.results import Goal, Section, Series, Table, megabytes, seconds
from bench.warehouse import Source, Warehouse

_TABLE, _TABLE_BYTES, _ROW_BYTES = "keepsake", 10e6, 136
_TABLE_SECONDS = 2.0
_MOST_FETCHED = 20e6
_OPEN_SECONDS = 1.0
_LEAST_SHARE = 0.70
_CLIENTS = 4
_REST_SECONDS = 3
_LATER_SECONDS = 10


def run_glimpses(house: Warehouse, source: Source, *, rounds: int, console: Console) -> Section:
    """One table of ten megabytes, an opened snapshot, and pgbench on a namespace whose files arrive; cold."""
    section = Section(name="Less than a restore")
    prepare_pgbench(house, source)
    size = _make_table(house, source)
    snapshot = f"glimpse-{uuid.uuid4().hex[:8]}"
    house.snapshot(source.namespace, snapshot)
    tables, opened = [], []
    for number in range(rounds):
        console.print(f"[dim]glimpses: round {number + 1}[/]")
        tables.append(_one_table(house, source, snapshot, number))
        opened.append(_open(house, snapshot))
    console.print("[dim]glimpses: pgbench while files arrive[/]")
    beside = [_beside_arrival(house, source, snapshot, number) for number in range(rounds)]
    _report_pieces(section, source, size, tables, opened)
    _report_beside(section, beside)
    return section


def _make_table(house: Warehouse, source: Source) -> int:
    """A table of about ten megabytes with a primary key; its bytes without the index."""
    with house.connect(source.workgroup) as session:
        session.execute(
            f"CREATE TABLE {_TABLE} AS SELECT * FROM orders LIMIT {_TABLE_BYTES / _ROW_BYTES:.0f}"
        )
        session.execute(f"ALTER TABLE {_TABLE} ADD PRIMARY KEY (o_orderkey)")
        session.execute(f"VACUUM (FREEZE, ANALYZE) {_TABLE}")
        found = session.execute(f"SELECT pg_table_size('{_TABLE}')").fetchone()
    assert found is not None
    return int(found[0])


def _one_table(house: Warehouse, source: Source, snapshot: str, number: int) -> tuple[float, int]:
    """Seconds until the table is there under a new name, and the bytes that were fetched for it."""
    new = f"{_TABLE}_{number}"
    settle(cold=can_drop_caches())
    watch = Stopwatch()
    fetched = house.restore_table(source.namespace, snapshot, _TABLE, new).fetched
    elapsed = watch.seconds
    with house.connect(source.workgroup) as session:
        query = "SELECT count(*), sum(o_orderkey), sum(o_totalprice) FROM "
        assert session.execute(query + _TABLE).fetchone() == session.execute(query + new).fetchone(), (
            "rows were lost"
        )
        session.execute(f"DROP TABLE {new}")
    return elapsed, fetched


def _open(house: Warehouse, snapshot: str) -> float:
    """Seconds from the call until the opened snapshot has answered."""
    settle(cold=can_drop_caches())
    watch = Stopwatch()
    with house.opened(snapshot) as session:
        assert session.execute("SELECT count(*) FROM nation").fetchone() == (25,)
        return watch.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Transactions a second, by the second: while files arrived, and afterwards for as long again."""

    arriving: list[float]
    later: list[float]


def _beside_arrival(house: Warehouse, source: Source, snapshot: str, number: int) -> Beside:
    """pgbench without a pause, from AVAILABLE on. Some seconds between the two parts belong to neither."""
    target = house.make(f"glimpse-{number}")
    settle(cold=can_drop_caches())
    house.restore(target, snapshot)
    way = endpoint_of(house, target)
    with pgbench_beside(source, way, clients=_CLIENTS) as rates:
        watch = Stopwatch()
        house.await_arrival(target)
        took = math.ceil(watch.seconds)
        time.sleep(_REST_SECONDS + max(_LATER_SECONDS, took))
    house.remove(target)
    return Beside(arriving=rates.seconds[:took], later=rates.seconds[took + _REST_SECONDS :])


def _report_pieces(
    section: Section, source: Source, size: int, tables: list[tuple[float, int]], opened: list[float]
) -> None:
    times = Series(values=tuple(elapsed for elapsed, _ in tables))
    fetched = Series(values=tuple(float(found) for _, found in tables))
    opening = Series(values=tuple(opened))
    table = Table(
        title=f"Out of a snapshot of {megabytes(source.bytes)}, cold",
        columns=["", "median", "least to largest", "runs"],
    )
    runs = str(len(tables))
    table.rows += [
        [f"one table of {megabytes(size)} comes back", seconds(times.median), f"{times.spread()} s", runs],
        ["fetched for that", megabytes(fetched.median), f"{fetched.spread(1e-6, 1)} MB", runs],
        ["opened, first answer", seconds(opening.median), f"{opening.spread()} s", runs],
    ]
    table.notes = [
        "From the call of RestoreTableFromSnapshot until it SUCCEEDED; from the call that opens until an answer.",
        "Fetched: with catalogs and the table itself, as last seen before the copy was gone.",
    ]
    section.tables.append(table)
    section.goals += [
        Goal(
            text=f"a table of {megabytes(size)} back in at most {_TABLE_SECONDS:g} s",
            found=seconds(times.median),
            reached=times.median <= _TABLE_SECONDS,
        ),
        Goal(
            text=f"at most {megabytes(_MOST_FETCHED)} fetched for it, itself included",
            found=megabytes(fetched.median),
            reached=fetched.median <= _MOST_FETCHED,
        ),
        Goal(
            text=f"a snapshot opened in at most {_OPEN_SECONDS:g} s",
            found=seconds(opening.median),
            reached=opening.median <= _OPEN_SECONDS,
        ),
    ]
    section.raw |= {"table_bytes": size, "tables": tables, "opened_seconds": opened}


def _report_beside(section: Section, beside: list[Beside]) -> None:
    arriving = [rate for one in beside for rate in one.arriving]
    later = [rate for one in beside for rate in one.later]
    table = Table(
        title=f"pgbench with {_CLIENTS} clients on a restored namespace",
        columns=["", "transactions/s, mean", "least to largest", "seconds, each"],
    )
    for title, rates, lengths in (
        ("while files arrive", arriving, [len(one.arriving) for one in beside]),
        ("afterwards", later, [len(one.later) for one in beside]),
    ):
        spread = Series(values=tuple(rates)).spread(digits=0)
        table.rows.append([title, f"{mean(rates):,.0f}", spread, ", ".join(map(str, lengths))])
    table.notes = [
        "The writing test (TPC-B) through the endpoint, without a pause from AVAILABLE on, seen by the second.",
    ]
    section.tables.append(table)
    share = mean(arriving) / mean(later)
    section.goals.append(
        Goal(
            text=f"pgbench while files arrive at least at {_LEAST_SHARE:.0%} of its later throughput",
            found=f"{share:.0%}",
            reached=share >= _LEAST_SHARE,
        )
    )
    section.raw["pgbench"] = [asdict(one) for one in beside]

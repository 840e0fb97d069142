"""What the endpoint costs: the same work through it and straight over the server's Unix socket."""

from collections.abc import Callable, Iterator
from functools import partial

from bench.measure import Stopwatch, settle
from bench.pgbench import Way, client, endpoint_of, pgbench, prepare_pgbench, socket_of
from bench.results import Section, Series, Table, seconds
from bench.warehouse import DATABASE, Source, Warehouse

_COPY = "COPY lineitem TO STDOUT"
_READING = ("-S",)


def run_relay(house: Warehouse, source: Source, *, rounds: int, duration: float) -> Section:
    """pgbench's reading test and one big COPY, in turns over both ways."""
    ways = [endpoint_of(house, source.workgroup), socket_of(source)]
    prepare_pgbench(house, source)
    section = Section(name="Endpoint")
    for title, unit, work in _works(source, duration):
        found: dict[str, list[float]] = {way.name: [] for way in ways}
        for _ in range(rounds):
            for way in ways:
                settle(cold=False)
                found[way.name].append(work(way))
        section.tables.append(_table(title, unit, found))
        section.raw[title] = {"unit": unit, **found}
    return section


def _works(source: Source, duration: float) -> Iterator[tuple[str, str, Callable[[Way], float]]]:
    """Title, unit, and what gives a figure in that unit for one way."""
    for clients in (1, 8):
        measure = partial(pgbench, source, clients=clients, duration=duration, options=_READING)
        yield f"pgbench -S, {clients} client{'s'[: clients - 1]}", "transactions/s", measure
    yield "pgbench -S -C, a connection each", "connections/s", partial(_connect, source, duration=duration)
    yield _COPY, "MB/s", partial(_copy_out, source)


def _connect(source: Source, way: Way, *, duration: float) -> float:
    return pgbench(source, way, clients=1, duration=duration, options=(*_READING, "-C"))


def _copy_out(source: Source, way: Way) -> float:
    """Millions of bytes of text a second."""
    watch = Stopwatch()
    text = client(source, "psql", way, "-X", "-q", "-c", _COPY, DATABASE)
    return len(text) / 1e6 / watch.seconds


def _table(title: str, unit: str, found: dict[str, list[float]]) -> Table:
    table = Table(
        title=f"Endpoint: {title}", columns=["", unit, "least to largest", "share of direct", "each"]
    )
    direct = Series(values=tuple(list(found.values())[-1])).median
    for name, values in found.items():
        series = Series(values=tuple(values))
        each = seconds(1 / series.median) if unit != "MB/s" else ""
        table.rows.append(
            [name, f"{series.median:,.0f}", series.spread(digits=0), f"{series.median / direct:.0%}", each]
        )
    return table

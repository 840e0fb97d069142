"""What the endpoint costs: the same work through it and straight over the server's Unix socket."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from bench.measure import Stopwatch, settle
from bench.results import Section, Series, Table, seconds
from bench.warehouse import ADMIN, DATABASE, PASSWORD, Source, Warehouse

_BENCH_DATABASE = "pgbench"
_BENCH_SCALE = 10
_COPY = "COPY lineitem TO STDOUT"


@dataclass(frozen=True, kw_only=True)
class _Way:
    """How clients reach the server."""

    name: str
    host: str
    port: int


def run_relay(house: Warehouse, source: Source, *, rounds: int, duration: float) -> Section:
    """pgbench's reading test and one big COPY, in turns over both ways."""
    ways = _ways(house, source)
    _prepare(house, source, ways[-1])
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


def _works(source: Source, duration: float) -> Iterator[tuple[str, str, Callable[[_Way], float]]]:
    """Title, unit, and what gives a figure in that unit for one way."""
    for clients in (1, 8):
        measure = partial(_pgbench, source, clients=clients, duration=duration)
        yield f"pgbench -S, {clients} client{'s'[: clients - 1]}", "transactions/s", measure
    yield "pgbench -S -C, a connection each", "connections/s", partial(_connect, source, duration=duration)
    yield _COPY, "MB/s", partial(_copy_out, source)


def _ways(house: Warehouse, source: Source) -> list[_Way]:
    endpoint = house.client.get_workgroup(workgroupName=source.workgroup)["workgroup"]["endpoint"]
    return [
        _Way(name="through the endpoint, TCP", host=endpoint["address"], port=endpoint["port"]),
        _Way(
            name="Unix socket of the server",
            host=str(source.cluster.socket_directory),
            port=source.cluster.socket_port,
        ),
    ]


def _prepare(house: Warehouse, source: Source, direct: _Way) -> None:
    with house.connect(source.workgroup) as connection:
        connection.execute(f"CREATE DATABASE {_BENCH_DATABASE}")
    _client(source, "pgbench", direct, "-i", "-q", "-s", str(_BENCH_SCALE), _BENCH_DATABASE)


def _pgbench(
    source: Source, way: _Way, *, clients: int, duration: float, extra: tuple[str, ...] = ()
) -> float:
    options = (
        "-S",
        "-M",
        "prepared",
        "-c",
        str(clients),
        "-j",
        str(min(clients, 2)),
        "-T",
        f"{duration:.0f}",
    )
    text = _client(source, "pgbench", way, "-n", *options, *extra, _BENCH_DATABASE)
    found = re.search(rb"^tps = ([0-9.]+)", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def _connect(source: Source, way: _Way, *, duration: float) -> float:
    return _pgbench(source, way, clients=1, duration=duration, extra=("-C",))


def _copy_out(source: Source, way: _Way) -> float:
    """Millions of bytes of text a second."""
    watch = Stopwatch()
    text = _client(source, "psql", way, "-X", "-q", "-c", _COPY, DATABASE)
    return len(text) / 1e6 / watch.seconds


def _client(source: Source, program: str, way: _Way, *arguments: str) -> bytes:
    done = subprocess.run(
        [
            str(source.cluster.installation.program(program)),
            *("-h", way.host, "-p", str(way.port), "-U", ADMIN),
            *arguments,
        ],
        env=os.environ | {"PGPASSWORD": PASSWORD, "PGSSLMODE": "disable"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


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

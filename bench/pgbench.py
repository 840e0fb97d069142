"""pgbench and psql, over one way to a server or another."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.warehouse import ADMIN, PASSWORD, Source, Warehouse

DATABASE = "pgbench"
_SCALE = 10
_LONGEST_SECONDS = 3600
_PROGRESS = re.compile(r"^progress: [0-9.]+ s, ([0-9.]+) tps", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How clients reach the server."""

    name: str
    host: str
    port: int


def endpoint_of(house: Warehouse, workgroup: str) -> Way:
    """Through Stillframe's endpoint."""
    endpoint = house.client.get_workgroup(workgroupName=workgroup)["workgroup"]["endpoint"]
    return Way(name="through the endpoint, TCP", host=endpoint["address"], port=endpoint["port"])


def socket_of(source: Source) -> Way:
    """Straight to the server."""
    cluster = source.cluster
    return Way(name="Unix socket of the server", host=str(cluster.socket_directory), port=cluster.socket_port)


def prepare_pgbench(house: Warehouse, source: Source) -> None:
    """pgbench's tables (about 150 MB) in a database of their own, once."""
    with house.connect(source.workgroup) as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
            return
        connection.execute(f"CREATE DATABASE {DATABASE}")
    client(source, "pgbench", socket_of(source), "-i", "-q", "-s", str(_SCALE), DATABASE)


def pgbench(
    source: Source, way: Way, *, clients: int, duration: float, options: tuple[str, ...] = ()
) -> float:
    """Transactions a second."""
    text = client(source, "pgbench", way, *_load(clients, duration), *options, DATABASE)
    found = re.search(rb"^tps = ([0-9.]+)", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


@dataclass(slots=True)
class Rates:
    """Transactions a second, by the second; known when the load has ended."""

    seconds: list[float] = field(default_factory=list)


@contextmanager
def pgbench_beside(source: Source, way: Way, *, clients: int) -> Iterator[Rates]:
    """pgbench for the length of the block; its rates, the first of them those of the block's first second."""
    rates = Rates()
    command = _command(source, "pgbench", way, *_load(clients, _LONGEST_SECONDS), "-P", "1", DATABASE)
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
        )
        try:
            yield rates
            assert process.poll() is None, "pgbench ended by itself"
        finally:
            process.terminate()
            process.wait()
        said.seek(0)
        rates.seconds += [float(rate) for rate in _PROGRESS.findall(said.read())]


def client(source: Source, program: str, way: Way, *arguments: str) -> bytes:
    """Run one of PostgreSQL's clients as the admin; what it printed."""
    done = subprocess.run(
        _command(source, program, way, *arguments),
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def _load(clients: int, duration: float) -> list[str]:
    return ["-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2)), "-T", f"{duration:.0f}"]


def _command(source: Source, program: str, way: Way, *arguments: str) -> list[str]:
    path = str(source.cluster.installation.program(program))
    return [path, "-h", way.host, "-p", str(way.port), "-U", ADMIN, *arguments]


def _environment() -> dict[str, str]:
    return os.environ | {"PGPASSWORD": PASSWORD, "PGSSLMODE": "disable"}

"""pgbench and psql, over one way to a server or another."""

import os
import re
import subprocess
from dataclasses import dataclass

from bench.warehouse import ADMIN, PASSWORD, Source, Warehouse

DATABASE = "pgbench"
_SCALE = 10


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
    load = ("-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2)), "-T", f"{duration:.0f}")
    text = client(source, "pgbench", way, *load, *options, DATABASE)
    found = re.search(rb"^tps = ([0-9.]+)", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def client(source: Source, program: str, way: Way, *arguments: str) -> bytes:
    """Run one of PostgreSQL's clients as the admin; what it printed."""
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

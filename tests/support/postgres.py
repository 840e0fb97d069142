"""Real clusters for tests: made quickly, on a directory the server's user can reach, gone at the end."""

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import psycopg

from stillframe.postgres.cluster import Cluster, StopMode
from stillframe.postgres.identity import ServerIdentity, server_identity
from stillframe.postgres.installation import Installation, find_installation
from stillframe.postgres.roles import prepare_namespace
from stillframe.postgres.scram import scram_verifier
from stillframe.postgres.settings import MEGABYTE, ServerSettings

ADMIN = "admin"
PASSWORD = "Correct7horse"
SMALL = ServerSettings(
    max_connections=40,
    shared_buffers=32 * MEGABYTE,
    max_wal_size=256 * MEGABYTE,
    # Tests kill processes, not machines.
    extra={"fsync": "off"},
)
# Pages change when a test changes them, and at no other time.
QUIET = replace(SMALL, extra={**SMALL.extra, "autovacuum": "off"})


def machine() -> tuple[ServerIdentity, Installation]:
    """The OS user and the programs that servers run with here."""
    identity = server_identity()
    return identity, find_installation(None, identity=identity)


@contextmanager
def reachable_directory() -> Iterator[Path]:
    """A short, temporary directory that the server's user may enter; pytest's own are closed to it."""
    path = Path(tempfile.mkdtemp(prefix="sf-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def cluster_in(directory: Path) -> Cluster:
    """A cluster of that directory, not yet made."""
    identity, installation = machine()
    return Cluster(
        installation=installation,
        identity=identity,
        data_directory=directory / "data",
        socket_directory=directory / "run",
        log_directory=directory / "log",
    )


@contextmanager
def stopped_at_the_end(*clusters: Cluster) -> Iterator[None]:
    """End the servers of these clusters when the block is left, however that happens."""
    try:
        yield
    finally:
        for cluster in clusters:
            cluster.stop(StopMode.IMMEDIATE, deadline=20)


@contextmanager
def running_namespace(settings: ServerSettings = SMALL) -> Iterator[Cluster]:
    """A started cluster with an admin and a database `dev`: a copy of one that is made once a test process."""
    with reachable_directory() as directory:
        cluster = cluster_in(directory)
        subprocess.run(["cp", "-a", str(_template()), str(cluster.data_directory)], check=True)
        with stopped_at_the_end(cluster):
            cluster.start(settings)
            yield cluster


@cache
def _template() -> Path:
    kept = ExitStack()
    atexit.register(kept.close)
    cluster = cluster_in(kept.enter_context(reachable_directory()))
    with stopped_at_the_end(cluster):
        cluster.initialize()
        cluster.start(SMALL)
        prepare_namespace(cluster, admin=ADMIN, verifier=scram_verifier(PASSWORD), database="dev")
        cluster.stop()
    return cluster.data_directory


def login(
    cluster: Cluster, user: str = ADMIN, password: str = PASSWORD, *, database: str = "dev"
) -> "psycopg.Connection[tuple[object, ...]]":
    """A user's own connection, in autocommit."""
    return psycopg.connect(
        host=str(cluster.socket_directory),
        port=cluster.socket_port,
        user=user,
        password=password,
        dbname=database,
        autocommit=True,
        passfile=os.devnull + "/none",
    )


def pgbench(cluster: Cluster, *options: str) -> None:
    """Run pgbench as the admin on `dev`, to its end."""
    subprocess.run(_pgbench_command(cluster, *options), env=_environment(), check=True, capture_output=True)


def pgbench_beside(cluster: Cluster, *options: str) -> "subprocess.Popen[bytes]":
    """Start pgbench as the admin on `dev`; the caller waits for it."""
    command = _pgbench_command(cluster, *options)
    return subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _pgbench_command(cluster: Cluster, *options: str) -> list[str]:
    program = str(cluster.installation.program("pgbench"))
    return [program, *options, "-h", str(cluster.socket_directory), "-U", ADMIN, "dev"]


def _environment() -> dict[str, str]:
    return {**os.environ, "PGPASSWORD": PASSWORD}

"""Real servers as the service will run them, and an endpoint process in front of them."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stillframe.endpoint.client import EndpointClient, Timeouts
from stillframe.endpoint.routes import Route
from stillframe.errors import StillframeError
from stillframe.postgres.machine import find_machine

SERVER_USER = "stillframe"
ENDPOINT_USER = "nobody"
PASSWORD = "correct horse 8"
HBA = """
local all stillframe peer map=service
local all all scram-sha-256
local replication all scram-sha-256
"""
SETTINGS = """
listen_addresses = ''
port = 5432
max_connections = 300
shared_buffers = 32MB
fsync = off
password_encryption = 'scram-sha-256'
logging_collector = off
"""


@cache
def binaries() -> Path:
    """PostgreSQL's programs where the server's user reaches them, wherever the checkout lies."""
    return find_machine(None, server_user=SERVER_USER).installation.bin_directory


def is_root() -> bool:
    return os.geteuid() == 0


def own_user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def server_account() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as: it refuses root."""
    if not is_root():
        return None
    deadline = time.monotonic() + 10
    while True:
        with suppress(KeyError):
            return pwd.getpwnam(SERVER_USER)
        assert time.monotonic() < deadline, f"the user {SERVER_USER} cannot be made"
        # Another worker may be making it at this moment; then this attempt fails.
        subprocess.run(
            ["useradd", "--system", "--no-create-home", SERVER_USER], check=False, capture_output=True
        )
        time.sleep(0.1)


@dataclass
class Server:
    """A cluster that listens on a Unix socket only; the service role by peer, everybody else by SCRAM."""

    directory: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        account = server_account()
        log = (self.directory / "log").open("ab")
        with log:
            return subprocess.Popen(
                [str(binaries() / command[0]), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )

    def initialize(self) -> None:
        self.data.mkdir(mode=0o700)
        account = server_account()
        if account is not None:
            os.chown(self.directory, account.pw_uid, account.pw_gid)
            os.chown(self.data, account.pw_uid, account.pw_gid)
        made = self._run(
            "initdb", "-D", str(self.data), "-U", "stillframe", "-E", "UTF8", "--no-sync",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
        )  # fmt: skip
        assert made.wait(60) == 0, (self.directory / "log").read_text()
        (self.data / "pg_hba.conf").write_text(HBA)
        (self.data / "pg_ident.conf").write_text(f"service {own_user()} stillframe\n")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"{SETTINGS}unix_socket_directories = '{self.directory}'\n")

    def start(self) -> None:
        self.process = self._run("postgres", "-D", str(self.data))
        deadline = time.monotonic() + 30
        while True:
            try:
                self.service().close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self.directory / "log").read_text()
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(20)
            self.process = None

    def service(self) -> psycopg.Connection:
        """A connection as the service itself has it, past the endpoint."""
        return psycopg.connect(
            host=str(self.directory), port=5432, user="stillframe", dbname="postgres", autocommit=True
        )


def make_server() -> Server:
    directory = Path(tempfile.mkdtemp(prefix="sf-"))  # not below tmp_path: others must be able to enter it
    directory.chmod(0o755)
    server = Server(directory)
    server.initialize()
    server.start()
    with server.service() as connection:
        connection.execute(f"CREATE ROLE ann LOGIN PASSWORD '{PASSWORD}'")
        connection.execute(f"CREATE ROLE \"Stillframe\" LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("CREATE DATABASE dev OWNER ann")
    return server


def dispose(server: Server) -> None:
    server.stop()
    shutil.rmtree(server.directory)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A running server with role `ann` and database `dev`, shared by the tests of one worker."""
    made = make_server()
    yield made
    dispose(made)


@pytest.fixture
def other_server() -> Iterator[Server]:
    """One more, for a test that stops it or switches to it."""
    made = make_server()
    yield made
    dispose(made)


@dataclass
class Endpoint:
    """An endpoint process with one route."""

    client: EndpointClient
    control: Path
    route: Route
    pid: int

    def connect(self, user: str = "ann", **options: Any) -> psycopg.Connection:
        values: dict[str, Any] = {"dbname": "dev", "password": PASSWORD, "autocommit": True} | options
        return psycopg.connect(host=self.route.host, port=self.route.port, user=user, **values)

    def relay_to(self, server: Server) -> None:
        self.client.open(replace(self.route, socket_directory=server.directory))

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        wait_gone(self.pid)


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def make_client(control: Path, **timeouts: float) -> EndpointClient:
    user = ENDPOINT_USER if is_root() else None
    return EndpointClient(control, user=user, timeouts=Timeouts(**timeouts), deadline=20)


@contextmanager
def running_endpoint(control: Path, server: Server, **timeouts: float) -> Iterator[Endpoint]:
    client = make_client(control, **timeouts)
    pid = client.ensure_running().pid
    route = Route(route_id="wg-1", port=free_port(), socket_directory=server.directory, socket_port=5432)
    endpoint = Endpoint(client=client, control=control, route=route, pid=pid)
    try:
        client.open(route)
        yield endpoint
    finally:
        with suppress(StillframeError):
            client.shutdown(seconds=0.5)


@pytest.fixture
def endpoint(tmp_path: Path, server: Server) -> Iterator[Endpoint]:
    """An endpoint process that relays to the shared server."""
    with running_endpoint(tmp_path / "endpoint.sock", server) as running:
        yield running


@pytest.fixture
def impatient_endpoint(tmp_path: Path, server: Server) -> Iterator[Endpoint]:
    """One that lets connections to a paused route wait for a moment only."""
    with running_endpoint(tmp_path / "endpoint.sock", server, pause=0.2) as running:
        yield running


@pytest.fixture
def client_for() -> Callable[[Path], EndpointClient]:
    """A client of the endpoint process at a control path."""
    return make_client

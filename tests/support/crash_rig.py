"""A service as a process of its own that a test may kill, look at from outside, and start again."""

import contextlib
import os
import secrets
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

import stillframe
from stillframe.app import stop_all
from stillframe.app.composition import Parts, build_parts
from stillframe.clients import API, EXTENSION, hermetic_session, read_address
from stillframe.config import Settings, load_settings
from stillframe.errors import StillframeError
from support.crash_fingerprint import Login
from support.crash_processes import Process, kill, processes

Result = TypeVar("Result")

PATIENCE = 30.0
"""Seconds within which everything has to be in order again after a crash."""

READY = 60.0
ALL_POINTS = os.environ.get("STILLFRAME_CRASH_POINTS") == "all"
"""Whether every crash is wanted, not a spread of them."""

BUSY = {"CREATING", "MODIFYING", "DELETING"}
UNFINISHED = {"queued", "running"}
_PAUSE = 0.05

NotNow = (ClientError, BotoCoreError, OSError)
"""What a client may see while parts of the service are down."""


class Rig:
    """One data directory and the service on it. Use as a context manager: it leaves no process behind."""

    def __init__(self, root: Path | None = None, **environment: str) -> None:
        # Of this rig alone: other services on this machine may get a port that a crash has freed.
        self.password = f"Crash1Proof{secrets.token_hex(6)}"
        self._given = root
        self.root = root or _passable_directory()
        self.data = self.root / "data"
        self._environment = {"STILLFRAME_SWEEP_SECONDS": "1", "STILLFRAME_LOG_JSON": "true"} | environment
        self._service: subprocess.Popen[bytes] | None = None
        self._exit_pipe: int | None = None
        self._session: Any = None
        self._clients: dict[str, Any] = {}

    def __enter__(self) -> "Rig":
        return self

    def __exit__(self, *_: object) -> None:
        self.tear_down()

    @property
    def settings(self) -> Settings:
        """The settings as the service has them, as far as they say where things are."""
        return load_settings(overrides={"data": self.data, "port": 0})

    @property
    def log(self) -> Path:
        """What the service and its worker said."""
        return self.root / "service.log"

    # --- the service ----------------------------------------------------------------------------------------

    def launch(self) -> "subprocess.Popen[bytes]":
        """Start the process and do not wait for anything."""
        self._let_go()
        reader, self._exit_pipe = os.pipe()
        command = [sys.executable, "-P", "-m", "stillframe", "serve", "--data", str(self.data), "--port", "0"]
        with self.log.open("ab") as log:
            self._service = subprocess.Popen(
                [*command, "--exit-with-fd", str(reader)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.process_environment(),
                pass_fds=(reader,),
                start_new_session=True,
            )
        os.close(reader)
        return self._service

    def start(self) -> "Rig":
        """Start the service and wait for its ready line."""
        service = self.launch()
        assert service.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(service.stdout, selectors.EVENT_READ)
            assert selector.select(READY), f"not ready after {READY} s:\n{self.tail()}"
        assert service.stdout.readline(), f"ended with {service.wait()} before it was ready:\n{self.tail()}"
        self._clients = {}
        return self

    @property
    def service(self) -> "subprocess.Popen[bytes]":
        """The process that was started last."""
        assert self._service is not None
        return self._service

    @property
    def is_running(self) -> bool:
        """Whether the service's process is there."""
        return self._service is not None and self._service.poll() is None

    def ensure_running(self) -> None:
        """Start the service when it was killed, as a process supervisor would."""
        if not self.is_running:
            self.start()

    def terminate(self, seconds: float = PATIENCE) -> int:
        """SIGTERM; the exit status."""
        self.service.terminate()
        return self.service.wait(seconds)

    def process_environment(self) -> dict[str, str]:
        """The environment of the service."""
        source = str(Path(stillframe.__file__).parents[1])
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PG", "STILL"))
        }
        return kept | {"PYTHONPATH": source} | self._environment

    def _let_go(self) -> None:
        if self._service is not None:
            if self._service.poll() is None:
                self._service.kill()
            self._service.wait()
            assert self._service.stdout is not None
            self._service.stdout.close()
        if self._exit_pipe is not None:
            os.close(self._exit_pipe)
        self._service, self._exit_pipe = None, None

    # --- from outside ---------------------------------------------------------------------------------------

    def client(self, service: str = API) -> Any:
        """A boto3 client that asks once and does not wait long."""
        if service not in self._clients:
            address = read_address(self.settings.paths.service_file)
            self._session = self._session or boto3.Session(botocore_session=hermetic_session())
            self._clients[service] = self._session.client(
                service,
                endpoint_url=address.endpoint_url,
                region_name=address.region,
                aws_access_key_id=address.access_key_id,
                aws_secret_access_key=address.secret_access_key,
                config=Config(
                    retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=15, proxies={}
                ),
            )
        return self._clients[service]

    def processes(self) -> list[Process]:
        """Everything that runs for this data directory."""
        return processes(self.data)

    @contextmanager
    def parts(self) -> Iterator[Parts]:
        """The catalog and the repositories, looked at by this process."""
        parts = build_parts(self.settings)
        try:
            yield parts
        finally:
            parts.catalog.close()

    def login(self, workgroup: str, password: str | None = None) -> Login:
        """Where the workgroup's databases answer."""
        endpoint = self.client().get_workgroup(workgroupName=workgroup)["workgroup"]["endpoint"]
        return Login(port=endpoint["port"], password=password or self.password)

    def operations(self) -> list[dict[str, Any]]:
        """All operations, newest last."""
        pages: list[dict[str, Any]] = []
        token: str | None = None
        while True:
            more: dict[str, str] = {"nextToken": token} if token else {}
            answer = self.client(EXTENSION).list_operations(**more)
            pages += answer["operations"]
            token = answer.get("nextToken")
            if token is None:
                return pages

    def resources(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Namespaces, workgroups and snapshots by name."""
        client = self.client()
        lists = {
            "namespace": client.get_paginator("list_namespaces").paginate().build_full_result()["namespaces"],
            "workgroup": client.get_paginator("list_workgroups").paginate().build_full_result()["workgroups"],
            "snapshot": client.get_paginator("list_snapshots").paginate().build_full_result()["snapshots"],
        }
        return {kind: {item[f"{kind}Name"]: item for item in items} for kind, items in lists.items()}

    def settle(self, seconds: float = PATIENCE) -> dict[str, dict[str, dict[str, Any]]]:
        """Wait until nothing is in between two states any more; the resources as they then are."""
        return eventually(self._settled, seconds=seconds, told="the service did not settle", rig=self)

    def _settled(self) -> dict[str, dict[str, dict[str, Any]]]:
        # Operations first: one that is accepted later finds its resource busy.
        unfinished = [one for one in self.operations() if one["status"] in UNFINISHED]
        resources = self.resources()
        busy = [
            (name, item["status"])
            for items in resources.values()
            for name, item in items.items()
            if item["status"] in BUSY
        ]
        assert not unfinished, unfinished
        assert not busy, busy
        return resources

    def tail(self, lines: int = 60) -> str:
        """The end of the log, without the requests that went well."""
        if not self.log.exists():
            return "(no log)"
        said = self.log.read_text(errors="replace").splitlines()
        return "\n".join([line for line in said if '"code": "OK"' not in line][-lines:])

    # --- the end --------------------------------------------------------------------------------------------

    def tear_down(self) -> None:
        """End every process of the directory, whatever state it is in, and remove it."""
        if self.is_running:
            self.service.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.service.wait(PATIENCE)
        self._let_go()
        with contextlib.suppress(StillframeError):
            stop_all(self.settings)
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            kill(left)
            time.sleep(_PAUSE)
        if self._given is None:
            _remove(self.root)
        assert not left, left


def eventually(look: Callable[[], Result], *, seconds: float, told: str, rig: Rig) -> Result:
    """Repeat `look` until it neither fails nor is refused; what it returns."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return look()
        except (AssertionError, *NotNow) as error:
            if time.monotonic() > deadline:
                message = f"{told} within {seconds:.0f} s: {type(error).__name__}: {error}\n{rig.tail()}"
                raise AssertionError(message) from error
        time.sleep(_PAUSE)


def free_port() -> int:
    """A port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _passable_directory() -> Path:
    """A directory that the servers' user can reach, with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="crash-"))
    path.chmod(0o711)
    return path


def _remove(path: Path) -> None:
    deadline = time.monotonic() + 5
    while path.exists() and time.monotonic() < deadline:
        shutil.rmtree(path, ignore_errors=True)

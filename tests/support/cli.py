"""A service that answers what a test tells it to, spoken to by real SDK clients over real HTTP."""

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import stillframe

Parameters = dict[str, Any]
Answer = Mapping[str, Any] | Callable[[Parameters], Mapping[str, Any]]


def environment() -> dict[str, str]:
    """Our environment, without settings, with this very package importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STILLFRAME_"))}
    return kept | {"PYTHONPATH": str(Path(stillframe.__file__).parents[1])}


class Refusal(Exception):
    """What a test raises in an answer to let the service answer with an error."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class StubService:
    """Answers by operation name; remembers the calls."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.calls: list[tuple[str, Parameters]] = []
        self.authorizations: list[str] = []
        self.url = ""

    def called(self, operation: str) -> list[Parameters]:
        """The parameters of every call of one operation."""
        return [parameters for name, parameters in self.calls if name == operation]

    def answer(self, target: str, parameters: Parameters) -> tuple[int, dict[str, str], Mapping[str, Any]]:
        """Status, headers and body of one request."""
        operation = target.rpartition(".")[2]
        self.calls.append((operation, parameters))
        headers = {"x-amzn-RequestId": f"request-{len(self.calls)}"}
        prepared = self.answers.get(operation)
        try:
            if prepared is None:
                raise Refusal(
                    "UnknownOperationException", f"Stillframe does not offer {operation} yet.", status=404
                )
            return 200, headers, prepared(parameters) if callable(prepared) else prepared
        except Refusal as refusal:
            return refusal.status, headers, {"__type": refusal.code, "message": refusal.message}

    def write_service_file(self, data: Path, *, pid: int) -> None:
        """Pretend to be the service that runs on this data directory."""
        (data / "run").mkdir(parents=True, exist_ok=True)
        (data / "run" / "service.json").write_text(
            json.dumps(
                {
                    "endpoint_url": self.url,
                    "region": "eu-central-1",
                    "account_id": "123456789012",
                    "access_key_id": "AKIASTUB",
                    "secret_access_key": "it's a $ecret",
                    "pid": pid,
                    "version": "0.1.0",
                }
            )
        )


@contextmanager
def running_stub() -> Iterator[StubService]:
    """A stub on a free port, for the length of the block."""
    stub = StubService()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            stub.authorizations.append(self.headers.get("authorization", ""))
            status, headers, document = stub.answer(self.headers["x-amz-target"], json.loads(body))
            encoded = json.dumps(document).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/x-amz-json-1.1")
            self.send_header("content-length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        stub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()


def snapshot_answer(
    name: str, *, status: str = "AVAILABLE", created: str = "2026-11-23T10:00:00.000Z", **detail: Any
) -> dict[str, Any]:
    """An answer of DescribeSnapshot."""
    return {
        "snapshot": {
            "snapshotName": name,
            "status": status,
            "namespaceName": "shop",
            "snapshotCreateTime": created,
            "snapshotRetentionPeriod": -1,
        },
        "detail": detail,
    }

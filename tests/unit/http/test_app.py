"""The application over real connections."""

import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from stillframe.aws.dispatch import Dispatcher
from stillframe.domain.clock import SystemClock
from stillframe.http.api import ApiEndpoint, ApiLimits
from stillframe.http.app import create_app
from stillframe.http.body import BodyLimits
from stillframe.telemetry.metrics import Metrics
from support.aws import Anybody, dispatcher, request, signed, verifier
from support.http import Answer, Served, read_all, served

pytestmark = pytest.mark.unit

MIB = 1024 * 1024
TARGET = {"X-Amz-Target": "RedshiftServerless.ListSnapshots"}


class Service:
    """An application whose ListSnapshots does what the test wants."""

    def __init__(self, limits: ApiLimits | None = None, *, wire: Dispatcher | None = None) -> None:
        self.is_ready = True
        self.handle: Any = lambda _caller, _members: {}
        self.metrics = Metrics()
        wire = wire or dispatcher({"ListSnapshots": self._list_snapshots})
        api = ApiEndpoint(dispatcher=wire, metrics=self.metrics, clock=SystemClock(), limits=limits)
        self.app = create_app(
            api=api,
            metrics=self.metrics,
            ready=lambda: self.is_ready,
            pages=[Route("/console", lambda _request: PlainTextResponse("a page"))],
        )

    def _list_snapshots(self, caller: Any, members: Any) -> Any:
        return self.handle(caller, members)

    def count(self, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value("stillframe_requests_total", labels)


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Service, Served]]:
    made = Service()
    with served(made.app) as at:
        yield made, at


def list_snapshots(at: Served, body: bytes = b"{}") -> Answer:
    return at.ask("POST", "/", body, TARGET)


def test_a_request_is_answered_with_the_id_of_its_log_line(service: tuple[Service, Served]) -> None:
    _, at = service
    with capture_logs() as lines:
        answer = list_snapshots(at)
    assert (answer.status, answer.body) == (200, b'{"snapshots":[]}')
    assert answer.headers["content-type"] == "application/x-amz-json-1.1"
    assert str(uuid.UUID(answer.headers["x-amzn-requestid"])) == answer.headers["x-amzn-requestid"]
    assert answer.headers["date"].endswith(" GMT")
    line = next(line for line in lines if line["event"] == "request_answered")
    assert (line["operation"], line["code"], line["status"]) == ("ListSnapshots", "OK", 200)
    assert line["account"] == "123456789012"
    assert line["seconds"] > 0


def test_a_signed_request_is_believed_over_a_real_connection() -> None:
    made = Service(wire=dispatcher({"ListSnapshots": lambda _c, _m: {}}, authenticator=verifier()))
    with served(made.app) as at:
        headers = dict(signed(request("ListSnapshots", b"{}")).headers)
        assert at.ask("POST", "/", b"{}", headers).status == 200
        assert at.ask("POST", "/", b'{"maxResults":1}', headers).json["__type"] == "InvalidSignatureException"
        assert at.ask("POST", "/?a=b", b"{}", headers).json["__type"] == "InvalidSignatureException"


def test_the_request_id_is_on_every_line_written_on_the_way(service: tuple[Service, Served]) -> None:
    import structlog

    made, at = service
    seen: list[dict[str, Any]] = []

    def handle(_caller: Any, _members: Any) -> dict[str, Any]:
        seen.append(dict(structlog.contextvars.get_contextvars()))
        return {}

    made.handle = handle
    answer = list_snapshots(at)
    assert seen == [{"request_id": answer.headers["x-amzn-requestid"]}]


def test_a_failure_of_ours_shows_no_traceback(service: tuple[Service, Served]) -> None:
    made, at = service

    def handle(_caller: Any, _members: Any) -> dict[str, Any]:
        raise RuntimeError("hunter2")

    made.handle = handle
    with capture_logs() as lines:
        answer = list_snapshots(at)
    assert answer.status == 500
    assert answer.json["__type"] == "InternalServerException"
    assert b"hunter2" not in answer.body
    assert [line["event"] for line in lines] == ["request_failed", "request_answered"]


def test_a_failure_in_the_endpoint_itself_is_answered_and_logged() -> None:
    class Broken(Dispatcher):
        def handle(self, request: Any) -> Any:
            raise RuntimeError("hunter2")

    wire = Broken(models=[], handlers={}, authenticator=Anybody(), clock=SystemClock())
    with served(Service(wire=wire).app) as at, capture_logs() as lines:
        answer = list_snapshots(at)
    assert answer.json["__type"] == "InternalServerException"
    assert [line["event"] for line in lines] == ["request_failed", "request_answered"]


def test_health_follows_readiness(service: tuple[Service, Served]) -> None:
    made, at = service
    assert (at.ask("GET", "/health").status, at.ask("GET", "/health").json) == (200, {"status": "ok"})
    made.is_ready = False
    assert at.ask("GET", "/health").status == 503
    made.is_ready = True


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 405),
        ("PUT", "/", 405),
        ("POST", "/health", 405),
        ("GET", "/nothing", 404),
        ("POST", "/x", 404),
    ],
)
def test_what_is_not_offered_is_told_in_json(
    service: tuple[Service, Served], method: str, path: str, status: int
) -> None:
    answer = service[1].ask(method, path)
    assert answer.status == status
    assert answer.json == {"message": f"{method} {path} is not offered here. The API is POST /."}


def test_pages_are_served_beside_the_api(service: tuple[Service, Served]) -> None:
    assert service[1].ask("GET", "/console").body == b"a page"


def test_metrics_are_prometheus_text_with_bounded_labels() -> None:
    made = Service()
    with served(made.app) as at:
        list_snapshots(at)
        for number in range(3):
            at.ask("POST", "/", b"{}", {"X-Amz-Target": f"Nothing.{number}"})
        answer = at.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name for family in text_string_to_metric_families(answer.body.decode())}
    assert {"stillframe_requests", "stillframe_request_seconds"} <= families
    assert made.count(operation="ListSnapshots", code="OK") == 1
    assert made.count(operation="unknown", code="UnknownOperationException") == 3


def test_a_body_of_exactly_the_limit_is_read(service: tuple[Service, Served]) -> None:
    made, at = service
    made.handle = lambda _caller, _members: {}
    assert list_snapshots(at, b'{"x":"' + b"y" * (MIB - 8) + b'"}').status == 200


def test_a_body_beyond_the_limit_is_refused_and_the_client_can_read_it(
    service: tuple[Service, Served],
) -> None:
    answer = list_snapshots(service[1], b'{"x":"' + b"y" * (MIB - 7) + b'"}')
    assert (answer.status, answer.json["__type"]) == (413, "RequestEntityTooLarge")
    assert answer.headers["x-amzn-errortype"] == "RequestEntityTooLarge"
    assert answer.headers["connection"] == "close"


def chunk(size: int) -> bytes:
    return f"{size:x}\r\n".encode() + b"y" * size + b"\r\n"


HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: RedshiftServerless.ListSnapshots\r\n"


def test_a_chunked_body_beyond_the_limit_is_refused_too(service: tuple[Service, Served]) -> None:
    with service[1].connect() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        connection.sendall(chunk(65536) * 17 + b"0\r\n\r\n")
        received = read_all(connection)
    assert received.startswith(b"HTTP/1.1 413 ")


def test_an_endless_body_ends_the_connection(service: tuple[Service, Served]) -> None:
    block = chunk(MIB)
    sent = 0
    with service[1].connect() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(200):
                connection.sendall(block)
                sent += 1
        except OSError:
            pass
    assert sent < 100


def test_a_client_that_asks_first_need_not_send_what_will_be_refused(service: tuple[Service, Served]) -> None:
    with service[1].connect() as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 5000000\r\n\r\n")
        received = read_all(connection)
    assert received.startswith(b"HTTP/1.1 413 ")


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    limits = ApiLimits(body=BodyLimits(seconds=0.2))
    with served(Service(limits).app) as at, at.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 10\r\n\r\n{")
        received = read_all(connection)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b'"__type":"RequestTimeout"' in received


def test_a_client_that_goes_away_within_its_request_is_counted(service: tuple[Service, Served]) -> None:
    made, at = service
    connection = at.connect()
    connection.sendall(HEAD + b"Content-Length: 10\r\n\r\n{")
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()
    assert within(5, lambda: made.count(operation="ListSnapshots", code="MalformedHttpRequestException") == 1)


def within(seconds: float, true: Any) -> bool:
    """Whether it becomes true in that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.01)
    return False


def test_no_more_requests_work_at_once_than_there_are_threads_and_the_rest_is_told() -> None:
    made = Service(ApiLimits(threads=2, wait_seconds=0.3))
    release = threading.Event()
    entered = threading.Semaphore(0)
    most = 2

    def handle(_caller: Any, _members: Any) -> dict[str, Any]:
        entered.release()
        assert release.wait(10)
        return {}

    made.handle = handle
    with served(made.app) as at, ThreadPoolExecutor(3) as pool:
        working = [pool.submit(list_snapshots, at) for _ in range(most)]
        assert entered.acquire(timeout=5)
        assert entered.acquire(timeout=5)
        refused = pool.submit(list_snapshots, at).result()
        assert (refused.status, refused.json["__type"]) == (503, "ServiceUnavailable")
        assert at.ask("GET", "/health").status == 200
        release.set()
        assert [future.result().status for future in working] == [200, 200]
        assert list_snapshots(at).status == 200


def test_requests_under_way_end_before_the_server_does() -> None:
    made = Service()
    entered, release = threading.Event(), threading.Event()

    def handle(_caller: Any, _members: Any) -> dict[str, Any]:
        entered.set()
        assert release.wait(10)
        return {}

    made.handle = handle
    with ThreadPoolExecutor(1) as pool:
        with served(made.app, grace_seconds=10) as at:
            future = pool.submit(list_snapshots, at)
            assert entered.wait(5)
            threading.Timer(0.3, release.set).start()
        assert future.result().status == 200


def test_a_request_that_never_ends_does_not_keep_the_server_from_ending() -> None:
    made = Service()
    entered, release = threading.Event(), threading.Event()

    def handle(_caller: Any, _members: Any) -> dict[str, Any]:
        entered.set()
        assert release.wait(30)
        return {}

    made.handle = handle
    with served(made.app, grace_seconds=1) as at, at.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")
        assert entered.wait(5)
    # `served` has seen the server end; only now may the handler.
    release.set()

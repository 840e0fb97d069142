"""`POST /`: the AWS API over HTTP."""

import uuid
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
import structlog
from starlette.requests import Request
from starlette.responses import Response

from stillframe.aws.dispatch import Dispatcher
from stillframe.aws.errors import ProtocolCode, ProtocolError
from stillframe.aws.messages import RawRequest, RawResponse
from stillframe.domain.clock import Clock, IdSource
from stillframe.http.body import BodyLimits, read_body
from stillframe.telemetry.metrics import Metrics

_CLOSING = frozenset({408, 413})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiLimits:
    """How much is served at once: threads that work, and seconds a request may wait for one of them."""

    threads: int = 16
    wait_seconds: float = 30.0
    body: BodyLimits = field(default_factory=BodyLimits)


class ApiEndpoint:
    """Takes requests off the event loop, hands them to the dispatcher in a thread, reports the outcome."""

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        metrics: Metrics,
        clock: Clock,
        ids: IdSource = uuid.uuid4,
        limits: ApiLimits | None = None,
    ) -> None:
        limits = limits or ApiLimits()
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._clock = clock
        self._ids = ids
        self._limits = limits
        self._slots = anyio.Semaphore(limits.threads)
        self._threads = anyio.CapacityLimiter(limits.threads)
        self._log = structlog.get_logger("stillframe.http")

    async def answer(self, request: Request) -> Response:
        """The response to one request; its id is on every log line that is written on the way."""
        started = self._clock.monotonic()
        request_id = str(self._ids())
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            outcome = await self._outcome(request, _without_body(request, request_id))
            self._report(outcome, seconds=self._clock.monotonic() - started)
        return _to_response(outcome)

    async def _outcome(self, request: Request, head: RawRequest) -> RawResponse:
        try:
            body = await read_body(request, self._limits.body)
            return await self._dispatch(_with_body(head, body))
        except Exception as error:  # noqa: BLE001 - the outermost boundary: every failure has an answer
            return self._dispatcher.refuse(head, error)

    async def _dispatch(self, request: RawRequest) -> RawResponse:
        await self._take_slot()
        try:
            return await anyio.to_thread.run_sync(self._dispatcher.handle, request, limiter=self._threads)
        finally:
            self._slots.release()

    async def _take_slot(self) -> None:
        try:
            with anyio.fail_after(self._limits.wait_seconds):
                await self._slots.acquire()
        except TimeoutError:
            message = "The service is too busy to take this request. Repeat it later."
            raise ProtocolError(ProtocolCode.UNAVAILABLE, message) from None

    def _report(self, outcome: RawResponse, *, seconds: float) -> None:
        self._metrics.request_answered(operation=outcome.operation, code=outcome.code, seconds=seconds)
        self._log.info(
            "request_answered",
            operation=outcome.operation,
            code=outcome.code,
            status=outcome.status,
            seconds=round(seconds, 6),
            account=outcome.account,
        )


def _without_body(request: Request, request_id: str) -> RawRequest:
    scope = request.scope
    path = scope.get("raw_path") or scope["path"].encode()
    return RawRequest(
        request_id=request_id,
        method=scope["method"],
        path=path.decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=[
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]
        ],
        body=b"",
    )


def _with_body(head: RawRequest, body: bytes) -> RawRequest:
    return RawRequest(
        request_id=head.request_id,
        method=head.method,
        path=head.path,
        query=head.query,
        headers=head.headers,
        body=body,
    )


def _to_response(outcome: RawResponse) -> Response:
    response = Response(outcome.body, status_code=outcome.status, headers=dict(outcome.headers))
    if outcome.status in _CLOSING:
        # What is left of the request is still in the pipe; nothing sensible can follow it.
        response.headers["Connection"] = "close"
    return response

"""One request's life, from the bytes that came in to the bytes that go out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Any, Protocol

import structlog

from stillframe.aws.errors import ProtocolCode, ProtocolError, WireError, to_wire
from stillframe.aws.messages import RawRequest, RawResponse
from stillframe.aws.model import Operation, ServiceModel
from stillframe.aws.parser import parse_body
from stillframe.aws.serializer import serialize_answer, serialize_members
from stillframe.aws.validate import validate
from stillframe.domain.access import Caller
from stillframe.domain.clock import Clock
from stillframe.errors import InternalError

CONTENT_TYPE = "application/x-amz-json-1.1"

UNKNOWN = "unknown"
"""The operation of a request that names none of ours, in logs and metrics."""

OK = "OK"
"""The code of a request that succeeded, in logs and metrics."""

Handler = Callable[[Caller, dict[str, Any]], Mapping[str, Any]]
"""Takes who calls and the valid members of the request; gives the members of the answer, or raises."""

Handlers = Mapping[str, Handler]
"""Handlers by the name of their operation."""


class Authenticator(Protocol):
    """Who makes a request; `SignatureVerifier` in earnest."""

    def authenticate(self, request: RawRequest, *, service: str) -> Caller:
        """The caller, or a ProtocolError."""
        ...


@dataclass(slots=True, kw_only=True)
class _Exchange:
    """What is known about a request so far; a refusal reports as much of it as there is."""

    request: RawRequest
    operation: Operation | None = None
    caller: Caller | None = None


class Dispatcher:
    """Serves the operations of the given models with the given handlers; safe to use from several threads.

    Raises InternalError when a handler's operation is in no model, or in two.
    """

    def __init__(
        self,
        *,
        models: Sequence[ServiceModel],
        handlers: Handlers,
        authenticator: Authenticator,
        clock: Clock,
    ) -> None:
        operations = [operation for model in models for operation in model.operations.values()]
        _check_names([operation.name for operation in operations], handlers)
        self._operations = {operation.target: operation for operation in operations}
        self._handlers = handlers
        self._authenticator = authenticator
        self._clock = clock
        self._log = structlog.get_logger("stillframe.aws")

    def handle(self, request: RawRequest) -> RawResponse:
        """The response to any request whatsoever; nothing is raised.

        A failure of ours is logged once, with the request id that the client gets, and answered without
        details.
        """
        exchange = _Exchange(request=request)
        try:
            body = self._serve(exchange)
        except Exception as error:  # noqa: BLE001 - the outermost boundary: every failure has an answer
            return self._refuse(exchange, error)
        return self._respond(exchange, status=200, code=OK, body=body)

    def refuse(self, request: RawRequest, error: Exception) -> RawResponse:
        """The response to a request that failed before it could be handled (too large, too slow)."""
        operation = self._operations.get(request.header("x-amz-target") or "")
        return self._refuse(_Exchange(request=request, operation=operation), error)

    def _serve(self, exchange: _Exchange) -> bytes:
        request = exchange.request
        operation = exchange.operation = self._operation(request)
        handler = self._handler(operation)
        caller = exchange.caller = self._authenticator.authenticate(request, service=operation.signing_name)
        members = parse_body(request.body, operation.input)
        validate(members, operation.input)
        answer = handler(caller, members)
        return serialize_answer(operation, answer)

    def _operation(self, request: RawRequest) -> Operation:
        # Before the signature, as AWS does: a request that names nothing has nothing to protect.
        operation = self._operations.get(request.header("x-amz-target") or "")
        if operation is None:
            raise ProtocolError(
                ProtocolCode.UNKNOWN_OPERATION,
                "The X-Amz-Target header does not name an operation of this service.",
            )
        return operation

    def _handler(self, operation: Operation) -> Handler:
        handler = self._handlers.get(operation.name)
        if handler is None:
            raise ProtocolError(
                ProtocolCode.UNKNOWN_OPERATION, f"Stillframe does not offer {operation.name} yet."
            )
        return handler

    def _refuse(self, exchange: _Exchange, error: Exception) -> RawResponse:
        modelled = exchange.operation.errors if exchange.operation else frozenset[str]()
        wire = to_wire(error, request_id=exchange.request.request_id, modelled=modelled)
        if wire.status >= 500:
            self._log.error(
                "request_failed",
                operation=_name(exchange),
                request_id=exchange.request.request_id,
                kind=getattr(error, "kind", "unexpected"),
                facts=getattr(error, "facts", {}),
                exc_info=error,
            )
        return self._respond(
            exchange, status=wire.status, code=wire.code, body=error_body(wire), headers=(_error_type(wire),)
        )

    def _respond(
        self,
        exchange: _Exchange,
        *,
        status: int,
        code: str,
        body: bytes,
        headers: Sequence[tuple[str, str]] = (),
    ) -> RawResponse:
        return RawResponse(
            status=status,
            headers=(*self._headers(exchange.request.request_id), *headers),
            body=body,
            operation=_name(exchange),
            code=code,
            account=exchange.caller.account if exchange.caller else None,
        )

    def _headers(self, request_id: str) -> Sequence[tuple[str, str]]:
        # SDKs correct their own clock by the Date of a refusal.
        return (
            ("Content-Type", CONTENT_TYPE),
            ("x-amzn-RequestId", request_id),
            ("Date", format_datetime(self._clock.now(), usegmt=True)),
        )


def error_body(wire: WireError) -> bytes:
    """The JSON of an error; `__type` is what most SDKs take the code from."""
    return serialize_members({"__type": wire.code, "message": wire.message, **wire.members})


def _error_type(wire: WireError) -> tuple[str, str]:
    return ("x-amzn-ErrorType", wire.code)


def _name(exchange: _Exchange) -> str:
    return exchange.operation.name if exchange.operation else UNKNOWN


def _check_names(names: Sequence[str], handlers: Handlers) -> None:
    unknown = sorted(handlers.keys() - set(names))
    if unknown:
        raise InternalError(f"There are handlers for operations that no model has: {', '.join(unknown)}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InternalError(f"Two models have operations of the same name: {', '.join(twice)}")

"""The order of a request's life, and what is left of each in the log."""

from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from stillframe.aws.dispatch import Dispatcher
from stillframe.aws.errors import ProtocolCode, ProtocolError
from stillframe.domain.access import Caller
from stillframe.errors import DiskFull, InternalError, NotFound
from support.aws import (
    ACCOUNT,
    ARN,
    REGION,
    Anybody,
    ShiftedClock,
    dispatcher,
    models,
    request,
    signed,
    verifier,
    with_header,
)

pytestmark = pytest.mark.unit


class Recorder:
    """A handler that remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Caller, dict[str, Any]]] = []

    def __call__(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        self.calls.append((caller, members))
        return {}


def test_a_handler_gets_who_calls_and_the_parsed_members() -> None:
    handler = Recorder()
    asked = signed(request("ListSnapshots", b'{"maxResults":5,"unknown":1}'))
    response = dispatcher({"ListSnapshots": handler}, authenticator=verifier()).handle(asked)
    caller = Caller(account=ACCOUNT, region=REGION, arn=ARN, request_id=asked.request_id)
    assert handler.calls == [(caller, {"maxResults": 5})]
    assert (response.status, response.body) == (200, b'{"snapshots":[]}')
    assert (response.operation, response.code, response.account) == ("ListSnapshots", "OK", ACCOUNT)


def test_operations_of_the_extension_have_their_own_target() -> None:
    handler = Recorder()
    wire = dispatcher({"CancelSnapshot": handler})
    body = b'{"snapshotName":"s"}'
    assert wire.handle(request("CancelSnapshot", body, prefix="Stillframe")).status == 200
    assert wire.handle(request("CancelSnapshot", body)).code == "UnknownOperationException"
    assert len(handler.calls) == 1


def test_an_unknown_target_is_told_before_the_signature_is_looked_at() -> None:
    response = dispatcher({}, authenticator=verifier()).handle(request("Dance"))
    assert (response.status, response.code) == (404, "UnknownOperationException")
    assert (response.operation, response.account) == ("unknown", None)


@pytest.mark.parametrize("target", [None, "", "CreateSnapshot", "DynamoDB.CreateSnapshot"])
def test_a_target_must_name_the_service_too(target: str | None) -> None:
    response = dispatcher({}).handle(with_header(request("x"), "x-amz-target", target))
    assert (response.status, response.code) == (404, "UnknownOperationException")


def test_the_signature_is_looked_at_before_the_body() -> None:
    handler = Recorder()
    wire = dispatcher({"ListSnapshots": handler}, authenticator=verifier())
    response = wire.handle(request("ListSnapshots", b"no json"))
    assert (response.status, response.code) == (403, "MissingAuthenticationTokenException")
    assert handler.calls == []


@pytest.mark.parametrize("body", [b"no json", b'{"maxResults":"5"}', b'{"maxResults":0}'])
def test_a_bad_body_never_reaches_the_handler(body: bytes) -> None:
    handler = Recorder()
    response = dispatcher({"ListSnapshots": handler}).handle(request("ListSnapshots", body))
    assert response.status == 400
    assert handler.calls == []
    assert response.account == ACCOUNT


def failing(error: Exception) -> Dispatcher:
    def fail(_caller: Caller, _members: dict[str, Any]) -> Mapping[str, Any]:
        raise error

    return dispatcher({"ListSnapshots": fail})


@pytest.mark.parametrize(
    "error", [RuntimeError("detail"), DiskFull("detail", free=7), InternalError("detail")]
)
def test_a_failure_of_ours_is_logged_once_with_its_request_id(error: Exception) -> None:
    asked = request("ListSnapshots")
    with capture_logs() as lines:
        response = failing(error).handle(asked)
    assert (response.status, response.code) == (500, "InternalServerException")
    assert [line["event"] for line in lines] == ["request_failed"]
    assert lines[0]["request_id"] == asked.request_id
    assert lines[0]["exc_info"] is error
    assert lines[0]["operation"] == "ListSnapshots"
    assert lines[0]["facts"] == getattr(error, "facts", {})


def test_a_mistake_of_the_caller_is_no_failure_in_the_log() -> None:
    with capture_logs() as lines:
        response = failing(NotFound("Gone.", resource_name="x")).handle(request("ListSnapshots"))
    assert response.code == "ResourceNotFoundException"
    assert lines == []


def test_an_answer_that_the_model_does_not_know_is_a_failure_of_ours() -> None:
    wire = dispatcher({"ListSnapshots": lambda _caller, _members: {"snapshot": []}})
    with capture_logs() as lines:
        response = wire.handle(request("ListSnapshots"))
    assert response.code == "InternalServerException"
    assert b"snapshot" not in response.body
    assert lines[0]["kind"] == "internal"


def test_a_request_that_failed_before_can_be_refused_with_its_operation() -> None:
    error = ProtocolError(ProtocolCode.TOO_LARGE, "Too large.")
    response = dispatcher({}).refuse(request("ListSnapshots"), error)
    assert (response.status, response.code) == (413, "RequestEntityTooLarge")
    assert response.operation == "ListSnapshots"
    assert dispatcher({}).refuse(request("Dance"), error).operation == "unknown"


def test_a_handler_without_an_operation_is_refused_at_once() -> None:
    with pytest.raises(InternalError, match="Dance"):
        dispatcher({"Dance": Recorder()})


def test_two_models_with_the_same_operation_are_refused_at_once() -> None:
    api, _ = models()
    with pytest.raises(InternalError, match="CreateSnapshot"):
        Dispatcher(models=[api, api], handlers={}, authenticator=Anybody(), clock=ShiftedClock())

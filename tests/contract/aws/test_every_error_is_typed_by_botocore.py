"""What a Python user sees of each of our errors: the class, the code, the text, the extra members."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from stillframe import errors
from stillframe.aws.errors import ProtocolCode, ProtocolError, to_wire
from support.aws import client, dispatcher, request

pytestmark = pytest.mark.contract

ARN = "arn:aws:redshift-serverless:eu-central-1:123456789012:snapshot/0000"


@pytest.fixture(scope="module")
def failing() -> tuple[Any, list[Exception]]:
    """A client, and a list whose last element every operation fails with."""
    pending: list[Exception] = []

    def fail(_caller: Any, _members: Any) -> Any:
        raise pending[-1]

    wire = dispatcher({"GetSnapshot": fail, "ListSnapshots": fail, "ListTracks": fail, "GetTrack": fail})
    return client(wire.handle), pending


TYPED = [
    (errors.InvalidRequest("Bad."), "ValidationException", 400),
    (errors.NotFound("Gone.", resource_name=ARN), "ResourceNotFoundException", 400),
    (errors.Conflict("Busy."), "ConflictException", 400),
    (errors.TooManyTags("Too many.", resource_name=ARN), "TooManyTagsException", 400),
    (errors.QuotaExceeded("Enough."), "ServiceQuotaExceededException", 400),
    (errors.AccessDenied("No."), "AccessDeniedException", 403),
]


@pytest.mark.parametrize(("error", "code", "status"), TYPED)
def test_an_error_of_the_caller_has_its_class_code_status_and_text(
    failing: tuple[Any, list[Exception]], error: errors.StillframeError, code: str, status: int
) -> None:
    api, pending = failing
    pending.append(error)
    with pytest.raises(getattr(api.exceptions, code)) as caught:
        api.get_snapshot(snapshotName="x")
    assert caught.value.response["Error"] == {"Code": code, "Message": error.message}
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert caught.value.response["ResponseMetadata"]["RequestId"]
    assert caught.value.response.get("resourceName") == error.facts.get("resource_name")


INTERNAL = [
    errors.InternalError("secret detail"),
    errors.DiskFull("secret detail"),
    errors.StoredDataCorrupt("secret detail"),
    errors.CatalogUnavailable("secret detail"),
    errors.Cancelled("secret detail"),
    RuntimeError("secret detail"),
    KeyError("secret detail"),
    RecursionError("secret detail"),
]


@pytest.mark.parametrize("error", INTERNAL, ids=lambda error: type(error).__name__)
def test_a_failure_of_ours_tells_nothing_but_the_request_id(
    failing: tuple[Any, list[Exception]], error: Exception
) -> None:
    api, pending = failing
    pending.append(error)
    with pytest.raises(api.exceptions.InternalServerException) as caught:
        api.get_snapshot(snapshotName="x")
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert "secret detail" not in str(response)
    assert response["ResponseMetadata"]["RequestId"] in response["Error"]["Message"]


def test_advice_stands_behind_the_fact(failing: tuple[Any, list[Exception]]) -> None:
    api, pending = failing
    pending.append(errors.Conflict("It is busy", hint="Try again."))
    with pytest.raises(api.exceptions.ConflictException) as caught:
        api.get_snapshot(snapshotName="x")
    assert caught.value.response["Error"]["Message"] == "It is busy. Try again."


def test_a_bad_page_token_has_the_class_that_the_operation_models(
    failing: tuple[Any, list[Exception]],
) -> None:
    class BadToken(errors.InvalidRequest):
        kind = "invalid_pagination"

    api, pending = failing
    pending.append(BadToken("The token is not valid."))
    with pytest.raises(api.exceptions.InvalidPaginationException):
        api.list_tracks()
    with pytest.raises(api.exceptions.ValidationException):
        api.list_snapshots()


def test_denied_access_is_400_where_the_operation_models_it(failing: tuple[Any, list[Exception]]) -> None:
    api, pending = failing
    pending.append(errors.AccessDenied("No."))
    with pytest.raises(api.exceptions.AccessDeniedException) as caught:
        api.get_track(trackName="x")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_an_operation_that_is_not_built_says_so(failing: tuple[Any, list[Exception]]) -> None:
    api, _ = failing
    with pytest.raises(ClientError) as caught:
        api.create_namespace(namespaceName="abc")
    assert caught.value.response["Error"] == {
        "Code": "UnknownOperationException",
        "Message": "Stillframe does not offer CreateNamespace yet.",
    }
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_a_part_of_an_operation_that_is_not_built_says_so(failing: tuple[Any, list[Exception]]) -> None:
    api, pending = failing
    pending.append(errors.NotBuilt("Sharing is not built yet."))
    with pytest.raises(ClientError) as caught:
        api.get_snapshot(snapshotName="x")
    assert caught.value.response["Error"]["Code"] == "UnknownOperationException"
    assert caught.value.response["Error"]["Message"] == "Sharing is not built yet."


def test_a_new_kind_of_error_is_answered_like_the_one_it_comes_from() -> None:
    class NameTaken(errors.Conflict):
        kind = "name_taken"

    assert to_wire(NameTaken("It already exists."), request_id="1").code == "ConflictException"


@pytest.mark.parametrize("code", list(ProtocolCode))
def test_every_protocol_error_has_a_status(code: ProtocolCode) -> None:
    wire = to_wire(ProtocolError(code, "No."), request_id="1")
    assert wire.code == code.value
    assert 400 <= wire.status < 600


def test_code_and_request_id_stand_in_body_and_headers() -> None:
    asked = request("CreateNamespace")
    response = dispatcher({}).handle(asked)
    headers = dict(response.headers)
    assert headers["x-amzn-ErrorType"] == "UnknownOperationException"
    assert headers["x-amzn-RequestId"] == asked.request_id
    assert headers["Content-Type"] == "application/x-amz-json-1.1"
    assert headers["Date"].endswith(" GMT")
    assert response.body.startswith(b'{"__type":"UnknownOperationException"')

"""Whatever is sent, the answer is an error of the model: never a 500, never a traceback."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillframe.aws.dispatch import Dispatcher
from stillframe.aws.messages import RawRequest, RawResponse
from support.aws import KEY, dispatcher, obliging_handlers, operations, request, signed, verifier, with_header

pytestmark = pytest.mark.unit

FEW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

ODD_TEXT = st.text(st.characters(), max_size=30) | st.sampled_from(
    [
        "\0",
        "\ud800",
        "\udfff\ud800",
        "\u202e",
        "a" * 70_000,
        "🧊" * 300,
        "'; --",
        "{}",
        "%s%n",
        "../..",
        "\r\n",
    ]
)
ODD_NUMBERS = st.one_of(
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.sampled_from([2**31, -(2**31) - 1, 2**63, 1e308, -0.0, 10**18, 253402300800, -62135596801]),
)
ODD_LEAVES = st.none() | st.booleans() | ODD_NUMBERS | ODD_TEXT
ODD_VALUES = st.recursive(
    ODD_LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(ODD_TEXT, inner, max_size=5),
    max_leaves=12,
)
RAW_BODIES = st.one_of(
    st.binary(max_size=100),
    st.sampled_from(
        [
            b"",
            b"null",
            b"[]",
            b'"text"',
            b"1",
            b"NaN",
            b"{",
            b"{}x",
            b'{"a":1,"a":2}',
            b'{"maxResults":1e999}',
            b'{"maxResults":-Infinity}',
            b'{"maxResults":' + b"9" * 100_000 + b"}",
            b"[" * 100_000,
            b'{"tags":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
            b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
            b'\xef\xbb\xbf{"snapshotName":"x"}',
            b'{"snapshotName":"\xff\xfe"}',
            b'{"snapshotName":"\\ud800"}',
            b'{"snapshotName":"\\u0000"}',
            "{}".encode("utf-16"),
        ]
    ),
)
REFUSALS = {"SerializationException", "ValidationException"}


@pytest.fixture(scope="module")
def wire() -> Dispatcher:
    return dispatcher(obliging_handlers())


@pytest.fixture(scope="module")
def guarded_wire() -> Dispatcher:
    return dispatcher(obliging_handlers(), authenticator=verifier())


def check(response: RawResponse, allowed: set[str]) -> None:
    """The response is a success or one of the allowed errors, in the form that every SDK reads."""
    assert response.code in {"OK", *allowed}
    assert (response.status == 200) == (response.code == "OK")
    assert response.status < 500
    answer = json.loads(response.body)
    assert isinstance(answer, dict)
    assert b"Traceback" not in response.body
    assert answer.get("__type") == (None if response.code == "OK" else response.code)
    for name, value in response.headers:
        assert "\n" not in name + value


def request_for(name: str, body: bytes) -> RawRequest:
    prefix = operations()[name].target.partition(".")[0]
    return request(name, body, prefix=prefix)


@pytest.mark.parametrize("name", sorted(operations()))
def test_odd_values_in_the_members_of_an_operation_are_refused_as_modelled(
    name: str, wire: Dispatcher
) -> None:
    members = sorted(operations()[name].input.members)

    @FEW
    @given(st.dictionaries(st.sampled_from([*members, "unknown"]), ODD_VALUES, max_size=6))
    def fuzz(body: dict[str, Any]) -> None:
        check(wire.handle(request_for(name, json.dumps(body).encode())), REFUSALS)

    fuzz()


@pytest.mark.parametrize("name", sorted(operations()))
def test_bodies_that_are_no_json_are_refused_as_modelled(name: str, wire: Dispatcher) -> None:
    @FEW
    @given(RAW_BODIES)
    def fuzz(body: bytes) -> None:
        check(wire.handle(request_for(name, body)), REFUSALS)

    fuzz()


@MANY
@given(target=st.none() | ODD_TEXT | st.sampled_from(sorted(operations())), body=RAW_BODIES)
def test_any_target_but_a_modelled_one_is_unknown(target: str | None, body: bytes) -> None:
    asked = with_header(request("ListSnapshots", body), "x-amz-target", target)
    response = dispatcher({}).handle(asked)
    assert (response.code, response.status) == ("UnknownOperationException", 404)
    assert response.operation == "unknown"


HEADER_TEXT = st.text(st.characters(max_codepoint=255), max_size=60)
AUTHORIZATIONS = HEADER_TEXT | st.builds(
    "AWS4-HMAC-SHA256 Credential={}, SignedHeaders={}, Signature={}".format,
    HEADER_TEXT | st.just(f"{KEY}/20260102/eu-central-1/redshift-serverless/aws4_request"),
    HEADER_TEXT | st.just("host;x-amz-date;x-amz-target"),
    HEADER_TEXT,
)
SIGNATURE_REFUSALS = {
    "MissingAuthenticationTokenException",
    "IncompleteSignatureException",
    "UnrecognizedClientException",
    "InvalidSignatureException",
}


@MANY
@given(
    name=st.sampled_from(
        ["authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256", "host", "x-amz-extra"]
    ),
    value=AUTHORIZATIONS,
)
def test_odd_headers_are_refused_as_documented(guarded_wire: Dispatcher, name: str, value: str) -> None:
    asked = with_header(signed(request("ListSnapshots")), name, value)
    response = guarded_wire.handle(asked)
    check(response, SIGNATURE_REFUSALS)
    assert response.status in (200, 403)
    assert name != "authorization" or response.status == 403


def test_the_smallest_answer_of_every_operation_is_served(wire: Dispatcher) -> None:
    refused = {
        name: response.code
        for name in operations()
        if (response := wire.handle(request_for(name, b"{}"))).code not in ("OK", "ValidationException")
    }
    assert refused == {}

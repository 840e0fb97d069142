"""Signatures, against botocore's signer and against the published example."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stillframe.aws.canonical import canonical_path, canonical_query
from stillframe.aws.errors import ProtocolCode, ProtocolError
from stillframe.aws.messages import RawRequest
from stillframe.aws.sigv4 import Credential, SignatureVerifier
from stillframe.kms import Secret
from support.aws import (
    ACCOUNT,
    ARN,
    KEY,
    REGION,
    SECRET,
    ShiftedClock,
    Store,
    request,
    signed,
    verifier,
    with_header,
)

pytestmark = pytest.mark.unit

SERVICE = "redshift-serverless"


def refusal(
    asked: RawRequest, *, store: Store | None = None, clock: ShiftedClock | None = None
) -> ProtocolError:
    """The error that the request is refused with."""
    with pytest.raises(ProtocolError) as caught:
        verifier(store=store, clock=clock).authenticate(asked, service=SERVICE)
    return caught.value


def good() -> RawRequest:
    return signed(request("ListSnapshots", b'{"maxResults":5}'))


def edited(asked: RawRequest, old: str, new: str) -> RawRequest:
    """The request with a part of its Authorization header exchanged."""
    header = asked.header("authorization")
    assert header is not None
    assert old in header
    return with_header(asked, "authorization", header.replace(old, new))


def test_a_request_signed_by_botocore_is_believed() -> None:
    asked = good()
    caller = verifier().authenticate(asked, service=SERVICE)
    assert (caller.account, caller.region, caller.arn) == (ACCOUNT, REGION, ARN)
    assert caller.request_id == asked.request_id


def test_the_published_example_of_the_algorithm_verifies() -> None:
    class Then(ShiftedClock):
        def now(self) -> datetime:
            return datetime(2015, 8, 30, 12, 36, tzinfo=UTC)

    published = (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, "
        "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    )
    example = RawRequest(
        request_id="1",
        method="GET",
        path="/",
        query="",
        headers=[
            ("host", "example.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
            ("authorization", published),
        ],
        body=b"",
    )
    caller = SignatureVerifier(store=Store(), clock=Then()).authenticate(example, service="service")
    assert caller.region == "us-east-1"


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/a%20b/c", ""),
        ("/", "b=2&a=1&a=0"),
        ("/x/../y/./z/", "empty=&plus=a%2Bb"),
        ("//double//slash", "x=~tilde&y=sp%20ace"),
    ],
)
def test_paths_and_queries_are_canonical_as_botocore_has_them(path: str, query: str) -> None:
    asked = signed(replace(request("ListSnapshots"), path=path, query=query))
    assert verifier().authenticate(asked, service=SERVICE).account == ACCOUNT


def test_the_canonical_path_is_encoded_once_more() -> None:
    assert canonical_path("/a%20b") == "/a%2520b"
    assert canonical_path("/../..") == "/"
    assert canonical_path("") == "/"


def test_the_canonical_query_is_sorted_by_name_and_value() -> None:
    assert canonical_query("b=2&a=2&a=1&c") == "a=1&a=2&b=2&c="


@pytest.mark.parametrize("value", ["  two   spaces ", "tab\there", "ümläut"])
def test_odd_header_values_are_canonical_as_botocore_has_them(value: str) -> None:
    asked = signed(with_header(request("ListSnapshots"), "x-amz-meta", value))
    # On the wire it is UTF-8; the server hands it on as Latin-1, byte for byte.
    asked = with_header(asked, "x-amz-meta", value.encode().decode("latin-1"))
    assert verifier().authenticate(asked, service=SERVICE).account == ACCOUNT


@pytest.mark.parametrize("header", [None, "", "   "])
def test_no_signature_at_all_is_a_missing_token(header: str | None) -> None:
    error = refusal(with_header(good(), "authorization", header))
    assert error.code is ProtocolCode.MISSING_AUTHENTICATION
    assert error.message == "Request is missing Authentication Token"


@pytest.mark.parametrize("part", ["Credential", "SignedHeaders", "Signature"])
def test_each_part_of_the_header_is_missed_by_name(part: str) -> None:
    error = refusal(edited(good(), f"{part}=", f"{part}X="))
    assert error.code is ProtocolCode.INCOMPLETE_SIGNATURE
    assert error.message == f"Authorization header requires '{part}' parameter."


@pytest.mark.parametrize(
    "header",
    [
        "Basic dXNlcjpzZWNyZXQ=",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 nonsense",
        "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=x",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/, SignedHeaders=host, Signature=x",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, Credential=a/b/c/d/e, SignedHeaders=host, Signature=x",
        "AWS4-ECDSA-P256-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=x",
    ],
)
def test_a_malformed_header_is_incomplete_and_not_repeated(header: str) -> None:
    error = refusal(with_header(good(), "authorization", header))
    assert error.code is ProtocolCode.INCOMPLETE_SIGNATURE
    assert "dXNlcjpzZWNyZXQ" not in error.message


def test_an_unknown_key_is_an_unrecognized_client() -> None:
    error = refusal(signed(request("ListSnapshots"), key="AKIAUNKNOWN"))
    assert error.code is ProtocolCode.UNRECOGNIZED_CLIENT
    assert error.message == "The security token included in the request is invalid."


def test_a_wrong_secret_is_an_invalid_signature() -> None:
    error = refusal(signed(request("ListSnapshots"), secret="not the secret"))
    assert error.code is ProtocolCode.INVALID_SIGNATURE
    assert error.message.startswith(
        "The request signature we calculated does not match the signature you provided."
    )


def test_a_tampered_body_is_an_invalid_signature() -> None:
    assert refusal(replace(good(), body=b'{"maxResults":6}')).code is ProtocolCode.INVALID_SIGNATURE


def test_an_exchanged_target_is_an_invalid_signature() -> None:
    asked = with_header(good(), "x-amz-target", "RedshiftServerless.DeleteSnapshot")
    assert refusal(asked).code is ProtocolCode.INVALID_SIGNATURE


@pytest.mark.parametrize("change", [{"method": "PUT"}, {"path": "/other"}, {"query": "a=b"}])
def test_an_exchanged_request_line_is_an_invalid_signature(change: dict[str, str]) -> None:
    asked = good()
    changed = RawRequest(
        request_id=asked.request_id,
        method=change.get("method", asked.method),
        path=change.get("path", asked.path),
        query=change.get("query", asked.query),
        headers=asked.headers,
        body=asked.body,
    )
    assert refusal(changed).code is ProtocolCode.INVALID_SIGNATURE


@pytest.mark.parametrize("signature", ["", "0" * 64, "Ünicode", "x" * 10_000])
def test_any_other_signature_is_refused(signature: str) -> None:
    asked = good()
    header = asked.header("authorization") or ""
    cut = header[: header.index("Signature=")]
    error = refusal(with_header(asked, "authorization", f"{cut}Signature={signature}"))
    assert error.code in (ProtocolCode.INVALID_SIGNATURE, ProtocolCode.INCOMPLETE_SIGNATURE)


def test_a_signature_older_than_five_minutes_has_expired() -> None:
    error = refusal(good(), clock=ShiftedClock(timedelta(minutes=5, seconds=10)))
    assert error.code is ProtocolCode.INVALID_SIGNATURE
    assert error.message.startswith("Signature expired: ")
    assert " is now earlier than " in error.message
    assert error.message.endswith("Z - 5 min.)")


def test_a_signature_from_the_future_is_not_yet_current() -> None:
    error = refusal(good(), clock=ShiftedClock(timedelta(minutes=-5, seconds=-10)))
    assert error.code is ProtocolCode.INVALID_SIGNATURE
    assert error.message.startswith("Signature not yet current: ")


@pytest.mark.parametrize("minutes", [-4.9, 4.9])
def test_a_clock_that_is_less_than_five_minutes_off_is_fine(minutes: float) -> None:
    clock = ShiftedClock(timedelta(minutes=minutes))
    assert verifier(clock=clock).authenticate(good(), service=SERVICE).account == ACCOUNT


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"service": "redshift"}, "Credential should be scoped to correct service: 'redshift-serverless'."),
        ({"region": "NOT_A_REGION"}, "Credential should be scoped to a valid region."),
        ({"region": "-"}, "Credential should be scoped to a valid region."),
    ],
)
def test_a_wrong_scope_is_told(options: dict[str, str], sentence: str) -> None:
    error = refusal(signed(request("ListSnapshots"), **options))
    assert (error.code, error.message) == (ProtocolCode.INVALID_SIGNATURE, sentence)


def test_a_wrong_terminator_is_told() -> None:
    error = refusal(edited(good(), "/aws4_request", "/aws5_request"))
    assert error.code is ProtocolCode.INVALID_SIGNATURE
    assert "valid terminator" in error.message


def test_the_day_of_the_scope_is_that_of_the_date_header() -> None:
    today = datetime.now(UTC).strftime("%Y%m%d")
    error = refusal(edited(good(), f"/{today}/", "/20010101/"))
    assert error.code is ProtocolCode.INVALID_SIGNATURE
    assert error.message.startswith("Date in Credential scope does not match YYYYMMDD")


@pytest.mark.parametrize(
    "date", ["yesterday", "20260230T000000Z", "2026-01-02T03:04:05Z", "\u0662\u0660260102T030405Z"]
)
def test_a_malformed_date_is_incomplete(date: str) -> None:
    assert refusal(with_header(good(), "x-amz-date", date)).code is ProtocolCode.INCOMPLETE_SIGNATURE


def test_a_missing_date_is_incomplete() -> None:
    error = refusal(with_header(good(), "x-amz-date", None))
    assert error.code is ProtocolCode.INCOMPLETE_SIGNATURE
    assert "X-Amz-Date" in error.message


@pytest.mark.parametrize("name", ["host", "x-amz-date", "x-amz-target"])
def test_the_headers_that_matter_must_be_signed(name: str) -> None:
    asked = good()
    header = asked.header("authorization") or ""
    start = header.index("SignedHeaders=") + len("SignedHeaders=")
    names = header[start : header.index(",", start)]
    kept = ";".join(part for part in names.split(";") if part != name)
    error = refusal(with_header(asked, "authorization", header.replace(names, kept)))
    assert error.code is ProtocolCode.INVALID_SIGNATURE
    assert error.message == f"'{name}' must be a 'SignedHeader' in the AWS Authorization."


def test_a_header_for_amazon_that_was_added_on_the_way_is_refused() -> None:
    error = refusal(with_header(good(), "x-amz-extra", "1"))
    assert error.message == "'x-amz-extra' must be a 'SignedHeader' in the AWS Authorization."


def test_a_content_hash_that_is_not_that_of_the_body_is_refused() -> None:
    asked = signed(with_header(request("ListSnapshots"), "x-amz-content-sha256", "0" * 64))
    assert refusal(asked).code is ProtocolCode.INVALID_SIGNATURE


def test_a_payload_that_is_not_signed_is_refused() -> None:
    asked = signed(with_header(request("ListSnapshots"), "x-amz-content-sha256", "UNSIGNED-PAYLOAD"))
    assert refusal(asked).code is ProtocolCode.INVALID_SIGNATURE


def temporary(*, minutes_left: float) -> Store:
    credential = Credential(
        account=ACCOUNT,
        arn=ARN,
        secret=Secret(SECRET),
        session_token=Secret("the token"),
        expires_at=datetime.now(UTC) + timedelta(minutes=minutes_left),
    )
    return Store({KEY: credential})


def test_a_session_token_that_the_store_knows_is_believed() -> None:
    asked = signed(request("ListSnapshots"), token="the token")
    caller = verifier(store=temporary(minutes_left=1)).authenticate(asked, service=SERVICE)
    assert caller.account == ACCOUNT


def test_an_expired_session_is_told() -> None:
    asked = signed(request("ListSnapshots"), token="the token")
    error = refusal(asked, store=temporary(minutes_left=-1))
    assert error.code is ProtocolCode.EXPIRED_TOKEN
    assert error.message == "The security token included in the request is expired"


@pytest.mark.parametrize("token", [None, "another token"])
def test_a_temporary_key_needs_its_own_token(token: str | None) -> None:
    asked = signed(request("ListSnapshots"), token=token)
    assert refusal(asked, store=temporary(minutes_left=1)).code is ProtocolCode.UNRECOGNIZED_CLIENT


def test_a_token_for_a_lasting_key_is_an_unrecognized_client() -> None:
    asked = signed(request("ListSnapshots"), token="a token")
    assert refusal(asked).code is ProtocolCode.UNRECOGNIZED_CLIENT


def test_an_exchanged_secret_is_used_at_once() -> None:
    store = Store()
    checks = SignatureVerifier(store=store, clock=ShiftedClock())
    checks.authenticate(good(), service=SERVICE)
    store.keys[KEY] = Credential(account=ACCOUNT, arn=ARN, secret=Secret("new"))
    with pytest.raises(ProtocolError):
        checks.authenticate(good(), service=SERVICE)
    checks.authenticate(signed(request("ListSnapshots"), secret="new"), service=SERVICE)


def test_nothing_of_a_credential_shows_its_secret() -> None:
    assert SECRET not in repr(Store().keys)
    assert SECRET not in str(Store().keys[KEY])

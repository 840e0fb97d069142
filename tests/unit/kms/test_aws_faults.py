"""What a KMS that refuses, fails or stays silent means to us; a stub answers what each test says."""

import socket
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest

from stillframe.domain.identifiers import AccountId, KmsKeyId, Region, Scope
from stillframe.errors import (
    InvalidRequest,
    KeyManagementUnavailable,
    KeyUnavailable,
    QuotaExceeded,
    StillframeError,
    StoredDataCorrupt,
)
from stillframe.kms import AwsCredentials, AwsKeyManagement, KeyState, Secret
from support.cli import Refusal, StubService, running_stub

pytestmark = pytest.mark.unit

SCOPE = Scope(account=AccountId("123456789012"), region=Region("eu-central-1"))
KEY = KmsKeyId("arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
CONTEXT = {"purpose": "test"}
SECRET = "wJalrXUtnFEMIbPxRfiCYEXAMPLE"


@pytest.fixture(scope="module")
def stub() -> Iterator[StubService]:
    with running_stub() as started:
        yield started


@pytest.fixture
def kms(stub: StubService) -> StubService:
    """The stub, as if new: one that knows the key."""
    stub.calls.clear()
    stub.answers = {"DescribeKey": {"KeyMetadata": metadata()}}
    return stub


def metadata(**changes: Any) -> Mapping[str, Any]:
    described = {
        "KeyId": KEY.rpartition("/")[2],
        "Arn": KEY,
        "KeyState": "Enabled",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "CreationDate": 1767225600.0,
    }
    return described | changes


@cache
def keys_of(url: str, *, attempts: int = 1) -> AwsKeyManagement:
    credentials = AwsCredentials(access_key_id="AKIDTEST", secret_access_key=Secret(SECRET))
    return AwsKeyManagement(endpoint_url=url, credentials=credentials, attempts=attempts)


def refusing(code: str, status: int = 400) -> Any:
    def answer(_: Any) -> Mapping[str, Any]:
        raise Refusal(code, f"User arn:aws:iam::1:user/somebody is refused with {SECRET}", status=status)

    return answer


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("NotFoundException", 400, KeyUnavailable),
        ("DisabledException", 400, KeyUnavailable),
        ("KMSInvalidStateException", 400, KeyUnavailable),
        ("InvalidKeyUsageException", 400, KeyUnavailable),
        ("AccessDeniedException", 400, KeyUnavailable),
        ("UnrecognizedClientException", 400, KeyUnavailable),
        ("ExpiredTokenException", 400, KeyUnavailable),
        ("InvalidCiphertextException", 400, StoredDataCorrupt),
        ("IncorrectKeyException", 400, StoredDataCorrupt),
        ("LimitExceededException", 400, QuotaExceeded),
        ("ThrottlingException", 400, KeyManagementUnavailable),
        ("KMSInternalException", 500, KeyManagementUnavailable),
        ("KeyUnavailableException", 500, KeyManagementUnavailable),
        ("DependencyTimeoutException", 503, KeyManagementUnavailable),
        ("SomethingNobodyKnows", 502, KeyManagementUnavailable),
    ],
)
def test_every_refusal_has_its_meaning_and_tells_no_more_than_its_name(
    kms: StubService, code: str, status: int, expected: type[StillframeError]
) -> None:
    kms.answers["Decrypt"] = kms.answers["Encrypt"] = refusing(code, status)
    keys = keys_of(kms.url)
    for use in (keys.wrap, keys.unwrap):
        with pytest.raises(StillframeError) as caught:
            use(KEY, b"bytes", CONTEXT)
        assert type(caught.value) is expected
        told = f"{caught.value.message} {caught.value.hint} {caught.value.facts}"
        assert SECRET not in told
        assert "somebody" not in told


def test_a_passing_failure_is_repeated_a_bounded_number_of_times(kms: StubService) -> None:
    kms.answers["DescribeKey"] = refusing("KMSInternalException", 500)
    with pytest.raises(KeyManagementUnavailable):
        keys_of(kms.url, attempts=2).describe(KEY)
    assert len(kms.called("DescribeKey")) == 2


def test_a_failure_that_passes_is_not_seen(kms: StubService) -> None:
    failure = refusing("KMSInternalException", 500)

    def once(parameters: Any) -> Mapping[str, Any]:
        kms.answers["DescribeKey"] = {"KeyMetadata": metadata()}
        refused: Mapping[str, Any] = failure(parameters)
        return refused

    kms.answers["DescribeKey"] = once
    assert keys_of(kms.url, attempts=2).describe(KEY).key_id == KEY


def test_a_kms_that_does_not_answer_is_unavailable_and_no_key_is_lost() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"  # bound, and nobody listens
        with pytest.raises(KeyManagementUnavailable) as caught:
            keys_of(url).describe(KEY)
    assert "could not be asked" in caught.value.message


def test_missing_credentials_are_told(monkeypatch: pytest.MonkeyPatch, kms: StubService) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(KeyUnavailable, match="no credentials"):
        AwsKeyManagement(endpoint_url=kms.url).describe(KEY)


@pytest.mark.parametrize(
    "state", [state for state in KeyState if state is not KeyState.ENABLED], ids=lambda state: state.value
)
def test_a_key_in_any_other_state_is_not_used(kms: StubService, state: KeyState) -> None:
    kms.answers["DescribeKey"] = {"KeyMetadata": metadata(KeyState=state.value)}
    kms.answers["Encrypt"] = kms.answers["Decrypt"] = {
        "KeyId": KEY,
        "CiphertextBlob": "eA==",
        "Plaintext": "eA==",
    }
    keys = keys_of(kms.url)
    assert keys.describe(KEY).state is state
    for use in (keys.wrap, keys.unwrap):
        with pytest.raises(KeyUnavailable):
            use(KEY, b"bytes", CONTEXT)
    assert not kms.called("Encrypt") + kms.called("Decrypt")


@pytest.mark.parametrize(
    "changes", [{"KeySpec": "RSA_2048"}, {"KeyUsage": "SIGN_VERIFY"}, {"KeyUsage": "GENERATE_VERIFY_MAC"}]
)
def test_a_key_for_something_else_is_refused(kms: StubService, changes: dict[str, str]) -> None:
    kms.answers["DescribeKey"] = {"KeyMetadata": metadata(**changes)}
    with pytest.raises(InvalidRequest, match="symmetric"):
        keys_of(kms.url).resolve(KEY, SCOPE)


def test_an_answer_for_another_key_is_not_believed(kms: StubService) -> None:
    other = KEY.replace("1234abcd", "9999abcd")
    kms.answers["Decrypt"] = {"KeyId": other, "Plaintext": "eA=="}
    with pytest.raises(StoredDataCorrupt):
        keys_of(kms.url).unwrap(KEY, b"blob", CONTEXT)
    kms.answers["DescribeKey"] = {"KeyMetadata": metadata(Arn=other)}
    with pytest.raises(KeyUnavailable):
        keys_of(kms.url).describe(KEY)


def test_the_context_and_the_key_go_with_every_call(kms: StubService) -> None:
    kms.answers["Encrypt"] = {"KeyId": KEY, "CiphertextBlob": "YmxvYg=="}
    assert keys_of(kms.url).wrap(KEY, b"plain", CONTEXT) == b"blob"
    (sent,) = kms.called("Encrypt")
    assert (sent["KeyId"], sent["EncryptionContext"]) == (KEY, CONTEXT)


def test_credentials_are_shown_by_nothing(kms: StubService) -> None:
    keys = keys_of(kms.url)
    keys.describe(KEY)
    shown = f"{keys!r} {AwsCredentials(access_key_id='A', secret_access_key=Secret(SECRET))!r}"
    assert SECRET not in shown


def test_an_alias_of_another_account_is_remembered_with_that_account(kms: StubService) -> None:
    alias = "arn:aws:kms:eu-central-1:999999999999:alias/shared"
    kms.answers["DescribeKey"] = {"KeyMetadata": metadata(Arn=KEY.replace("123456789012", "999999999999"))}
    assert keys_of(kms.url).resolve(alias, SCOPE).name == alias
    assert kms.called("DescribeKey")[0] == {"KeyId": alias}

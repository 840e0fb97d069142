"""What the driver is told, and what is made of its errors."""

from pathlib import Path

import pytest
from obstore.exceptions import AlreadyExistsError, GenericError, PermissionDeniedError

from stillframe.errors import (
    ConfigurationInvalid,
    DiskFull,
    PermissionMissing,
    StillframeError,
    StoreUnavailable,
)
from stillframe.objectstore.s3.driver import connect
from stillframe.objectstore.s3.errors import translate
from stillframe.objectstore.s3location import S3Credentials, S3Location, S3Patience

pytestmark = pytest.mark.unit

KEYS = S3Credentials(access_key_id="AKID", secret_access_key="hidden", session_token="token")
PATIENCE = S3Patience()


@pytest.fixture(autouse=True)
def _nobodys_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The developer's profiles, and the machine's role, must not reach a test."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def config_of(location: S3Location) -> dict[str, object]:
    return dict(connect(location, credentials=KEYS, patience=PATIENCE).config)


def test_amazon_is_reached_by_the_name_of_the_bucket() -> None:
    config = config_of(S3Location(bucket="backups", region="eu-central-1"))
    assert config["virtual_hosted_style_request"] == "true"
    assert config["region"] == "eu-central-1"
    assert "endpoint" not in config


def test_an_endpoint_gets_the_bucket_in_the_path() -> None:
    config = config_of(S3Location(bucket="backups", endpoint_url="https://s3.example.net:9000"))
    assert config["virtual_hosted_style_request"] == "false"
    assert config["endpoint"] == "https://s3.example.net:9000"


def test_an_endpoint_gets_the_bucket_in_its_name_when_that_is_asked_for() -> None:
    config = config_of(
        S3Location(bucket="backups", endpoint_url="https://s3.example.net:9000", path_style=False)
    )
    assert config["endpoint"] == "https://backups.s3.example.net:9000"


def test_without_keys_those_of_the_sdk_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROMTHESDK")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    driver = connect(S3Location(bucket="backups"), credentials=None, patience=PATIENCE)
    assert driver.credential_provider is not None
    assert driver.credential_provider()["access_key_id"] == "FROMTHESDK"  # type: ignore[index]


def test_no_keys_at_all_are_a_setting_that_is_missing() -> None:
    with pytest.raises(ConfigurationInvalid, match="no credentials"):
        connect(S3Location(bucket="backups"), credentials=None, patience=PATIENCE)


def test_no_secret_is_in_a_representation() -> None:
    driver = connect(S3Location(bucket="backups", prefix="a"), credentials=KEYS, patience=PATIENCE)
    assert "hidden" not in repr(driver)


def answered(status: int, code: str) -> str:
    return (
        f"Error performing PUT https://s3.example.net/backups/a in 2ms - Server returned non-2xx status code: {status}"
        f" Reason: <Error><Code>{code}</Code><Message>hidden</Message></Error>"
        "\n\nDebug source:\nGeneric { status code: 507 <Code>StorageFull</Code> }"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (GenericError(answered(507, "InsufficientStorage")), DiskFull),
        (PermissionDeniedError(answered(403, "QuotaExceeded")), DiskFull),
        (GenericError(answered(400, "XMinioAdminBucketQuotaExceeded")), DiskFull),
        (PermissionDeniedError(answered(403, "AccessDenied")), PermissionMissing),
        (GenericError(answered(401, "Unauthorized")), PermissionMissing),
        (GenericError(answered(503, "SlowDown")), StoreUnavailable),
        (AlreadyExistsError(answered(412, "PreconditionFailed")), StoreUnavailable),
        (FileNotFoundError(answered(404, "NoSuchBucket")), StoreUnavailable),
        (GenericError("Error performing GET https://s3.example.net - HTTP error: hidden"), StoreUnavailable),
    ],
)
def test_an_answer_is_told_apart_by_what_is_to_be_done(
    error: Exception, expected: type[StillframeError]
) -> None:
    with pytest.raises(expected) as caught:
        translate(error, "packs/a")
    assert type(caught.value) is expected
    assert "packs/a" in caught.value.message
    assert "hidden" not in caught.value.message

"""Where a bucket is, from what was set."""

import pytest

from stillframe.errors import ConfigurationInvalid
from stillframe.objectstore.s3location import S3Credentials, parse_s3_location

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://backups", "backups", ""),
        ("s3://backups/", "backups", ""),
        ("s3://backups/a", "backups", "a"),
        ("s3://my.backups-1/a/b_c/D.e/", "my.backups-1", "a/b_c/D.e"),
    ],
)
def test_a_url_names_a_bucket_and_a_folder(url: str, bucket: str, prefix: str) -> None:
    location = parse_s3_location(url)
    assert (location.bucket, location.prefix) == (bucket, prefix)
    assert str(location).rstrip("/") == url.rstrip("/")


def test_folders_are_put_below_the_folder_that_is_named() -> None:
    assert parse_s3_location("s3://backups").below("eu-central-1").prefix == "eu-central-1"
    assert parse_s3_location("s3://backups/a").below("eu-central-1").prefix == "a/eu-central-1"


@pytest.mark.parametrize(
    "url",
    [
        "backups", "http://backups/a", "s3:backups", "s3:///a", "s3://a", "s3://key:secret@backups/a",
        "s3://backups/a//b", "s3://backups/../b", "s3://backups/a b", "s3://backups/.hidden", "s3://backups/a?x=1",
        "s3://backups/a#b",
    ],
)  # fmt: skip
def test_what_is_no_such_url_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        parse_s3_location(url)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "url", ["localhost:9000", "ftp://host", "https://", "https://key:secret@host", "https://h?a=b"]
)
def test_what_is_no_endpoint_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        parse_s3_location("s3://backups", endpoint_url=url)
    assert "secret" not in caught.value.message


def test_secrets_are_not_in_the_representation() -> None:
    shown = repr(S3Credentials(access_key_id="AKID", secret_access_key="hidden-1", session_token="hidden-2"))
    assert "AKID" in shown
    assert "hidden" not in shown

"""Names, numbers and ARNs are parsed once, and refused when they are not what they claim to be."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.domain.identifiers import (
    Arn,
    ResourceKind,
    parse_account_id,
    parse_kms_key_id,
    parse_region,
    parse_snapshot_name,
)
from stillframe.errors import InvalidRequest

pytestmark = pytest.mark.unit

KEY_UUID = "1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.mark.parametrize("name", ["a", "0", "-", "nightly-2026-11-23", "a--b", "x" * 255])
def test_a_snapshot_may_be_named_by_any_published_rule(name: str) -> None:
    assert parse_snapshot_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "with space", "under_score", "ü", "a\n", "x" * 256, "../x"])
def test_a_snapshot_may_not_be_named_otherwise(name: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_snapshot_name(name)


@pytest.mark.parametrize("text", ["12345678901", "1234567890123", "12345678901a", "", "\uff11" * 12])
def test_an_account_is_twelve_ascii_digits(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_account_id(text)


@pytest.mark.parametrize("text", ["us-east-1", "eu-central-2", "us-gov-west-1", "ap-southeast-10"])
def test_regions_are_known_by_their_form(text: str) -> None:
    assert parse_region(text) == text


@pytest.mark.parametrize("text", ["", "useast1", "us-east-", "../../etc", "US-EAST-1", "us-east-1/x"])
def test_what_is_no_region_never_becomes_a_directory(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_region(text)


@pytest.mark.parametrize(
    "text",
    [
        "AWS_OWNED_KMS_KEY",
        KEY_UUID,
        "alias/backup",
        f"arn:aws:kms:us-east-1:123456789012:key/{KEY_UUID}",
        "arn:aws:kms:us-east-1:123456789012:alias/backup",
        "mrk-1234abcd12ab34cd56ef1234567890ab",
    ],
)
def test_a_key_is_named_by_id_alias_or_arn(text: str) -> None:
    assert parse_kms_key_id(text) == text


@pytest.mark.parametrize("text", ["", "backup", "alias/", "arn:aws:s3:::bucket", f"{KEY_UUID}x", "alias/a b"])
def test_anything_else_names_no_key(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_kms_key_id(text)


@given(kind=st.sampled_from(ResourceKind), identifier=st.uuids())
def test_an_arn_reads_back_as_it_was_written(kind: ResourceKind, identifier: uuid.UUID) -> None:
    text = f"arn:aws:redshift-serverless:us-east-1:123456789012:{kind.value}/{identifier}"
    arn = Arn.parse(text)
    assert (str(arn), arn.kind, arn.id) == (text, kind, identifier)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "arn",
        "arn:aws:redshift:us-east-1:123456789012:snapshot:cluster/snap",
        f"arn:aws:redshift-serverless:us-east-1:123456789012:snapshot/{KEY_UUID.upper()}",
        f"arn:aws:redshift-serverless:us-east-1:123456789012:snapshot/{{{KEY_UUID}}}",
        f"arn:aws:redshift-serverless:us-east-1:12:snapshot/{KEY_UUID}",
        f"arn:aws:redshift-serverless:us-east-1:123456789012:table/{KEY_UUID}",
    ],
)
def test_an_arn_has_one_spelling(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Arn.parse(text)


@given(st.text(max_size=80))
def test_no_text_breaks_the_arn_parser(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Arn.parse(text)

"""From JSON to the types of the model."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stillframe.aws.errors import ProtocolCode, ProtocolError
from stillframe.aws.parser import parse_body
from stillframe.aws.shapes import (
    Bounds,
    DoubleShape,
    IntegerShape,
    MapShape,
    StringShape,
    StructureShape,
    TimestampShape,
    TimestampStyle,
)
from support.aws import operations

pytestmark = pytest.mark.unit

FREE = Bounds(least=None, greatest=None)
TEXT = StringShape(name="Text", length=FREE, pattern=None, enum=(), sensitive=False)
SAMPLE = StructureShape(
    name="Sample",
    members={
        "iso": TimestampShape(name="Iso", style=TimestampStyle.ISO),
        "epoch": TimestampShape(name="Epoch", style=TimestampStyle.EPOCH),
        "double": DoubleShape(name="Double", value=FREE),
        "long": IntegerShape(name="Long", bits=64, value=FREE),
        "map": MapShape(name="Map", key=TEXT, value=TEXT, length=FREE),
    },
    required=(),
    union=False,
    sensitive=False,
)


def parse(operation: str, body: str) -> dict[str, Any]:
    return parse_body(body.encode(), operations()[operation].input)


def sample(body: str) -> dict[str, Any]:
    return parse_body(body.encode(), SAMPLE)


def refusal(operation: str, body: str | bytes) -> str:
    """The message of the SerializationException."""
    raw = body.encode() if isinstance(body, str) else body
    with pytest.raises(ProtocolError) as caught:
        parse_body(raw, operations()[operation].input)
    assert caught.value.code is ProtocolCode.SERIALIZATION
    return caught.value.message


def test_members_come_back_with_their_types() -> None:
    body = '{"namespaceName":"ns","snapshotName":"s","retentionPeriod":7,"tags":[{"key":"k","value":""}]}'
    assert parse("CreateSnapshot", body) == {
        "namespaceName": "ns",
        "snapshotName": "s",
        "retentionPeriod": 7,
        "tags": [{"key": "k", "value": ""}],
    }


def test_null_members_are_absent_and_unknown_ones_ignored() -> None:
    assert parse("CreateSnapshot", '{"snapshotName":null,"future":{"deep":[1]}}') == {}


def test_a_null_item_is_left_for_the_validation() -> None:
    assert parse("CreateSnapshot", '{"tags":[null]}') == {"tags": [None]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"snapshotName":5}', "NUMBER_VALUE can not be converted to a String at 'snapshotName'"),
        ('{"snapshotName":true}', "TRUE_VALUE can not be converted to a String at 'snapshotName'"),
        ('{"snapshotName":["x"]}', "Start of list can not be converted to a String at 'snapshotName'"),
        ('{"retentionPeriod":"7"}', "STRING_VALUE can not be converted to an Integer at 'retentionPeriod'"),
        ('{"retentionPeriod":7.5}', "NUMBER_VALUE can not be converted to an Integer at 'retentionPeriod'"),
        ('{"retentionPeriod":7.0}', "NUMBER_VALUE can not be converted to an Integer at 'retentionPeriod'"),
        ('{"retentionPeriod":false}', "FALSE_VALUE can not be converted to an Integer at 'retentionPeriod'"),
        ('{"retentionPeriod":2147483648}', "The number at 'retentionPeriod' does not fit into an Integer"),
        ('{"tags":{}}', "Start of structure or map can not be converted to a list at 'tags'"),
        ('{"tags":[5]}', "NUMBER_VALUE can not be converted to a structure at 'tags.1.member'"),
        ('{"tags":[{},{"key":1}]}', "NUMBER_VALUE can not be converted to a String at 'tags.2.member.key'"),
    ],
)
def test_a_wrong_type_is_told_with_its_place(body: str, message: str) -> None:
    assert refusal("CreateSnapshot", body) == message


@pytest.mark.parametrize("value", ['"false"', "1", "0"])
def test_only_true_and_false_are_booleans(value: str) -> None:
    assert "Boolean" in refusal("CreateWorkgroup", f'{{"publiclyAccessible":{value}}}')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}{}",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b"\xef\xbb\xbf{}",
        b'{"snapshotName":"\xff"}',
        b"[" * 200_000,
        b'{"a":' + b"9" * 5_000 + b"}",
    ],
)
def test_what_is_not_json_is_told(body: bytes) -> None:
    assert refusal("CreateSnapshot", body) == "The request body is not valid JSON"


@pytest.mark.parametrize("body", ["[]", "null", "1", '"text"', "true"])
def test_what_is_not_an_object_is_told(body: str) -> None:
    assert refusal("CreateSnapshot", body) == "The request body is not a JSON object"


def test_a_member_that_is_there_twice_is_refused() -> None:
    body = '{"snapshotName":"a","snapshotName":"b"}'
    assert refusal("CreateSnapshot", body) == "The request body names a member twice in one object"


@pytest.mark.parametrize("text", ["\\ud800", "\\udc00\\ud800", "\\u0000", "a\\u0000b"])
def test_text_that_cannot_be_stored_is_refused(text: str) -> None:
    body = f'{{"snapshotName":"{text}"}}'
    assert "a character that is not allowed" in refusal("CreateSnapshot", body)


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert parse("CreateSnapshot", '{"snapshotName":"\\ud83e\\uddca"}') == {"snapshotName": "🧊"}


@pytest.mark.parametrize("body", ['{"epoch":1767323045.678}', '{"iso":1767323045.678}'])
def test_epoch_numbers_are_moments_everywhere(body: str) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    assert list(sample(body).values()) == [moment]


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05Z",
        "2026-01-02t03:04:05.000z",
        "2026-01-02T04:04:05+01:00",
        "2026-01-02T03:04:05.000000Z",
    ],
)
def test_iso_text_is_a_moment_in_utc_where_the_model_says_so(text: str) -> None:
    parsed = sample(f'{{"iso":"{text}"}}')["iso"]
    assert parsed == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert parsed.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "body",
    [
        '{"epoch":"2026-01-02T03:04:05Z"}',
        '{"epoch":true}',
        '{"epoch":1e18}',
        '{"epoch":-1e18}',
        '{"epoch":' + "9" * 400 + "}",
        '{"iso":"2026-01-02"}',
        '{"iso":"2026-01-02T03:04:05"}',
        '{"iso":"2026-13-02T03:04:05Z"}',
        '{"iso":"0001-01-01T00:00:00+14:00"}',
        '{"iso":"2026-W01-1T03:04:05Z"}',
        '{"iso":[]}',
    ],
)
def test_what_is_no_moment_is_refused(body: str) -> None:
    with pytest.raises(ProtocolError, match="Timestamp") as caught:
        sample(body)
    assert caught.value.code is ProtocolCode.SERIALIZATION


def test_whole_numbers_are_doubles_too() -> None:
    assert sample('{"double":3}') == {"double": 3.0}
    assert isinstance(sample('{"double":3}')["double"], float)


@pytest.mark.parametrize("body", ['{"double":"3"}', '{"double":true}', '{"double":' + "9" * 400 + "}"])
def test_what_is_no_double_is_refused(body: str) -> None:
    with pytest.raises(ProtocolError, match="Double"):
        sample(body)


def test_a_long_has_64_bits() -> None:
    assert sample('{"long":9223372036854775807}') == {"long": 2**63 - 1}
    with pytest.raises(ProtocolError, match="a Long"):
        sample('{"long":9223372036854775808}')


def test_maps_drop_null_values() -> None:
    assert sample('{"map":{"a":"b","c":null}}') == {"map": {"a": "b"}}

"""The sentences of AWS about values that are not allowed."""

from datetime import UTC, datetime
from typing import Any

import pytest

from stillframe.aws.errors import ProtocolCode, ProtocolError
from stillframe.aws.validate import validate
from support.aws import operations

pytestmark = pytest.mark.unit


def message(operation: str, **members: Any) -> str:
    """The ValidationException's message."""
    with pytest.raises(ProtocolError) as caught:
        validate(members, operations()[operation].input)
    assert caught.value.code is ProtocolCode.VALIDATION
    return caught.value.message


def one(value: str, path: str, constraint: str) -> str:
    return (
        f"1 validation error detected: Value {value} at '{path}' failed to satisfy constraint: {constraint}"
    )


def test_a_valid_request_passes() -> None:
    validate(
        {"namespaceName": "ns", "snapshotName": "s", "tags": [{"key": "k", "value": ""}]},
        operations()["CreateSnapshot"].input,
    )


def test_a_missing_member_is_a_null_value() -> None:
    told = message("CreateSnapshot", namespaceName="ns")
    assert told == one("null", "snapshotName", "Member must not be null")


@pytest.mark.parametrize(
    ("name", "constraint"),
    [
        ("ab", "Member must have length greater than or equal to 3"),
        ("a" * 65, "Member must have length less than or equal to 64"),
        ("A_B", "Member must satisfy regular expression pattern: ^[a-z0-9-]+$"),
        ("abc\n", "Member must satisfy regular expression pattern: ^[a-z0-9-]+$"),
        ("\u0661\u0662\u0663", "Member must satisfy regular expression pattern: ^[a-z0-9-]+$"),
    ],
)
def test_length_and_pattern_of_text(name: str, constraint: str) -> None:
    assert message("CreateNamespace", namespaceName=name) == one(f"'{name}'", "namespaceName", constraint)


def test_length_counts_characters_not_bytes() -> None:
    validate({"trackName": "x", "namespaceName": "abc"}, operations()["GetTrack"].input)
    told = message("TagResource", resourceArn="a", tags=[{"key": "🧊" * 129, "value": ""}])
    assert "Member must have length less than or equal to 128" in told
    validate(
        {"resourceArn": "a", "tags": [{"key": "🧊" * 128, "value": ""}]}, operations()["TagResource"].input
    )


@pytest.mark.parametrize(
    ("value", "constraint"),
    [
        (0, "Member must have value greater than or equal to 1"),
        (101, "Member must have value less than or equal to 100"),
    ],
)
def test_bounds_of_numbers(value: int, constraint: str) -> None:
    assert message("ListSnapshots", maxResults=value) == one(f"'{value}'", "maxResults", constraint)


def test_an_enum_names_its_values() -> None:
    told = message("CreateUsageLimit", amount=1, resourceArn="a", usageType="bogus")
    constraint = "Member must satisfy enum value set: [serverless-compute, cross-region-datasharing]"
    assert told == one("'bogus'", "usageType", constraint)


def test_a_list_is_bounded_too() -> None:
    tags = [{"key": f"k{number}", "value": ""} for number in range(201)]
    told = message("TagResource", resourceArn="a", tags=tags)
    assert told.startswith("1 validation error detected: Value '[Tag(key=k0, value=), Tag(key=k1, value=)")
    assert told.endswith(
        "at 'tags' failed to satisfy constraint: Member must have length less than or equal to 200"
    )


def test_items_are_counted_from_one() -> None:
    told = message("TagResource", resourceArn="a", tags=[{"key": "k", "value": ""}, {"key": "", "value": ""}])
    assert told == one("''", "tags.2.member.key", "Member must have length greater than or equal to 1")


def test_a_missing_member_of_an_item_is_told_with_its_place() -> None:
    told = message("TagResource", resourceArn="a", tags=[{"key": "k"}])
    assert told == one("null", "tags.1.member.value", "Member must not be null")


def test_a_null_item_is_told_with_its_place() -> None:
    told = message("TagResource", resourceArn="a", tags=[None])
    assert told == one("null", "tags.1.member", "Member must not be null")


def test_items_that_are_plain_text_are_told_with_all_that_they_must_satisfy() -> None:
    told = message("UntagResource", resourceArn="a", tagKeys=["ok", ""])
    constraint = (
        "Member must satisfy constraint: [Member must have length less than or equal to 128, "
        "Member must have length greater than or equal to 1]"
    )
    assert told == one("'[ok, ]'", "tagKeys", constraint)


def test_all_violations_are_in_one_message() -> None:
    told = message("CreateNamespace", namespaceName="A", logExports=["bogus"], dbName="x")
    assert told == (
        "3 validation errors detected: "
        "Value '[bogus]' at 'logExports' failed to satisfy constraint: Member must satisfy constraint: "
        "[Member must satisfy enum value set: [useractivitylog, userlog, connectionlog]]; "
        "Value 'A' at 'namespaceName' failed to satisfy constraint: "
        "Member must have length greater than or equal to 3; "
        "Value 'A' at 'namespaceName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: ^[a-z0-9-]+$"
    )


ACTION = {"namespaceName": "abc", "roleArn": "r", "scheduledActionName": "abc"}
TARGET = {"createSnapshot": {"namespaceName": "abc", "snapshotNamePrefix": "p"}}


@pytest.mark.parametrize(
    ("schedule", "shown"),
    [
        ({}, "'Schedule()'"),
        (
            {"at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "cron": "(0 10 ? * MON *)"},
            "'Schedule(at=2026-01-02T03:04:05.000Z, cron=(0 10 ? * MON *))'",
        ),
    ],
)
def test_a_union_has_exactly_one_member(schedule: dict[str, Any], shown: str) -> None:
    told = message("CreateScheduledAction", **ACTION, schedule=schedule, targetAction=TARGET)
    assert told == one(shown, "schedule", "Exactly one of the members must be set: [at, cron]")


def test_what_is_inside_a_union_is_checked() -> None:
    target = {"createSnapshot": {"namespaceName": "abc", "snapshotNamePrefix": "p" * 236}}
    told = message("CreateScheduledAction", **ACTION, schedule={"cron": "c"}, targetAction=target)
    assert "at 'targetAction.createSnapshot.snapshotNamePrefix'" in told


def test_a_sensitive_value_is_never_repeated() -> None:
    from stillframe.aws.shapes import Bounds, ListShape, StringShape, StructureShape

    secret = StringShape(
        name="Password", length=Bounds(least=8, greatest=9), pattern=None, enum=(), sensitive=True
    )
    inner = StructureShape(
        name="Login", members={"password": secret}, required=(), union=False, sensitive=False
    )
    logins = ListShape(name="Logins", member=inner, length=Bounds(least=None, greatest=1))
    shape = StructureShape(
        name="In", members={"password": secret, "logins": logins}, required=(), union=False, sensitive=False
    )
    with pytest.raises(ProtocolError) as caught:
        validate({"password": "hunter2", "logins": [{"password": "hunter2"}] * 2}, shape)
    assert "hunter2" not in caught.value.message
    assert caught.value.message.count("***Sensitive Data Redacted***") == 4
    assert "Member must have length greater than or equal to 8" in caught.value.message


def test_a_huge_value_is_cut_in_the_message() -> None:
    told = message("CreateNamespace", namespaceName="x" * 500_000)
    assert len(told) < 2_000
    assert "x…'" in told


def test_a_thousand_violations_are_counted_but_not_all_told() -> None:
    tags = [{"key": "", "value": "v" * 257}] * 200
    told = message("TagResource", resourceArn="a", tags=tags)
    assert told.startswith("400 validation errors detected: ")
    assert told.count("failed to satisfy constraint") == 100

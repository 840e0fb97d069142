"""From a handler's answer to JSON: exactly the model, or a bug that is found."""

import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import pytest

from stillframe.aws.serializer import serialize_answer
from stillframe.errors import InternalError
from support.aws import operations

pytestmark = pytest.mark.unit

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_999, tzinfo=UTC)


def sent(operation: str, **members: Any) -> Any:
    return json.loads(serialize_answer(operations()[operation], members))


def snapshot(**members: Any) -> Any:
    return sent("GetSnapshot", snapshot=members)["snapshot"]


def test_members_that_are_none_are_left_out() -> None:
    assert snapshot(snapshotName="s", adminUsername=None) == {"snapshotName": "s"}
    assert sent("GetSnapshot", snapshot=None) == {}


def test_empty_lists_stay() -> None:
    assert snapshot(accountsWithRestoreAccess=[]) == {"accountsWithRestoreAccess": []}


def test_the_array_of_a_list_operation_is_always_there() -> None:
    assert sent("ListSnapshots") == {"snapshots": []}
    assert sent("ListTagsForResource", tags=None) == {"tags": []}
    assert sent("ListSnapshots", snapshots=(), nextToken=None) == {"snapshots": []}


def test_moments_are_iso_text_to_the_millisecond() -> None:
    east = MOMENT.astimezone(timezone(timedelta(hours=2)))
    assert snapshot(snapshotCreateTime=MOMENT) == {"snapshotCreateTime": "2026-01-02T03:04:05.678Z"}
    assert snapshot(snapshotCreateTime=east) == {"snapshotCreateTime": "2026-01-02T03:04:05.678Z"}


def test_moments_are_epoch_numbers_where_the_model_says_so() -> None:
    body = serialize_answer(operations()["GetCredentials"], {"expiration": MOMENT})
    assert body == b'{"expiration":1767323045.678}'
    whole = MOMENT.replace(microsecond=0)
    assert (
        serialize_answer(operations()["GetCredentials"], {"expiration": whole})
        == b'{"expiration":1767323045}'
    )


def test_whole_numbers_become_doubles_where_the_model_says_so() -> None:
    body = serialize_answer(operations()["GetSnapshot"], {"snapshot": {"totalBackupSizeInMegaBytes": 7}})
    assert body == b'{"snapshot":{"totalBackupSizeInMegaBytes":7.0}}'


def test_string_enums_are_text() -> None:
    class Status(StrEnum):
        AVAILABLE = "AVAILABLE"

    assert snapshot(status=Status.AVAILABLE) == {"status": "AVAILABLE"}


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"snapshotId": "x"}, "GetSnapshot.snapshot.*snapshotId"),
        ({"status": "SLEEPING"}, "snapshot.status"),
        ({"snapshotName": uuid.UUID(int=0)}, "UUID at GetSnapshot.snapshot.snapshotName"),
        ({"snapshotName": b"x"}, "bytes"),
        ({"snapshotCreateTime": MOMENT.replace(tzinfo=None)}, "snapshotCreateTime"),
        ({"snapshotCreateTime": "2026-01-02"}, "str at GetSnapshot.snapshot.snapshotCreateTime"),
        ({"snapshotRemainingDays": 1.5}, "float"),
        ({"snapshotRemainingDays": True}, "bool"),
        ({"snapshotRemainingDays": 2**31}, "int"),
        ({"elapsedTimeInSeconds": 2**63}, "int"),
        ({"totalBackupSizeInMegaBytes": float("nan")}, "float"),
        ({"totalBackupSizeInMegaBytes": "7"}, "str"),
        ({"accountsWithRestoreAccess": "123456789012"}, "str"),
        ({"accountsWithRestoreAccess": {"a": 1}}, "dict"),
        ({"accountsWithRestoreAccess": [None]}, "NoneType at .*accountsWithRestoreAccess"),
    ],
)
def test_an_answer_that_the_model_does_not_know_is_a_bug_of_ours(members: dict[str, Any], told: str) -> None:
    with pytest.raises(InternalError, match=told):
        snapshot(**members)


def test_a_missing_required_member_is_a_bug_of_ours() -> None:
    with pytest.raises(InternalError, match=r"lacks required members at ListTagsForResource.tags\[\]"):
        sent("ListTagsForResource", tags=[{"key": "k"}])


def test_a_structure_that_is_none_is_a_bug_of_ours() -> None:
    with pytest.raises(InternalError, match=r"list at GetSnapshot\.snapshot"):
        sent("GetSnapshot", snapshot=[])


def test_the_value_is_not_in_the_message() -> None:
    with pytest.raises(InternalError) as caught:
        sent("GetCredentials", dbPassword=b"hunter2")
    assert "hunter2" not in str(caught.value)

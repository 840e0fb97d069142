"""`stillframe key`."""

from pathlib import Path
from typing import Any

import pytest

from support.cli import Refusal, StubService

pytestmark = pytest.mark.unit

ARN = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
KEY = {
    "keyId": ARN,
    "state": "Enabled",
    "version": 2,
    "createdAt": "2026-11-23T10:00:00.000Z",
    "aliases": ["alias/shop", "alias/x"],
}


@pytest.mark.parametrize(
    ("words", "operation", "sent"),
    [
        (["create"], "CreateKey", {}),
        (
            ["create", "--alias", "alias/shop", "--id", "1234abcd-12ab-34cd-56ef-1234567890ab"],
            "CreateKey",
            {"alias": "alias/shop", "keyId": "1234abcd-12ab-34cd-56ef-1234567890ab"},
        ),
        (["describe", "alias/shop"], "DescribeKey", {"keyId": "alias/shop"}),
        (["alias", "alias/shop", ARN], "AssignKeyAlias", {"alias": "alias/shop", "keyId": ARN}),
        (["disable", "alias/shop"], "DisableKey", {"keyId": "alias/shop"}),
        (["enable", ARN], "EnableKey", {"keyId": ARN}),
    ],
)
def test_a_command_makes_its_call_and_shows_the_key(
    stub: StubService, data: Path, stillframe: Any, words: list[str], operation: str, sent: dict[str, str]
) -> None:
    stub.answers[operation] = {"key": KEY}
    shown = stillframe("key", *words)
    assert shown.status == 0
    for part in (ARN, "Enabled", "2", "alias/shop, alias/x"):
        assert part in shown.out
    document = stillframe("key", *words, "--output", "json").document
    assert document["key"]["keyId"] == ARN
    assert stub.called(operation) == [sent, sent]


def test_keys_are_listed_with_what_is_known_of_them(stub: StubService, data: Path, stillframe: Any) -> None:
    in_kms = {"keyId": "arn:aws:kms:eu-central-1:123456789012:key/other", "state": "PendingDeletion"}
    stub.answers["ListKeys"] = {"keys": [KEY, in_kms]}
    lines = stillframe("key", "list").out.splitlines()
    assert any("Enabled" in line for line in lines)
    assert any("PendingDeletion" in line for line in lines)
    assert len(stillframe("key", "list", "--output", "json").document["keys"]) == 2


@pytest.mark.parametrize(("behind", "status"), [(0, 0), (2, 1)])
def test_a_rotation_tells_whether_a_repository_is_behind(
    stub: StubService, data: Path, stillframe: Any, behind: int, status: int
) -> None:
    stub.answers["RotateKey"] = {"key": KEY, "rewrapped": 1, "behind": behind}
    shown = stillframe("key", "rotate", "alias/shop")
    assert shown.status == status
    assert ("2 repositories could not be written" in shown.err) is bool(behind)
    document = stillframe("key", "rotate", "alias/shop", "--output", "json").document
    assert (document["rewrapped"], document["behind"]) == (1, behind)


def test_a_key_that_is_not_there_ends_with_its_sentence(
    stub: StubService, data: Path, stillframe: Any
) -> None:
    def refuse(_: Any) -> dict[str, Any]:
        raise Refusal("ValidationException", "The key alias/x does not exist.")

    stub.answers["DescribeKey"] = refuse
    shown = stillframe("key", "describe", "alias/x")
    assert shown.status == 1
    assert "The key alias/x does not exist." in shown.err

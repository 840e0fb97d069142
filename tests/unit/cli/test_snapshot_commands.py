"""The snapshot commands against a service that answers what the test says."""

import sys
from pathlib import Path
from typing import Any

import pytest

from stillframe.cli import progress
from stillframe.cli.snapshot import parse_tags
from stillframe.errors import InvalidRequest
from support.cli import Refusal, StubService, snapshot_answer

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.001)


def _captures(stub: StubService, *states: dict[str, Any]) -> None:
    """Let CreateSnapshot succeed, and DescribeSnapshot give these answers in turn, the last one for ever."""
    stub.answers["CreateSnapshot"] = {"snapshot": states[0]["snapshot"]}
    remaining = list(states)
    stub.answers["DescribeSnapshot"] = lambda _: remaining.pop(0) if len(remaining) > 1 else remaining[0]


def test_create_waits_until_the_snapshot_is_available(stub: StubService, data: Path, stillframe: Any) -> None:
    _captures(
        stub,
        snapshot_answer("night", status="CREATING", phase="checkpoint"),
        snapshot_answer(
            "night", status="CREATING", phase="reading", doneBytes=5 * 10**8, totalBytes=10**9,
            bytesPerSecond=2.5e8, remainingSeconds=2.0,
        ),
        snapshot_answer("night", logicalBytes=10**9, storedBytes=3 * 10**8, elapsedSeconds=4.0),
    )  # fmt: skip
    outcome = stillframe("snapshot", "create", "night", "--namespace", "shop")
    assert outcome.status == 0
    assert outcome.out == (
        "The snapshot night is available: 1 GB of databases, 300 MB newly stored, in 4.0 s.\n"
    )
    assert "Snapshot night: checkpoint\n" in outcome.err
    assert "Snapshot night: reading: 500 MB of 1 GB, 250 MB/s, 2.0 s left\n" in outcome.err
    assert stub.called("CreateSnapshot") == [{"snapshotName": "night", "namespaceName": "shop"}]


def test_create_sends_retention_and_tags(stub: StubService, data: Path, stillframe: Any) -> None:
    _captures(stub, snapshot_answer("n"))
    line = ("--retention-days", "7", "--tag", "team=data", "--tag", "why=a=b")
    assert stillframe("snapshot", "create", "n", "--namespace", "shop", *line).status == 0
    (sent,) = stub.called("CreateSnapshot")
    assert sent["retentionPeriod"] == 7
    assert sent["tags"] == [{"key": "team", "value": "data"}, {"key": "why", "value": "a=b"}]


def test_create_keeps_standard_output_for_the_document(
    stub: StubService, data: Path, stillframe: Any
) -> None:
    _captures(
        stub, snapshot_answer("n", status="CREATING", phase="reading"), snapshot_answer("n", storedBytes=1)
    )
    outcome = stillframe("snapshot", "create", "n", "--namespace", "shop", "--output", "json")
    assert outcome.document["snapshot"]["status"] == "AVAILABLE"
    assert outcome.document["detail"] == {"storedBytes": 1}
    assert outcome.err == ""


def test_no_wait_returns_at_once(stub: StubService, data: Path, stillframe: Any) -> None:
    _captures(stub, snapshot_answer("n", status="CREATING"))
    outcome = stillframe("snapshot", "create", "n", "--namespace", "shop", "--no-wait")
    assert outcome.status == 0
    assert outcome.out == "The snapshot n is being taken.\n"
    assert len(stub.called("DescribeSnapshot")) == 1


def test_a_failed_capture_is_status_1_with_its_reason(stub: StubService, data: Path, stillframe: Any) -> None:
    _captures(stub, snapshot_answer("n", status="FAILED", failure="No space is left on the store."))
    outcome = stillframe("snapshot", "create", "n", "--namespace", "shop")
    assert outcome.status == 1
    assert "The snapshot n is FAILED: No space is left on the store." in outcome.err


def test_a_cancelled_capture_is_status_1(stub: StubService, data: Path, stillframe: Any) -> None:
    _captures(stub, snapshot_answer("n", status="CREATING"), snapshot_answer("n", status="CANCELLED"))
    outcome = stillframe("snapshot", "create", "n", "--namespace", "shop")
    assert outcome.status == 1
    assert "The snapshot n was cancelled." in outcome.err


def test_ctrl_c_while_waiting_leaves_the_capture_running(
    stub: StubService, data: Path, stillframe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    _captures(stub, snapshot_answer("n", status="CREATING"))
    monkeypatch.setattr("stillframe.cli.watching.watch", interrupt)
    outcome = stillframe("snapshot", "create", "n", "--namespace", "shop")
    assert outcome.status == 130
    assert "The capture goes on." in outcome.err
    assert "stillframe snapshot cancel n" in outcome.err
    assert stub.called("CancelSnapshot") == []


def test_a_tag_without_an_equals_sign_is_refused_before_anything_is_sent(
    stub: StubService, data: Path, stillframe: Any
) -> None:
    outcome = stillframe("snapshot", "create", "n", "--namespace", "shop", "--tag", "oops")
    assert outcome.status == 1
    assert "'oops' is not a tag." in outcome.err
    assert stub.calls == []


@pytest.mark.parametrize("text", ["", "=", "=x", "plain"])
def test_tags_need_a_key_and_an_equals_sign(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_tags((text,))


def test_a_tag_s_value_may_be_empty() -> None:
    assert parse_tags(("a=",)) == [{"key": "a", "value": ""}]


def test_list_shows_the_newest_first(stub: StubService, data: Path, stillframe: Any) -> None:
    stub.answers["ListSnapshots"] = {
        "snapshots": [
            snapshot_answer("old", created="2026-01-01T00:00:00.000Z")["snapshot"],
            snapshot_answer("new", created="2026-02-01T00:00:00.000Z")["snapshot"]
            | {"totalBackupSizeInMegaBytes": 100.0, "actualIncrementalBackupSizeInMegaBytes": 0.5,
               "snapshotRetentionPeriod": 7, "snapshotRemainingDays": 3},
        ]
    }  # fmt: skip
    lines = stillframe("snapshot", "list", "--namespace", "shop").out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["new", "old"]
    assert "105 MB" in lines[2]
    assert "524 kB" in lines[2]
    assert "7 days, 3 left" in lines[2]
    assert "until deleted" in lines[3]
    assert stub.called("ListSnapshots")[0]["namespaceName"] == "shop"


def test_show_tells_what_is_known(stub: StubService, data: Path, stillframe: Any) -> None:
    stub.answers["DescribeSnapshot"] = snapshot_answer(
        "n", logicalBytes=10**9, storedBytes=10**6, mode="full", startLsn="0/1", stopLsn="0/2", timeline=3,
        serverVersion="18.6", damage="table t is damaged", databases=[{"name": "dev", "sizeBytes": 8_000_000}],
    )  # fmt: skip
    text = stillframe("snapshot", "show", "n").out
    for words in (
        "1 GB",
        "1 MB",
        "full",
        "0/1 to 0/2, timeline 3",
        "18.6",
        "table t is damaged",
        "dev",
        "8 MB",
    ):
        assert words in text


def test_cancel_and_delete_name_the_snapshot(stub: StubService, data: Path, stillframe: Any) -> None:
    stub.answers["CancelSnapshot"] = stub.answers["DeleteSnapshot"] = {
        "snapshot": snapshot_answer("n")["snapshot"]
    }
    assert stillframe("snapshot", "cancel", "n").out == "The capture of n is being stopped.\n"
    assert stillframe("snapshot", "delete", "n").out == "The snapshot n is deleted.\n"
    assert stub.calls == [
        ("CancelSnapshot", {"snapshotName": "n"}),
        ("DeleteSnapshot", {"snapshotName": "n"}),
    ]


_RESTORE = ("snapshot", "restore", "n", "--namespace", "shop", "--workgroup", "wg-1")


def _restores(stub: StubService, *operations: dict[str, Any]) -> None:
    stub.answers["RestoreFromSnapshot"] = {"namespace": {"namespaceName": "shop"}, "snapshotName": "n"}
    remaining = list(operations)

    def list_operations(_parameters: dict[str, Any]) -> dict[str, Any]:
        operation = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        other = {
            "operationId": "0",
            "kind": "restore_from_snapshot",
            "status": "failed",
            "requestId": "another",
        }
        return {"operations": [other, {"operationId": "1", "kind": "restore_from_snapshot"} | operation]}

    stub.answers["ListOperations"] = list_operations


def test_restore_refuses_where_nobody_can_be_asked(stub: StubService, data: Path, stillframe: Any) -> None:
    outcome = stillframe(*_RESTORE)
    assert outcome.status == 1
    assert "replaces ALL databases of the namespace shop" in outcome.err
    assert "--yes" in outcome.err
    assert stub.calls == []


@pytest.mark.parametrize(
    ("reply", "is_done"), [("y\n", True), ("yes\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_restore_asks_on_a_terminal(
    stub: StubService, data: Path, stillframe: Any, monkeypatch: pytest.MonkeyPatch, reply: str, is_done: bool
) -> None:
    _restores(stub, {"status": "succeeded", "requestId": "request-1"})
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdin, "readline", lambda: reply)
    outcome = stillframe(*_RESTORE)
    assert "Go on? [y/N]" in outcome.err
    assert (outcome.status == 0) is is_done
    assert bool(stub.called("RestoreFromSnapshot")) is is_done


def test_restore_follows_the_operation_of_its_own_request(
    stub: StubService, data: Path, stillframe: Any
) -> None:
    _restores(
        stub,
        {
            "status": "running",
            "requestId": "request-1",
            "phase": "writing",
            "doneBytes": 10**6,
            "totalBytes": 4 * 10**6,
        },
        {
            "status": "succeeded",
            "requestId": "request-1",
            "startedAt": "2026-11-23T10:00:00.000Z",
            "finishedAt": "2026-11-23T10:00:02.500Z",
        },
    )
    outcome = stillframe(*_RESTORE, "--yes")
    assert outcome.status == 0
    assert outcome.out == "The namespace shop is back at the snapshot n in 2.5 s.\n"
    assert "Restore of n into shop: writing: 1 MB of 4 MB" in outcome.err


def test_a_failed_restore_says_why_and_what_to_do(stub: StubService, data: Path, stillframe: Any) -> None:
    failed = {
        "status": "failed",
        "requestId": "request-1",
        "failureKind": "disk_full",
        "failure": "No space is left on the data directory.",
        "hint": "Make room for 3 GB.",
    }
    _restores(stub, failed)
    outcome = stillframe(*_RESTORE, "--yes")
    assert outcome.status == 1
    assert outcome.err.splitlines()[-2:] == [
        "stillframe: Restore of n into shop failed: No space is left on the data directory.",
        "Make room for 3 GB.",
    ]


def test_the_operation_is_found_on_a_later_page(stub: StubService, data: Path, stillframe: Any) -> None:
    stub.answers["RestoreFromSnapshot"] = {"namespace": {"namespaceName": "shop"}, "snapshotName": "n"}
    states = ["running", "running", "succeeded"]

    def list_operations(parameters: dict[str, Any]) -> dict[str, Any]:
        if "nextToken" not in parameters:
            return {
                "operations": [{"operationId": "0", "status": "succeeded", "requestId": "a"}],
                "nextToken": "2",
            }
        return {"operations": [{"operationId": "1", "status": states.pop(0), "requestId": "request-1"}]}

    stub.answers["ListOperations"] = list_operations
    assert stillframe(*_RESTORE, "--yes").status == 0
    assert [call.get("nextToken") for call in stub.called("ListOperations")] == [None, "2", "2", "2"]


def test_an_operation_that_nobody_knows_is_not_waited_for(
    stub: StubService, data: Path, stillframe: Any
) -> None:
    _restores(stub, {"status": "running", "requestId": "someone else's"})
    outcome = stillframe(*_RESTORE, "--yes")
    assert outcome.status == 1
    assert "does not list the operation" in outcome.err


def test_a_refused_restore_is_the_service_s_sentence(stub: StubService, data: Path, stillframe: Any) -> None:
    def refuse(_parameters: dict[str, Any]) -> dict[str, Any]:
        raise Refusal("ConflictException", "There is an operation running on the namespace.")

    stub.answers["RestoreFromSnapshot"] = refuse
    outcome = stillframe(*_RESTORE, "--yes")
    assert outcome.status == 1
    assert outcome.err == "stillframe: There is an operation running on the namespace.\n"

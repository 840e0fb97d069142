"""`snapshot open`, `close`, `query` and `prove` against a service that answers what the test says."""

from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from stillframe.cli import progress
from stillframe.cli.open_snapshots import parse_ttl
from stillframe.cli.proofs import health
from stillframe.errors import InvalidRequest
from support.cli import Refusal, StubService, snapshot_answer

pytestmark = pytest.mark.unit

COPY = {
    "openSnapshotId": "c0ffee",
    "snapshotName": "night",
    "namespaceName": "shop",
    "status": "OPENING",
    "temporary": False,
    "username": "stillframe_reader_1",
    "createdAt": "2026-11-23T10:00:00.000Z",
    "expiresAt": "2026-11-23T11:00:00.000Z",
}
OPEN = COPY | {"status": "OPEN", "address": "127.0.0.1", "port": 15439}


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.001)


def _opening(stub: StubService, *states: dict[str, Any]) -> None:
    stub.answers["OpenSnapshot"] = {"openSnapshot": states[0], "password": "Secret1word"}
    remaining = list(states)
    stub.answers["ListOpenSnapshots"] = lambda _: {
        "openSnapshots": [remaining.pop(0) if len(remaining) > 1 else remaining[0]]
    }
    stub.answers["CloseSnapshot"] = {"openSnapshots": [states[0] | {"status": "CLOSING"}]}


def test_open_waits_and_tells_how_to_connect(stub: StubService, data: Path, stillframe: Any) -> None:
    _opening(stub, COPY, COPY, OPEN)
    outcome = stillframe("snapshot", "open", "night", "--ttl", "2h")
    assert outcome.status == 0, outcome.err
    shown = dict(line.split(None, 1) for line in outcome.out.splitlines())
    assert (shown["Host"], shown["Port"], shown["Password"]) == ("127.0.0.1", "15439", "Secret1word")
    assert stub.called("OpenSnapshot") == [
        {"snapshotName": "night", "durationSeconds": 7200, "temporary": False}
    ]


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (COPY | {"status": "FAILED", "message": "There is not enough space."}, "There is not enough space."),
        (COPY | {"status": "CLOSING"}, "it was closed meanwhile"),
    ],
)
def test_a_copy_that_does_not_open_is_status_1_with_its_reason(
    stub: StubService, data: Path, stillframe: Any, end: dict[str, Any], told: str
) -> None:
    _opening(stub, COPY, end)
    outcome = stillframe("snapshot", "open", "night")
    assert outcome.status == 1
    assert f"The snapshot night could not be opened: {told}" in outcome.err


@pytest.mark.parametrize("temporary", [True, False])
def test_a_copy_made_for_a_question_is_closed_whatever_happens_and_no_other(
    stub: StubService, data: Path, stillframe: Any, temporary: bool
) -> None:
    _opening(stub, COPY | {"temporary": temporary}, COPY | {"status": "FAILED", "message": "No."})
    outcome = stillframe("snapshot", "query", "night", "-d", "dev", "SELECT 1")
    assert outcome.status == 1
    assert stub.called("OpenSnapshot")[0]["temporary"] is True
    assert stub.called("CloseSnapshot") == ([{"openSnapshotId": "c0ffee"}] if temporary else [])


def test_a_question_about_a_port_that_nobody_listens_on_is_answered_with_a_sentence(
    stub: StubService, data: Path, stillframe: Any
) -> None:
    _opening(stub, OPEN | {"port": 1})
    outcome = stillframe("snapshot", "query", "night", "-d", "dev", "SELECT 1")
    assert outcome.status == 1
    assert "The snapshot did not answer: " in outcome.err


def test_a_failed_proof_is_status_1_with_its_findings(stub: StubService, data: Path, stillframe: Any) -> None:
    operation = {"operationId": "1", "requestId": "r", "kind": "prove_snapshot", "status": "succeeded"}
    proof = {
        "result": "failed",
        "provedAt": "2026-11-23T10:00:00.000Z",
        "durationSeconds": 2.0,
        "findings": [f"database dev, table t{number}: It is wrong." for number in range(25)],
        "databases": [{"name": "dev", "tables": 1, "indexes": 2, "rows": 3, "bytes": 4}],
    }
    stub.answers["ProveSnapshot"] = {"operation": operation}
    stub.answers["ListOperations"] = {"operations": [operation]}
    stub.answers["DescribeSnapshot"] = snapshot_answer("night", proof=proof)
    outcome = stillframe("snapshot", "prove", "night")
    assert outcome.status == 1
    assert outcome.out.startswith("The snapshot night FAILED its proof, in 2.0 s.\n")
    assert "database dev, table t19: It is wrong." in outcome.out
    assert "t20" not in outcome.out
    assert "and 5 more" in outcome.out
    assert "FAILED at " in stillframe("snapshot", "show", "night").out


def test_the_list_shows_the_health_of_each_snapshot(stub: StubService, data: Path, stillframe: Any) -> None:
    stub.answers["ListSnapshots"] = {
        "snapshots": [snapshot_answer("night")["snapshot"] | {"snapshotArn": "arn:one"}]
    }
    stub.answers["ListSnapshotConditions"] = {
        "conditions": [{"snapshotName": "night", "snapshotArn": "arn:one", "damaged": True}]
    }
    assert stillframe("snapshot", "list").out.splitlines()[-1].endswith("DAMAGED")


def test_a_service_that_cannot_tell_the_health_still_lists(
    stub: StubService, data: Path, stillframe: Any
) -> None:
    stub.answers["ListSnapshots"] = {"snapshots": [snapshot_answer("night")["snapshot"]]}
    assert stillframe("snapshot", "list").status == 0


def test_other_refusals_of_the_health_are_told(stub: StubService, data: Path, stillframe: Any) -> None:
    def refuse(_: Any) -> Any:
        raise Refusal("ValidationException", "No.")

    stub.answers["ListSnapshots"] = {"snapshots": []}
    stub.answers["ListSnapshotConditions"] = refuse
    assert stillframe("snapshot", "list").status == 1


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (None, "-"),
        ({"damaged": False, "protected": False}, "-"),
        ({"damaged": False, "proof": "passed"}, "proven"),
        ({"damaged": True, "proof": "failed"}, "DAMAGED, PROOF FAILED"),
        ({"damaged": False, "protected": True, "proof": "passed"}, "proven, kept as last clean"),
    ],
)
def test_health_in_words(condition: dict[str, Any] | None, words: str) -> None:
    shown = health(condition)
    assert str(shown) == words
    assert isinstance(shown, Text) == bool(condition and condition["damaged"])


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1h", 3600), (" 2d ", 172800)]
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert parse_ttl(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-5m", "1.5h", "1w", "soon", "1h30m", "9999999999s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a duration"):
        parse_ttl(text)

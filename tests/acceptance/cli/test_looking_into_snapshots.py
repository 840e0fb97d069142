"""`snapshot open`, `opened`, `close`, `query` and `prove` as a user gives them."""

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stillframe import Local

pytestmark = pytest.mark.acceptance

Command = Callable[..., Any]
_ADMIN = {"user": "boss", "password": "Correct1horse"}


@pytest.fixture(scope="module")
def taken(local: Local, stillframe_command: Command) -> str:
    """The name of a snapshot with some orders in it, of which nothing is left since."""
    with local.connect("shop-1", **_ADMIN) as connection:
        connection.execute(
            "CREATE TABLE orders AS SELECT n, n * 1.5 AS amount, CASE WHEN n % 2 = 0 THEN 'even [x]' END AS note,"
            " n > 2 AS late, jsonb_build_object('n', n) AS more FROM generate_series(1, 3) AS n"
        )
    assert stillframe_command("snapshot", "create", "night", "--namespace", "shop-1").status == 0
    with local.connect("shop-1", **_ADMIN) as connection:
        connection.execute("DROP TABLE orders")
    return "night"


def _opened(stillframe_command: Command) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stillframe_command("snapshot", "opened", "--output", "json").document[
        "openSnapshots"
    ]
    return [copy for copy in found if copy["status"] != "CLOSING"]


def test_one_question_is_answered_and_nothing_stays_open(taken: str, stillframe_command: Command) -> None:
    asked = stillframe_command("snapshot", "query", taken, "-d", "dev", "SELECT * FROM orders ORDER BY n")
    assert asked.status == 0, asked.err
    lines = [line.split() for line in asked.out.splitlines()]
    assert lines[0] == ["n", "amount", "note", "late", "more"]
    assert lines[3] == ["2", "3.0", "even", "[x]", "f", '{"n":', "2}"]
    assert _opened(stillframe_command) == []


def test_programs_get_csv_or_json(taken: str, stillframe_command: Command) -> None:
    statement = "SELECT n, amount, note, late, more FROM orders ORDER BY n"
    as_csv = stillframe_command("snapshot", "query", taken, "-d", "dev", statement, "--format", "csv")
    assert list(csv.reader(io.StringIO(as_csv.out)))[:3] == [
        ["n", "amount", "note", "late", "more"],
        ["1", "1.5", "", "f", '{"n": 1}'],
        ["2", "3.0", "even [x]", "f", '{"n": 2}'],
    ]
    as_json = stillframe_command("snapshot", "query", taken, "-d", "dev", statement, "--output", "json")
    assert as_json.document == {
        "columns": ["n", "amount", "note", "late", "more"],
        "rows": [
            [1, "1.5", None, False, {"n": 1}],
            [2, "3.0", "even [x]", False, {"n": 2}],
            [3, "4.5", None, True, {"n": 3}],
        ],
    }
    assert as_json.err == ""


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("SELECT * FROM nothing", 'Relation "nothing" does not exist.'),
        ("SELEC 1", 'Syntax error at or near "SELEC".'),
        ("SELECT 1; SELECT 2", "Cannot insert multiple commands into a prepared statement."),
        ("DELETE FROM orders", "Cannot execute DELETE in a read-only transaction."),
        ("SELECT 1 / 0", "Division by zero."),
    ],
)
def test_a_statement_that_is_refused_ends_with_a_sentence(
    taken: str, stillframe_command: Command, statement: str, told: str
) -> None:
    asked = stillframe_command("snapshot", "query", taken, "-d", "dev", statement)
    assert asked.status == 1
    assert f"stillframe: {told}" in asked.err
    assert asked.out == ""


def test_a_database_that_is_not_in_the_snapshot_is_named(taken: str, stillframe_command: Command) -> None:
    asked = stillframe_command("snapshot", "query", taken, "-d", "nowhere", "SELECT 1")
    assert asked.status == 1
    assert 'database "nowhere" does not exist' in asked.err


def test_a_snapshot_is_opened_connected_to_asked_and_closed(taken: str, stillframe_command: Command) -> None:
    outcome = stillframe_command("snapshot", "open", taken, "--ttl", "10m")
    assert outcome.status == 0, outcome.err
    shown = dict(line.split(None, 1) for line in outcome.out.splitlines())
    login = {"host": shown["Host"], "port": shown["Port"], "user": shown["User"]}
    with psycopg.connect(**login, password=shown["Password"], dbname="dev") as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (3,)

    (copy,) = _opened(stillframe_command)
    assert str(copy["port"]) == shown["Port"]
    asked = stillframe_command("snapshot", "query", taken, "-d", "dev", "SELECT 42", "--format", "csv")
    assert asked.out.splitlines()[1] == "42"
    (still,) = _opened(stillframe_command)
    assert still["openSnapshotId"] == copy["openSnapshotId"]
    assert f"127.0.0.1:{shown['Port']} until" in stillframe_command("snapshot", "show", taken).out

    closed = stillframe_command("snapshot", "close", taken)
    assert closed.out == f"The snapshot {taken} is being closed.\n"
    assert _opened(stillframe_command) == []
    again = stillframe_command("snapshot", "close", taken)
    assert again.status == 1
    assert f"open snapshot {taken} not found" in again.err


def test_the_password_is_in_no_log_and_in_no_file(
    taken: str, local: Local, stillframe_command: Command
) -> None:
    answer = stillframe_command("snapshot", "open", taken, "--output", "json").document
    password = answer["password"].encode()
    stillframe_command("snapshot", "close", taken)
    assert password not in local.log_tail(1_000_000).encode()
    # The copy's directory goes away while this looks: what has vanished holds no password.
    for folder, _, names in os.walk(local.settings.data):
        for path in (Path(folder, name) for name in names):
            if path.is_file() and not path.is_symlink():
                assert password not in _content(path), path


def _content(path: Any) -> bytes:
    try:
        return bytes(path.read_bytes())
    except FileNotFoundError:
        return b""


def test_a_snapshot_is_proven_and_shows_it(taken: str, stillframe_command: Command) -> None:
    proven = stillframe_command("snapshot", "prove", taken)
    assert proven.status == 0, proven.err
    assert proven.out.startswith(f"The snapshot {taken} is proven, in ")
    assert [line.split()[0] for line in proven.out.splitlines() if line.startswith("dev")] == ["dev"]
    assert "PASSED at " in stillframe_command("snapshot", "show", taken).out
    (line,) = (
        line for line in stillframe_command("snapshot", "list").out.splitlines() if line.startswith(taken)
    )
    assert line.endswith("proven")


def test_an_odd_duration_is_refused(taken: str, stillframe_command: Command) -> None:
    refused = stillframe_command("snapshot", "open", taken, "--ttl", "soon")
    assert refused.status == 1
    assert "Write it as 90s, 15m, 1h or 7d." in refused.err

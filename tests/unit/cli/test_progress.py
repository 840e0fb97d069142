"""How progress is shown."""

import io
import itertools
from dataclasses import dataclass

import pytest
from rich.console import Console

from stillframe.cli.connection import connect_to
from stillframe.cli.output import OutputFormat, Terminal
from stillframe.cli.progress import Report, progress, watch
from stillframe.cli.watching import OperationState, OperationWatch
from stillframe.clients import ServiceAddress
from support.cli import StubService

pytestmark = pytest.mark.unit


@dataclass(frozen=True)
class _State:
    report: Report
    has_ended: bool


def test_watching_ends_with_the_work_and_shows_every_look() -> None:
    states = [_State(Report(phase=str(number)), number == 3) for number in range(4)]
    looks = iter(states)
    shown: list[str] = []
    naps: list[float] = []
    assert (
        watch(lambda: next(looks), lambda report: shown.append(report.phase), sleep=naps.append) is states[3]
    )
    assert shown == ["0", "1", "2", "3"]
    assert len(naps) == 3


def test_a_report_is_one_sentence() -> None:
    assert Report(phase="queued").sentence == "queued"
    full = Report(
        phase="copying", done_bytes=5 * 10**8, total_bytes=10**9, bytes_per_second=10**8, remaining_seconds=5
    )
    assert full.sentence == "copying: 500 MB of 1 GB, 100 MB/s, 5.0 s left"
    assert Report(phase="copying", done_bytes=2000).sentence == "copying: 2 kB"


def test_time_left_is_not_guessed_from_the_first_bytes() -> None:
    early = Report(
        phase="copying", done_bytes=10, total_bytes=10**9, bytes_per_second=5, remaining_seconds=10**8
    )
    assert "left" not in early.sentence


def test_without_a_terminal_lines_come_with_each_phase_and_not_with_each_look(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress(Terminal(), "Work") as view:
        for phase, done in [("a", 0), ("a", 1), ("a", 2), ("b", 3), ("b", 4)]:
            view(Report(phase=phase, done_bytes=done))
    captured = capsys.readouterr()
    assert captured.err == "Work: a\nWork: b: 3 B\n"
    assert captured.out == ""


def test_programs_are_not_told_about_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(Terminal(OutputFormat.JSON), "Work") as view:
        view(Report(phase="a", done_bytes=1, total_bytes=2))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_terminal_gets_a_bar_with_rate_and_time_left() -> None:
    screen = io.StringIO()
    terminal = Terminal()
    terminal.__dict__["err"] = Console(file=screen, force_terminal=True, width=120)
    with progress(terminal, "Snapshot [x]") as view:
        view(
            Report(
                phase="copying",
                done_bytes=5 * 10**8,
                total_bytes=10**9,
                bytes_per_second=10**8,
                remaining_seconds=5,
            )
        )
    text = screen.getvalue()
    for words in ("Snapshot [x]", "500 MB / 1 GB", "100 MB/s, 5.0 s left", "copying", "━"):
        assert words in text


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_an_operation_that_ended_is_not_watched_any_more(status: str) -> None:
    assert OperationState(operation={"status": status}).has_ended
    assert not any(OperationState(operation={"status": s}).has_ended for s in ("queued", "running"))


def test_an_operation_s_rate_is_the_mean_while_bytes_move() -> None:
    running = {"status": "running", "phase": "writing", "doneBytes": 10**9, "totalBytes": 3 * 10**9}
    report = OperationState(operation=running, moving_seconds=2.0).report
    assert report.bytes_per_second == 5 * 10**8
    assert report.remaining_seconds == 4.0
    assert OperationState(operation=running).report.bytes_per_second is None


def test_the_rate_stays_when_the_bytes_are_all_there(stub: StubService) -> None:
    done = iter([0, 10**9, 2 * 10**9, 2 * 10**9, 2 * 10**9])
    stub.answers["ListOperations"] = lambda _: {
        "operations": [{"operationId": "1", "status": "running", "requestId": "r", "doneBytes": next(done)}]
    }
    address = ServiceAddress(
        endpoint_url=stub.url, region="us-east-1", account_id="1", access_key_id="A", secret_access_key="b"
    )
    seconds = itertools.count(100.0)
    operations = OperationWatch(
        connection=connect_to(address), namespace="shop", request_id="r", now=lambda: next(seconds)
    )
    rates = [operations.look().report.bytes_per_second for _ in range(5)]
    assert rates == [None, 10**9, 10**9, 10**9, 10**9]


def test_an_operation_that_succeeded_is_complete() -> None:
    ended = {"status": "succeeded", "doneBytes": 90, "totalBytes": 100}
    report = OperationState(operation=ended, moving_seconds=1.0).report
    assert (report.done_bytes, report.total_bytes) == (100, 100)


def test_looks_are_a_quarter_of_a_second_apart() -> None:
    ends = itertools.chain([False, False], itertools.repeat(True))
    naps: list[float] = []
    watch(lambda: _State(Report(phase="x"), next(ends)), lambda _: None, sleep=naps.append)
    assert naps == [0.25, 0.25]

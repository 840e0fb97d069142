"""The forms of results."""

from datetime import UTC, datetime
from typing import Any

import pytest

from stillframe.cli.output import (
    OutputFormat,
    Terminal,
    facts,
    human_bytes,
    human_rate,
    human_seconds,
    human_time,
    table,
    to_json,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (999_499, "999 kB"),
        (999_600, "1 MB"),
        (54_321_000, "54.3 MB"),
        (10**12, "1 TB"),
        (5 * 10**17, "500 PB"),
    ],
)
def test_sizes_have_three_digits_and_a_unit(size: float | None, text: str) -> None:
    assert human_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0 ms"),
        (0.0846, "85 ms"),
        (0.9999, "1.0 s"),
        (4.24, "4.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_said_as_one_would_say_them(seconds: float | None, text: str) -> None:
    assert human_seconds(seconds) == text


def test_a_rate_is_a_size_in_a_second() -> None:
    assert human_rate(512_000_000) == "512 MB/s"
    assert human_rate(None) == "-"


def test_times_are_iso_8601_in_utc_in_json() -> None:
    moment = datetime(2026, 11, 23, 9, 30, 1, 500_000, tzinfo=UTC)
    assert '"2026-11-23T09:30:01.500000Z"' in to_json({"at": moment})
    assert human_time(None) == "-"


def test_json_is_printed_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(OutputFormat.JSON)
    terminal.result({"a": [1]}, lambda: pytest.fail("text was rendered"))
    terminal.remark("by the way")
    captured = capsys.readouterr()
    assert captured.out == '{\n  "a": [\n    1\n  ]\n}\n'
    assert captured.err == "by the way\n"


def _show(item: Any, capsys: pytest.CaptureFixture[str]) -> list[str]:
    Terminal().result({}, lambda: item)
    return capsys.readouterr().out.splitlines()


def test_a_table_in_a_pipe_has_one_line_a_row_and_no_trailing_blanks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long_name = "n" * 300
    lines = _show(table(("Name", "Size"), [(long_name, "1 kB"), ("b", "22 kB")], right=("Size",)), capsys)
    assert len(lines) == 4
    assert long_name in lines[2]
    assert all(line == line.rstrip() for line in lines)
    assert lines[3].endswith("22 kB")


def test_what_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _show(table(("Name",), [("[red]x[/red]",)]), capsys)
    assert "[red]x[/red]" in lines[-1]
    assert "[bold]y" in _show(facts({"Fact": "[bold]y"}), capsys)[0]


def test_facts_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert _show(facts({"A": "1", "B": None}), capsys) == ["A  1"]

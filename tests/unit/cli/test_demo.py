"""The parts of the demo that need no service."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillframe.cli.demo import results
from stillframe.cli.demo.fingerprint import Difference, Fingerprint, compare
from stillframe.cli.demo.narrator import Narrator
from stillframe.cli.demo.stage import CaptureFacts, Facts, make_password
from stillframe.cli.output import OutputFormat, Terminal

pytestmark = pytest.mark.unit


def _print(rows: int, checksum: str = "0") -> Fingerprint:
    return Fingerprint(rows=rows, checksum=checksum)


def test_what_differs_is_named_and_said() -> None:
    before = {"same": _print(1), "gone": _print(2), "fewer": _print(30_000), "changed": _print(4, "a")}
    after = {"same": _print(1), "fewer": _print(2), "changed": _print(4, "b"), "new": _print(5)}
    assert {item.name: item.sentence for item in compare(before, after)} == {
        "gone": "is gone",
        "fewer": "30,000 rows became 2",
        "changed": "4 rows, but not the same ones",
        "new": "was not there",
    }


def test_equal_fingerprints_differ_in_nothing() -> None:
    assert compare({"a": _print(1)}, {"a": _print(1)}) == []


def _facts(*, is_verified: bool) -> Facts:
    lost = Difference(name="shop.public.orders", before=_print(10), after=None)
    capture = CaptureFacts(
        seconds=2.0, total_seconds=2.5, read_bytes=10**9, logical_bytes=10**9, stored_bytes=10**8
    )
    return Facts(
        rows=1000,
        relations=3,
        databases=2,
        first_snapshot=capture,
        damage=[lost],
        differences=[] if is_verified else [lost],
        is_verified=is_verified,
    )


def test_the_verdict_names_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().result({}, lambda: results.render(_facts(is_verified=False)))
    text = capsys.readouterr().out
    assert "NOT verified" in text
    assert "shop.public.orders: is gone" in text


def test_the_results_have_rates_and_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().result({}, lambda: results.render(_facts(is_verified=True)))
    text = capsys.readouterr().out
    assert "1 GB read (500 MB/s), 100 MB stored" in text
    assert "Verified" in text


def test_the_document_has_the_facts() -> None:
    document = results.to_document(_facts(is_verified=False))
    assert document["verified"] is False
    assert document["firstSnapshot"]["storedBytes"] == 10**8
    assert document["secondSnapshot"] is None
    assert document["differences"] == [
        {"name": "shop.public.orders", "rowsBefore": 10, "rowsAfter": None, "what": "is gone"}
    ]


def test_passwords_are_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    Narrator(Terminal()).call("create_namespace", {"namespaceName": "a", "adminUserPassword": "Hush1234"})
    assert capsys.readouterr().out == "   client.create_namespace(namespaceName='a', adminUserPassword=…)\n"


def test_nothing_is_told_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    narrator = Narrator(Terminal(OutputFormat.JSON))
    narrator.open()
    narrator.chapter("One")
    narrator.say("words")
    assert capsys.readouterr().out == ""


def test_generated_passwords_are_accepted_by_the_api_s_rules() -> None:
    first, second = make_password(), make_password()
    assert first != second
    assert 8 <= len(first) <= 64
    assert first.isalnum()
    assert any(letter.isupper() for letter in first)
    assert any(letter.islower() for letter in first)
    assert any(letter.isdigit() for letter in first)


@pytest.mark.parametrize("scale", ["0", "-1", "0.001", "1000"])
def test_impossible_scales_are_usage_errors(stillframe: Callable[..., Any], scale: str) -> None:
    assert stillframe("demo", f"--scale={scale}").status == 2


def test_without_the_generator_the_demo_says_what_to_install(
    stillframe: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = stillframe("demo")
    assert outcome.status == 1
    assert "tpchgen-cli, which is not installed" in outcome.err
    assert "stillframe[demo]" in outcome.err

"""Help, versions, mistakes: what every command line has in common."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import stillframe as package
from stillframe.cli import root

pytestmark = pytest.mark.unit


def test_the_version_is_the_package_s(stillframe: Any) -> None:
    assert stillframe("--version").out.strip() == package.__version__


def test_help_names_every_command_and_the_exit_status(stillframe: Any) -> None:
    text = stillframe("--help").out
    for command in ("serve", "demo", "env", "credentials", "doctor", "snapshot", "repository", "namespace"):
        assert command in text
    assert "Exit status" in text


@pytest.mark.parametrize(
    "line",
    [
        ("nonsense",),
        ("snapshot", "nonsense"),
        ("snapshot", "create"),
        ("snapshot", "create", "name"),
        ("snapshot", "list", "--output", "xml"),
        ("snapshot", "create", "n", "--namespace", "x", "--retention-days", "many"),
        ("serve", "--port", "http"),
        ("snapshot", "show", "a", "b"),
    ],
)
def test_a_wrong_command_line_is_status_2_and_one_sentence(stillframe: Any, line: tuple[str, ...]) -> None:
    outcome = stillframe(*line)
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.startswith("stillframe: ")
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("command", ["serve", "demo", "env", "doctor"])
def test_every_command_explains_itself(stillframe: Any, command: str) -> None:
    outcome = stillframe(command, "--help")
    assert outcome.status == 0
    assert f"Usage: stillframe {command}" in outcome.out


@pytest.mark.parametrize(
    "group", ["snapshot", "credentials", "namespace", "workgroup", "secret", "repository"]
)
def test_every_group_lists_its_commands(stillframe: Any, group: str) -> None:
    outcome = stillframe(group, "--help")
    assert outcome.status == 0
    assert "Commands" in outcome.out


def test_a_fault_of_ours_is_a_sentence_and_not_a_traceback(
    stillframe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down() -> None:
        raise RuntimeError("impossible")

    monkeypatch.setattr(root, "build", lambda: lambda *_args, **_options: break_down())
    outcome = stillframe("snapshot", "list")
    assert outcome.status == 1
    assert "Unexpected RuntimeError: impossible" in outcome.err
    assert "Traceback" not in outcome.err


def test_ctrl_c_is_status_130_without_a_word(stillframe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(root, "build", lambda: lambda *_args, **_options: interrupt())
    outcome = stillframe("snapshot", "list")
    assert (outcome.status, outcome.out, outcome.err) == (130, "", "")


def test_help_imports_neither_an_sdk_nor_a_driver() -> None:
    heavy = ("boto3", "botocore", "psycopg", "sqlalchemy", "pydantic", "numpy", "starlette", "stillframe.app")
    program = (
        "import sys\n"
        "from stillframe.cli.root import run\n"
        "run(['--help'])\n"
        f"sys.stderr.write(','.join(name for name in {heavy!r} if name in sys.modules))"
    )
    source = str(Path(package.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": source},
        check=False,
    )
    assert done.stderr == ""


def test_a_reader_that_goes_away_is_not_an_error_message() -> None:
    source = str(Path(package.__file__).parents[1])
    program = "import sys; sys.argv = ['stillframe', '--help']; from stillframe.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": source},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""

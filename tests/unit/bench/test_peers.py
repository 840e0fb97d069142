"""Who takes part in a benchmark, and that nobody is left out without a word."""

import sys
from pathlib import Path

import pytest
from bench import pgbackrest
from bench.contenders import absent_peers
from bench.programs import find_program, run

pytestmark = pytest.mark.unit


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory in which programs are found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return tmp_path


def _make(directory: Path, name: str, says: str) -> None:
    program = directory / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)


@pytest.mark.usefixtures("programs")
def test_peers_that_are_not_installed_are_named() -> None:
    named = [sentence.partition(":")[0] for sentence in absent_peers()]
    assert named == ["restic", "borg", "barman", "pgbackrest"]


def test_only_what_is_missing_is_named(programs: Path) -> None:
    for name in ("restic", "borg", "barman"):
        _make(programs, name, "1.0")
    _make(programs, "pgbackrest", "pgBackRest 2.57.0")
    assert absent_peers() == ["barman: rsync not installed, left out."]
    _make(programs, "rsync", "3.2.7")
    assert absent_peers() == []


def test_a_pgbackrest_that_does_not_know_postgresql_18_is_left_out_with_the_reason(programs: Path) -> None:
    _make(programs, "pgbackrest", "pgBackRest 2.45")
    assert not pgbackrest.is_usable()
    assert any("2.45 does not know PostgreSQL 18" in sentence for sentence in absent_peers())


@pytest.mark.parametrize(
    ("said", "usable"), [("2.54.2", False), ("2.55", True), ("2.60.1", True), ("3.0", True)]
)
def test_pgbackrest_is_used_from_2_55_on(programs: Path, said: str, usable: bool) -> None:
    _make(programs, "pgbackrest", f"pgBackRest {said}")
    assert pgbackrest.is_usable() is usable


def test_a_program_of_the_virtual_environment_goes_before_one_of_the_path(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setattr(sys, "executable", str(own / "python"))
    _make(programs, "barman", "of the path")
    _make(own, "barman", "of the environment")
    found = find_program("barman")
    assert found is not None
    assert run(found) == "of the environment\n"


def test_a_program_that_fails_ends_the_run_with_what_it_said(programs: Path) -> None:
    (programs / "fails").write_text("#!/bin/sh\necho 'no such repository' >&2\nexit 2\n")
    (programs / "fails").chmod(0o755)
    with pytest.raises(SystemExit, match="fails ended with 2: no such repository"):
        run("fails")
    assert run("fails", accepted=(0, 2)) == ""

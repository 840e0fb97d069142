"""A stub service, a data directory that names it, and a way to run command lines in this process."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stillframe.cli.root import run
from support.cli import StubService, running_stub


@dataclass(frozen=True)
class Outcome:
    """How a command line ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output, which must be one JSON document."""
        return json.loads(self.out)


Runner = Callable[..., Outcome]


@pytest.fixture
def stub() -> Iterator[StubService]:
    """A service that answers what the test says."""
    with running_stub() as service:
        yield service


@pytest.fixture(autouse=True)
def own_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No service of this machine is found by a test."""
    monkeypatch.setenv("STILLFRAME_DATA", str(tmp_path / "data"))


@pytest.fixture
def data(stub: StubService, tmp_path: Path) -> Path:
    """A data directory on which the stub runs."""
    stub.write_service_file(tmp_path / "data", pid=os.getpid())
    return tmp_path / "data"


@pytest.fixture
def stillframe(capsys: pytest.CaptureFixture[str]) -> Runner:
    """Run a command line in this process."""

    def run_command(*arguments: str) -> Outcome:
        capsys.readouterr()
        status = run(arguments)
        captured = capsys.readouterr()
        return Outcome(status=status, out=captured.out, err=captured.err)

    return run_command

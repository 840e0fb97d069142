"""One running service, and the real command in a process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from stillframe import Local
from support.cli import environment

PASSWORD = "Correct1horse"


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output, which must be one JSON document."""
        return json.loads(self.out)


Command = Callable[..., Outcome]


@pytest.fixture(scope="session")
def command() -> Command:
    """Run `stillframe …` to its end."""

    def run(*arguments: str, seconds: float = 120) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "stillframe", *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=environment(),
            timeout=seconds,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Outcome(status=done.returncode, out=done.stdout, err=done.stderr)

    return run


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    """A service with the namespace and workgroup `shop-1`."""
    with Local() as running:
        client = running.client()
        client.create_namespace(namespaceName="shop-1", adminUsername="boss", adminUserPassword=PASSWORD)
        client.create_workgroup(workgroupName="shop-1", namespaceName="shop-1")
        wait_for_workgroup(running, "shop-1")
        yield running


@pytest.fixture(scope="module")
def stillframe_command(local: Local, command: Command) -> Command:
    """Run `stillframe … --data` on the running service."""

    def run(*arguments: str, seconds: float = 120) -> Outcome:
        return command(*arguments, "--data", str(local.settings.data), seconds=seconds)

    return run


def wait_for_workgroup(local: Local, name: str) -> None:
    """Wait until the workgroup is AVAILABLE."""
    deadline = time.monotonic() + 60
    while local.client().get_workgroup(workgroupName=name)["workgroup"]["status"] != "AVAILABLE":
        assert time.monotonic() < deadline, local.log_tail()
        time.sleep(0.1)

"""`stillframe demo`, small."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import stillframe
from support.local import passable_directory, wait_until_alone

pytestmark = pytest.mark.acceptance


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the demo makes its temporary directories."""
    with passable_directory() as path:
        monkeypatch.setenv("TMPDIR", str(path))
        yield path


def test_the_demo_verifies_everything_and_leaves_nothing(
    command: Callable[..., Any], temporary: Path
) -> None:
    outcome = command("demo", "--scale", "0.01", "--output", "json", seconds=280)
    assert outcome.status == 0, outcome.err
    facts = outcome.document
    assert facts["verified"] is True
    assert facts["differences"] == []
    assert facts["databases"] == 3
    assert {"warehouse.public.lineitem", "shop.public.orders", "billing.public.invoices", "roles"} <= {
        damage["name"] for damage in facts["damage"]
    }
    assert facts["secondSnapshot"]["storedBytes"] * 10 < facts["firstSnapshot"]["storedBytes"]
    assert wait_until_alone(temporary) == {}
    assert list(temporary.iterdir()) == []


def test_the_demo_tells_its_story_in_plain_lines(command: Callable[..., Any], temporary: Path) -> None:
    outcome = command("demo", "--scale", "0.01", seconds=280)
    assert outcome.status == 0, outcome.err
    assert "\x1b" not in outcome.out
    for words in ("client.create_snapshot(", "DROP TABLE lineitem", "is gone", "✓ All", "Verified"):
        assert words in outcome.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(temporary: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "stillframe", "demo", "--scale", "0.01"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(stillframe.__file__).parents[1])},
    ) as demo:
        assert demo.stdout is not None
        while "create_workgroup" not in demo.stdout.readline():
            assert demo.poll() is None
        demo.send_signal(number)
        _, err = demo.communicate(timeout=120)
    assert demo.returncode == 130
    assert "Traceback" not in err
    assert wait_until_alone(temporary) == {}
    assert list(temporary.iterdir()) == []

"""`stillframe serve` as a process."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import stillframe
from support.local import passable_directory, wait_until_alone

pytestmark = pytest.mark.acceptance


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory that the user of the servers can reach."""
    with passable_directory() as path:
        yield path / "data"


def _serve(data: Path, *more: str) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STILLFRAME_")}
    return subprocess.Popen(
        [sys.executable, "-m", "stillframe", "serve", "--data", str(data), "--port", "0", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"PYTHONPATH": str(Path(stillframe.__file__).parents[1])},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_prints_one_line_and_ends_cleanly_on_a_signal(data: Path, number: signal.Signals) -> None:
    with _serve(data) as service:
        assert service.stdout is not None
        line = service.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found is not None
        with urllib.request.urlopen(f"{found[0]}/health", timeout=10) as answer:
            assert json.load(answer) == {"status": "ok"}
        description = data / "run" / "service.json"
        assert description.stat().st_mode & 0o777 == 0o600
        assert json.loads(description.read_text())["endpoint_url"] == found[0]
        service.send_signal(number)
        rest, _ = service.communicate(timeout=60)
        assert rest == ""
        assert service.returncode == 0
    assert not description.exists()
    assert wait_until_alone(data) == {}


def test_a_second_serve_on_the_same_directory_refuses(data: Path) -> None:
    with _serve(data) as first:
        assert first.stdout is not None
        assert first.stdout.readline()
        with _serve(data) as second:
            out, err = second.communicate(timeout=60)
        assert (second.returncode, out) == (1, "")
        assert f"Another service already runs on {data}" in err
        assert "Traceback" not in err
        assert first.poll() is None
        first.terminate()
        first.communicate(timeout=60)


def test_settings_come_from_a_file(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "stillframe.toml"
    config.write_text('region = "ap-south-1"\nport = 0\n')
    with _serve(data, "--config", str(config)) as service:
        assert service.stdout is not None
        assert service.stdout.readline()
        assert json.loads((data / "run" / "service.json").read_text())["region"] == "ap-south-1"
        service.terminate()
        service.communicate(timeout=60)


def test_a_wrong_setting_is_a_sentence(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "stillframe.toml"
    config.write_text("colour = 'blue'\n")
    with _serve(data, "--config", str(config)) as service:
        _, err = service.communicate(timeout=60)
    assert service.returncode == 1
    assert "unknown settings: colour" in err
    assert "Traceback" not in err

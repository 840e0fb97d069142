"""Small parts of the composition: the movable clock and the lock that a process's end gives back."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from stillframe.app.clock import clock_for
from stillframe.app.lock import held_lock
from stillframe.domain.clock import SystemClock
from stillframe.errors import DataDirectoryInUse

pytestmark = pytest.mark.unit

HOLDER = """
import sys, time
from pathlib import Path
from stillframe.app.lock import held_lock
with held_lock(Path(sys.argv[1]), patience=0, message="taken"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_file_moves_the_clock(tmp_path: Path) -> None:
    file = tmp_path / "offset"
    clock = clock_for(file)
    file.write_text(str(timedelta(days=30).total_seconds()))
    assert timedelta(days=29) < clock.now() - SystemClock().now() < timedelta(days=31)


@pytest.mark.parametrize("content", [None, "", "soon"])
def test_without_a_number_in_the_file_the_clock_is_the_machines(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "offset"
    if content is not None:
        file.write_text(content)
    assert abs(clock_for(file).now() - SystemClock().now()) < timedelta(minutes=1)


def test_a_lock_that_is_held_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        held_lock(path, patience=0, message="taken"),
        pytest.raises(DataDirectoryInUse, match="taken"),
        held_lock(path, patience=0.05, message="taken"),
    ):
        pytest.fail("two held one lock")


def test_a_lock_is_free_after_its_holder_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, env=environment
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        with held_lock(path, patience=1, message="taken"):
            assert path.exists()

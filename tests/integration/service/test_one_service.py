"""One data directory, one service."""

import subprocess
import sys

import pytest

from support.crash_processes import of_role
from support.crash_rig import PATIENCE, Rig

pytestmark = pytest.mark.integration


def test_a_second_service_on_the_same_directory_refuses_and_the_first_goes_on(rig: Rig) -> None:
    rig.start()
    before = {process.pid for process in rig.processes()}
    second = subprocess.run(
        [sys.executable, "-P", "-m", "stillframe", "serve", "--data", str(rig.data), "--port", "0"],
        env=rig.process_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert second.returncode == 1
    assert second.stdout == ""
    assert f"Another service already runs on {rig.data}." in second.stderr
    assert "Traceback" not in second.stderr
    assert {process.pid for process in of_role(rig.processes(), "service")} <= before
    assert rig.resources()["namespace"] == {}
    assert rig.terminate() == 0

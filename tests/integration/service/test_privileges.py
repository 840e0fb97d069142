"""The right to administer the system stays with those who bring files."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillframe import Local

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="only root has a right to give up, on Linux"
    ),
]

_SYS_ADMIN = 1 << 21

_STEPS = """
from stillframe.app import privileges

def rights():
    lines = dict(line.split(":", 1) for line in open("/proc/thread-self/status"))
    return [bool(int(lines[name], 16) & 1 << 21) for name in ("CapEff", "CapPrm", "CapAmb")]

shown = [rights()]
for step in (
    privileges.rest_administration, privileges.take_up_administration, privileges.rest_administration,
):
    step()
    shown.append(rights())
with privileges.handing_down_administration():
    shown.append(rights())
shown.append(rights())
privileges.give_up_administration()
shown.append(rights())
privileges.take_up_administration()
shown.append(rights())
print(shown)
"""


def test_a_right_that_rests_can_be_taken_up_and_one_that_was_given_up_is_gone() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", _STEPS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if "[[True, True" not in shown:
        pytest.skip("this root may not administer the system")
    held, rested, handed, gone = [True, True, False], [False, True, False], [False, True, True], [False] * 3
    assert shown.strip() == str([held, rested, held, rested, handed, rested, gone, gone])


def test_only_the_nursery_of_a_running_service_may_administer_the_system() -> None:
    if not _may_administer("self"):
        pytest.skip("this root may not administer the system")
    expected, others = {"stillframe.app.nursery"}, {"stillframe.app.worker", "stillframe.endpoint"}
    with Local() as local:
        for _ in range(100):
            found = dict(_processes(str(local.settings.paths.root)))
            holders = {name for name, may in found.items() if may}
            if holders == expected and others < found.keys():
                break
            # The endpoint comes last. It begins as root, and becomes the servers' user when it is ready to.
            time.sleep(0.1)
    assert holders == expected
    assert others < found.keys()


def _processes(root: str) -> Iterator[tuple[str, bool]]:
    """What runs for this data directory: how it calls itself, and whether it may administer the system."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().split()
                if any(root in word for word in words):
                    name = next((word for word in words if word.startswith("stillframe.")), words[0])
                    yield name, _may_administer(process.name)
            except OSError:
                continue


def _may_administer(process: str) -> bool:
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    rights = next(line for line in status if line.startswith("CapEff:"))
    return bool(int(rights.split()[1], 16) & _SYS_ADMIN)

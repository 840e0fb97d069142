"""Killed during its very first start, the service starts the next time as if nothing had been."""

import time

import pytest

from support.crash_operations import BASE, World
from support.crash_processes import Process, kill, of_role
from support.crash_rig import ALL_POINTS, PATIENCE, Rig

pytestmark = pytest.mark.integration

MOMENTS = (0.2, 0.5, 0.8, 1.1)
CRASHES = [(whole_machine, seconds) for seconds in MOMENTS for whole_machine in (False, True)]
SPREAD = [(False, 0.2), (True, 0.5), (False, 0.8), (True, 1.1)]
"""Every moment and both kinds; STILLFRAME_CRASH_POINTS=all asks for all of them."""


@pytest.mark.parametrize(
    ("whole_machine", "seconds"),
    CRASHES if ALL_POINTS else SPREAD,
    ids=lambda value: {False: "service", True: "everything"}.get(value, str(value)),
)
def test_a_first_start_that_was_cut_off_is_begun_again(
    rig: Rig, seconds: float, *, whole_machine: bool
) -> None:
    service = rig.launch()
    time.sleep(seconds)
    kill(rig.processes() if whole_machine else of_role(rig.processes(), "service"))
    service.kill()
    service.wait(PATIENCE)
    rig.start()
    world = World(rig=rig)
    world.add_namespace(BASE)
    assert world.read(BASE) == world.namespaces[BASE].fingerprint


def test_the_moments_reach_into_the_making_of_the_catalog(rig: Rig) -> None:
    seen: list[Process] = []
    service = rig.launch()
    deadline = time.monotonic() + PATIENCE
    while not seen and service.poll() is None and time.monotonic() < deadline:
        seen = [one for one in rig.processes() if "initdb" in one.command]
    kill(rig.processes())
    service.wait(PATIENCE)
    assert seen
    rig.start()
    assert rig.resources()["namespace"] == {}

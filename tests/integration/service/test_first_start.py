"""Killed during its very first start, the service starts the next time as if nothing had been."""

import time

import pytest

from support.crash_operations import BASE, World
from support.crash_processes import Process, kill, of_role
from support.crash_rig import PATIENCE, Rig

pytestmark = pytest.mark.integration

MOMENTS = (0.2, 0.5, 0.8, 1.1)


@pytest.mark.parametrize("seconds", MOMENTS)
@pytest.mark.parametrize("whole_machine", [False, True], ids=["service", "everything"])
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

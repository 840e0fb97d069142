"""A process that dies while nothing is going on comes back by itself, where clients look for it."""

import pytest

from support.crash_checks import check_everything
from support.crash_ground import Ground
from support.crash_operations import BASE, World, make_world  # noqa: F401 - what `ground` makes
from support.crash_processes import kill, of_role
from support.crash_rig import Rig, eventually

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("role", ["postmaster", "endpoint", "worker"])
def test_what_was_killed_is_started_again_on_the_same_port(ground: Ground, role: str) -> None:
    with ground.world() as world:
        _require_it_comes_back(world, role)


def _require_it_comes_back(world: World, role: str) -> None:
    rig = world.rig
    port = world.login(BASE).port
    gone = of_role(rig.processes(), role)
    assert gone
    kill(gone)
    assert world.read(BASE) == world.namespaces[BASE].fingerprint
    assert world.login(BASE).port == port
    eventually(lambda: _is_back(rig, role, len(gone)), seconds=10, told=f"no {role}", rig=rig)
    check_everything(world, rig.settle())


def _is_back(rig: Rig, role: str, number: int) -> None:
    assert len(of_role(rig.processes(), role)) == number

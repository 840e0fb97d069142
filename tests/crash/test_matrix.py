"""SIGKILL at any moment of any operation: it is completed or has cleanly failed, and nothing else is touched.

A point is an operation, what is killed, and the moment as a fraction of what the operation takes on this machine
(measured once by each test process). By default a spread of the points is run; with
STILLFRAME_CRASH_POINTS=all they all are.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.crash_checks import check_everything
from support.crash_ground import Ground
from support.crash_operations import OPERATIONS, CrashOperation, World, make_world
from support.crash_processes import Process, kill, of_role
from support.crash_rig import ALL_POINTS, PATIENCE, NotNow

pytestmark = pytest.mark.crash

MANY, FEW = (0.0, 0.25, 0.5, 0.75, 1.0), (0.0, 0.5, 1.0)
LONG = ("create", "snapshot", "restore_same", "restore_other", "delete_namespace")
FEWER_POINTS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One cell of the matrix."""

    operation: str
    victim: str
    moment: float

    def __str__(self) -> str:
        return f"{self.operation}-{self.victim}-{self.moment:g}"


VICTIMS = (
    "service",
    "worker",
    "namespaces",
    "catalog",
    "endpoint",
    "service_and_worker",
    "everything",
)


def victims_of(name: str, found: list[Process], data: Path) -> list[Process]:
    """The processes that a victim's name stands for, among those of a data directory."""
    servers = of_role(found, "postmaster")
    match name:
        case "everything":
            return found
        case "namespaces":
            return [one for one in servers if one.place != data / "catalog"]
        case "catalog":
            return [one for one in servers if one.place == data / "catalog"]
        case "service_and_worker":
            return of_role(found, "service") + of_role(found, "worker")
        case _:
            return of_role(found, name)


def all_points() -> list[Point]:
    """The whole matrix."""
    return [
        Point(operation=operation, victim=victim, moment=moment)
        for operation in OPERATIONS
        for moment in (MANY if operation in LONG else FEW)
        for victim in VICTIMS
    ]


def chosen_points() -> list[Point]:
    """All of them, or a spread in which every operation and every victim appears."""
    points = all_points()
    if ALL_POINTS:
        return points
    stride = len(points) // FEWER_POINTS
    return [points[number * stride + number * 5 % stride] for number in range(FEWER_POINTS)]


class Timed(Ground):
    """Knows how long operations take on this machine."""

    def __init__(self) -> None:
        super().__init__(make_world)
        self.durations: dict[str, float] = {}

    def duration(self, operation: str, world: World) -> float:
        """Seconds from the request to the end of the operation, undisturbed."""
        if operation not in self.durations:
            trial = OPERATIONS[operation]()
            trial.prepare(world)
            started = time.monotonic()
            trial.ask(world)
            resources = world.rig.settle()
            self.durations[operation] = time.monotonic() - started
            trial.judge(world, resources)
            trial.again(world)
        return self.durations[operation]


@pytest.fixture(scope="session")
def ground() -> Iterator[Timed]:
    """What the points share."""
    with contextlib.closing(Timed()) as shared:
        yield shared


@pytest.mark.parametrize("point", chosen_points(), ids=str)
def test_a_crash_leaves_all_or_nothing(point: Point, ground: Timed) -> None:
    with ground.world() as world:
        duration = ground.duration(point.operation, world)
        operation = OPERATIONS[point.operation]()
        operation.prepare(world)
        _crash(operation, world, victim=point.victim, after=point.moment * duration)
        world.rig.ensure_running()
        resources = world.rig.settle()
        operation.judge(world, resources)
        check_everything(world, world.rig.settle())
        operation.again(world)


def test_the_whole_matrix_has_at_least_two_hundred_points() -> None:
    points = all_points()
    assert len(set(points)) == len(points) >= 200


def _crash(operation: CrashOperation, world: World, *, victim: str, after: float) -> None:
    """Ask, and kill so many seconds after."""

    def ask() -> None:
        with contextlib.suppress(*NotNow):
            operation.ask(world)

    asking = threading.Thread(target=ask, name="asking")
    started = time.monotonic()
    asking.start()
    time.sleep(max(0.0, started + after - time.monotonic()))
    victims = victims_of(victim, world.rig.processes(), world.rig.data)
    kill(victims)
    if of_role(victims, "service"):
        world.rig.service.wait(PATIENCE)
    asking.join()

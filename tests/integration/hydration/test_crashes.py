"""The hydrator dies: nobody reads a hole, and another one goes on with what lies there."""

import os
import random
from pathlib import Path

import pytest

from stillframe.errors import ServerUnavailable
from stillframe.hydration import HydratorClient
from stillframe.hydration.pages import PAGE_SIZE
from support.hydration import (
    HydratorProcess,
    Place,
    Server,
    eventually,
    page,
    pages,
    running,
    skip_unless_supported,
)

pytestmark = pytest.mark.integration

_COUNT = 40
_BYTES = _COUNT * PAGE_SIZE


@pytest.fixture
def place(tmp_path: Path) -> Place:
    skip_unless_supported(tmp_path)
    return Place(tmp_path)


@pytest.mark.parametrize("asked_before", [True, False])
def test_a_reader_waits_when_the_hydrator_is_dead_and_can_be_killed(place: Place, asked_before: bool) -> None:
    place.lay_out("relation", pages(_COUNT))
    place.fail(failing=True)
    with running(place) as (hydrator, server):
        if asked_before:
            # The hydrator has taken the event, and dies with it.
            server.ask("read", "relation", 0, PAGE_SIZE)
            eventually(lambda: hydrator.status.stalled is not None)
            hydrator.kill()
        else:
            hydrator.kill()
            server.ask("read", "relation", 0, PAGE_SIZE)
        assert server.waits()
        with pytest.raises(ServerUnavailable):
            HydratorClient(place.control).status()
        server.kill()
    place.fail(failing=False)
    with running(place) as (_, server):
        assert server.do("read", "relation", 0, _BYTES) == pages(_COUNT)


def test_pages_that_arrived_are_kept_with_what_the_server_wrote(place: Place) -> None:
    place.lay_out("relation", pages(_COUNT))
    with running(place) as (_, server):
        server.do("read", "relation", 0, PAGE_SIZE)
        server.write("relation", 2 * PAGE_SIZE, b"page changed".ljust(PAGE_SIZE, b"#"))
    with running(place) as (hydrator, server):
        # Page 0 and page 2; what is zero in the snapshot has no other state than a hole.
        assert hydrator.status.arrived_bytes == 2 * PAGE_SIZE
        hydrator.complete()
        expected = pages(2) + b"page changed".ljust(PAGE_SIZE, b"#") + pages(_COUNT - 3, first=3)
        assert server.do("read", "relation", 0, _BYTES) == expected


def test_a_page_that_is_half_a_hole_has_not_arrived(place: Place) -> None:
    path = place.lay_out("relation", pages(_COUNT))
    descriptor = os.open(path, os.O_RDWR)
    os.pwrite(descriptor, page(3)[:4096], 3 * PAGE_SIZE)
    os.pwrite(descriptor, page(5)[4096:], 5 * PAGE_SIZE + 4096)
    os.close(descriptor)
    with running(place) as (hydrator, server):
        assert hydrator.status.arrived_bytes == 0
        assert server.do("read", "relation", 0, _BYTES) == pages(_COUNT)


def test_what_the_server_allocated_beyond_the_limit_is_not_filled(place: Place) -> None:
    place.lay_out("relation", pages(_COUNT))
    with running(place) as (_, server):
        server.do("fallocate", "relation", _BYTES, _BYTES)
    # As if the snapshot's file were longer than it was when this one was laid out.
    (place.reference / "relation").write_bytes(pages(2 * _COUNT))
    with running(place) as (hydrator, server):
        hydrator.complete()
        assert server.do("read", "relation", _BYTES, _BYTES) == bytes(_BYTES)


def test_after_a_crash_of_the_machine_torn_and_empty_pages_come_again(place: Place) -> None:
    path = place.lay_out("relation", pages(_COUNT))
    descriptor = os.open(path, os.O_RDWR)
    os.pwrite(descriptor, bytes(PAGE_SIZE), 3 * PAGE_SIZE)
    os.pwrite(descriptor, page(4)[:5000] + bytes(PAGE_SIZE - 5000), 4 * PAGE_SIZE)
    os.pwrite(descriptor, b"page changed".ljust(PAGE_SIZE, b"#"), 5 * PAGE_SIZE)
    os.close(descriptor)
    with running(place, check_pages=True) as (hydrator, _):
        assert hydrator.status.arrived_bytes == PAGE_SIZE
    # The check was made once; what it found is not forgotten by the next hydrator.
    with running(place) as (hydrator, server):
        expected = pages(5) + b"page changed".ljust(PAGE_SIZE, b"#") + pages(_COUNT - 6, first=6)
        assert server.do("read", "relation", 0, _BYTES) == expected
        hydrator.complete()


@pytest.mark.parametrize("count", [_COUNT, 1500])
def test_a_torn_page_of_a_visibility_map_becomes_zeros_and_never_again_the_snapshots(
    place: Place, count: int
) -> None:
    """PostgreSQL clears bits in it without an image of the page in the WAL; the snapshot's page has them set."""
    path = place.lay_out("16384_vm", pages(count))
    with running(place) as (_, server):
        # Not the last ones: a file that is complete has no tag any more.
        server.do("read", "16384_vm", 0, (count - 10) * PAGE_SIZE)
    with path.open("r+b") as file:
        for number in (3, 4, 20):
            file.seek(number * PAGE_SIZE + 1000)
            file.write(bytes(PAGE_SIZE - 1000))
        file.seek(2 * PAGE_SIZE)
        file.write(bytes(PAGE_SIZE))
    kept = pages(3)
    for _ in range(2):
        # Also when the machine stops again before anything was made of it.
        with running(place, check_pages=True) as (_, server):
            assert server.do("read", "16384_vm", 0, 5 * PAGE_SIZE) == kept + bytes(2 * PAGE_SIZE)
    with running(place) as (hydrator, server):
        hydrator.complete()
        assert server.do("read", "16384_vm", 0, 5 * PAGE_SIZE) == kept + bytes(2 * PAGE_SIZE)


@pytest.mark.parametrize("seed", range(2))
def test_a_hydrator_that_is_killed_in_the_middle_of_its_fills_leaves_nothing_wrong(
    place: Place, seed: int
) -> None:
    chance = random.Random(seed)
    for number in range(4):
        place.lay_out(f"relation{number}", pages(1500))
    for _ in range(4):
        hydrator = HydratorProcess(place)
        server = Server(place, hydrator)
        hydrator.client.background()
        aim = hydrator.status.arrived_bytes + chance.randrange(1, 1000) * PAGE_SIZE
        eventually(lambda hydrator=hydrator, aim=aim: _far_enough(hydrator, aim))  # type: ignore[misc]
        hydrator.kill()
        server.kill()
    with running(place) as (hydrator, server):
        for number in range(4):
            assert server.do("read", f"relation{number}", 0, 1500 * PAGE_SIZE) == pages(1500)
        hydrator.complete()


def test_a_stopped_hydrator_answers_nobody(place: Place) -> None:
    place.lay_out("relation", pages(_COUNT))
    place.fail(failing=True)
    with running(place) as (hydrator, server):
        server.ask("read", "relation", 0, PAGE_SIZE)
        eventually(lambda: hydrator.status.stalled is not None)
        hydrator.client.stop()
        eventually(lambda: hydrator.ended() == 1)
        assert server.waits()


def _far_enough(hydrator: HydratorProcess, aim: int) -> bool:
    if hydrator.ended() is not None:
        return True
    try:
        return hydrator.status.arrived_bytes >= aim
    except ServerUnavailable:
        return True

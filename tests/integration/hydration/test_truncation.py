"""What was truncated, deleted or emptied does not come back."""

import os
from pathlib import Path

import pytest

from stillframe.hydration import TAG
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


@pytest.mark.parametrize("call", ["truncate", "ftruncate"])
@pytest.mark.parametrize("length", [0, 10 * PAGE_SIZE, 10 * PAGE_SIZE + 4096, 10 * PAGE_SIZE + 1000])
def test_what_was_truncated_does_not_come_back_when_the_file_grows(
    place: Place, call: str, length: int
) -> None:
    place.lay_out("relation", pages(_COUNT))
    with running(place) as (hydrator, server):
        server.do(call, "relation", length)
        server.do("fallocate", "relation", length, _BYTES - length)
        server.do("read", "relation", 20 * PAGE_SIZE, PAGE_SIZE)
        hydrator.complete()
        expected = pages(_COUNT)[:length].ljust(_BYTES, b"\0")
        assert server.do("read", "relation", 0, _BYTES) == expected


@pytest.mark.parametrize("length", [0, 10 * PAGE_SIZE, 10 * PAGE_SIZE + 4096, 10 * PAGE_SIZE + 1000])
def test_nor_after_the_hydrator_was_killed(place: Place, length: int) -> None:
    place.lay_out("relation", pages(_COUNT))
    with running(place) as (_, server):
        server.do("ftruncate", "relation", length)
        server.do("fallocate", "relation", length, _BYTES - length)
    with running(place) as (hydrator, server):
        expected = pages(_COUNT)[:length].ljust(_BYTES, b"\0")
        assert server.do("read", "relation", 0, _BYTES) == expected
        hydrator.complete()
        assert (place.half / "relation").read_bytes() == expected


def test_the_tag_is_lowered_before_the_truncation_takes_effect(place: Place) -> None:
    path = place.lay_out("relation", pages(_COUNT))
    with running(place) as (_, server):
        server.do("ftruncate", "relation", 8 * PAGE_SIZE)
        assert os.getxattr(path, TAG) == str(8 * PAGE_SIZE).encode()
        server.do("ftruncate", "relation", 30 * PAGE_SIZE)
        assert os.getxattr(path, TAG) == str(8 * PAGE_SIZE).encode()


@pytest.mark.parametrize("offset", [0, PAGE_SIZE, 3 * PAGE_SIZE + 4096, 3 * PAGE_SIZE + 77])
def test_an_empty_read_or_write_is_not_taken_for_a_truncation(place: Place, offset: int) -> None:
    path = place.lay_out("relation", pages(_COUNT))
    with running(place) as (_, server):
        assert server.do("read", "relation", offset, 0) == b""
        server.write("relation", offset, b"")
        assert os.getxattr(path, TAG) == str(_BYTES).encode()
        assert server.do("read", "relation", 0, _BYTES) == pages(_COUNT)


def test_a_truncation_waits_for_nothing_to_be_fetched(place: Place) -> None:
    place.lay_out("relation", pages(_COUNT))
    place.fail(failing=True)
    with running(place) as (hydrator, server):
        server.do("ftruncate", "relation", 0)
        assert hydrator.status.on_demand_reads == 0
        eventually(lambda: hydrator.ended() is not None)


def test_a_truncation_while_the_background_fills_leaves_nothing_beyond(place: Place) -> None:
    for number in range(5):
        place.lay_out(f"relation{number}", pages(_COUNT))
    place.slow(slow=True)
    with running(place) as (hydrator, server):
        hydrator.client.background()
        for number in range(5):
            server.do("ftruncate", f"relation{number}", 2 * PAGE_SIZE)
            server.do("fallocate", f"relation{number}", 2 * PAGE_SIZE, _BYTES - 2 * PAGE_SIZE)
        hydrator.complete()
        for number in range(5):
            expected = pages(2).ljust(_BYTES, b"\0")
            assert server.do("read", f"relation{number}", 0, _BYTES) == expected


def test_a_reader_beyond_a_truncation_that_waits_gets_the_old_page_or_the_end_of_the_file(
    place: Place,
) -> None:
    place.lay_out("relation", b"x" * (400 * PAGE_SIZE))
    with running(place) as (hydrator, server):
        reader = Server(place, hydrator)
        try:
            for number in range(399, 0, -1):
                server.ask("ftruncate", "relation", number * PAGE_SIZE)
                reader.ask("read", "relation", number * PAGE_SIZE, PAGE_SIZE)
                server.answer()
                assert reader.answer() in {b"", b"x" * PAGE_SIZE}
        finally:
            reader.kill()


def test_a_file_that_was_emptied_by_opening_it_is_not_made_longer(place: Place) -> None:
    path = place.lay_out("relation", pages(_COUNT))
    with running(place) as (hydrator, server):
        server.do("empty", "relation")
        hydrator.complete()
        assert path.stat().st_size == 0


def test_a_new_file_at_a_path_that_was_in_use_is_not_filled(place: Place) -> None:
    path = place.lay_out("relation", pages(_COUNT))
    place.lay_out("other", pages(_COUNT))
    with running(place) as (hydrator, server):
        server.do("unlink", "relation")
        server.do("create", "relation")
        server.do("fallocate", "relation", 0, _BYTES)
        hydrator.complete()
        assert path.read_bytes() == bytes(_BYTES)
        assert path.stat().st_blocks * 512 >= _BYTES


def test_nor_after_the_hydrator_was_killed_is_it(place: Place) -> None:
    path = place.lay_out("relation", pages(_COUNT))
    with running(place) as (_, server):
        server.do("unlink", "relation")
        server.do("create", "relation")
        server.do("ftruncate", "relation", _BYTES)
    hydrator = HydratorProcess(place)
    eventually(lambda: hydrator.ended() == 0)
    assert path.read_bytes() == bytes(_BYTES)


def test_a_deleted_file_is_still_right_for_whoever_has_it_open(place: Place) -> None:
    place.lay_out("relation", pages(_COUNT))
    place.lay_out("other", pages(_COUNT))
    with running(place) as (hydrator, server):
        assert server.do("read", "relation", 0, PAGE_SIZE) == page(0)
        server.do("unlink", "relation")
        eventually(lambda: hydrator.status.files_left == 1)
        assert server.do("read", "relation", 0, _BYTES) == pages(_COUNT)


def test_the_space_of_a_deleted_file_comes_back(place: Place) -> None:
    count = 12800  # 100 MiB: more than anything else writes here in a moment
    place.lay_out("relation", b"x" * (count * PAGE_SIZE))
    place.lay_out("other", pages(_COUNT))
    inode = (place.half / "relation").stat().st_ino
    with running(place) as (hydrator, server):
        for number in range(0, count, 128):
            server.do("read", "relation", number * PAGE_SIZE, 128 * PAGE_SIZE)
        server.do("unlink", "relation")
        server.do("close", "relation")
        eventually(lambda: hydrator.status.files_left == 1)
        eventually(lambda: not _held_open_anywhere(inode))


def _held_open_anywhere(inode: int) -> bool:
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.stat().st_ino == inode and "relation (deleted)" in str(link.readlink()):
                return True
        except OSError:
            continue
    return False

"""Whoever touches a page that has not arrived waits for it, whatever the system call."""

import base64
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stillframe.errors import ServerUnavailable
from stillframe.hydration import HydratorClient, tagged
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


@pytest.fixture
def place(tmp_path: Path) -> Place:
    skip_unless_supported(tmp_path)
    return Place(tmp_path)


@pytest.mark.parametrize(
    "call", ["read", "plain_read", "preadv", "mapped", "sendfile", "copy_file_range", "splice"]
)
def test_a_page_that_has_not_arrived_is_read_as_the_snapshot_has_it(place: Place, call: str) -> None:
    place.lay_out("relation", pages(_COUNT))
    with running(place) as (hydrator, server):
        assert server.do(call, "relation", 3 * PAGE_SIZE, 2 * PAGE_SIZE) == pages(2, first=3)
        assert server.do(call, "relation", 7 * PAGE_SIZE, PAGE_SIZE) == bytes(PAGE_SIZE)
        assert server.do(call, "relation", 30 * PAGE_SIZE + 4096, 100) == page(30)[4096:4196]
        assert 3 <= hydrator.status.on_demand_reads <= 5


@pytest.mark.parametrize("call", ["read", "mapped", "sendfile", "copy_file_range"])
@pytest.mark.parametrize("failing", [True, False])
def test_an_access_waits_for_as_long_as_the_source_fails(place: Place, call: str, failing: bool) -> None:
    place.lay_out("relation", pages(_COUNT))
    with running(place) as (hydrator, server):
        if failing:
            place.fail(failing=True)
            server.ask(call, "relation", 0, PAGE_SIZE)
            assert server.waits()
            eventually(lambda: hydrator.status.stalled is not None)
            assert "The store has a bad day" in str(hydrator.status.stalled)
            place.fail(failing=False)
        else:
            server.ask(call, "relation", 0, PAGE_SIZE)
        assert server.answer() == page(0)
        assert hydrator.status.stalled is None


@pytest.mark.parametrize("call", ["write", "pwritev"])
def test_a_write_into_a_missing_page_keeps_the_rest_of_it(place: Place, call: str) -> None:
    place.lay_out("relation", pages(_COUNT))
    with running(place) as (hydrator, server):
        server.do(call, "relation", 5 * PAGE_SIZE + 100, base64.b64encode(b"written").decode())
        hydrator.complete()
        expected = bytearray(pages(_COUNT))
        expected[5 * PAGE_SIZE + 100 : 5 * PAGE_SIZE + 107] = b"written"
        assert server.do("read", "relation", 0, _COUNT * PAGE_SIZE) == bytes(expected)


def test_a_page_that_is_written_whole_is_not_fetched_and_needs_no_source(place: Place) -> None:
    place.lay_out("relation", pages(_COUNT))
    new = b"page, new".ljust(PAGE_SIZE, b"#")
    written = (0, 5, 6, 20, 39)
    with running(place) as (hydrator, server):
        place.fail(failing=True)
        for number in written:
            server.write("relation", number * PAGE_SIZE, new)
            assert server.do("read", "relation", number * PAGE_SIZE, PAGE_SIZE) == new
        status = hydrator.status
        assert (status.arrived_bytes, status.fetched_bytes) == (len(written) * PAGE_SIZE, 0)
        place.fail(failing=False)
        hydrator.complete()
        for number in range(_COUNT):
            expected = new if number in written else page(number)
            assert server.do("read", "relation", number * PAGE_SIZE, PAGE_SIZE) == expected


@pytest.mark.parametrize(
    ("call", "offset", "data"),
    [
        ("write", 0, b"half".ljust(PAGE_SIZE // 2, b"#")),
        ("write", PAGE_SIZE // 2, b"across".ljust(PAGE_SIZE, b"#")),
        ("write", 0, bytes(PAGE_SIZE)),
        ("write", 0, b"two".ljust(2 * PAGE_SIZE, b"#")),
        ("pwritev", 0, b"by another call".ljust(PAGE_SIZE, b"#")),
    ],
    ids=["half a page", "across two", "zeros", "two pages", "another call"],
)
def test_any_other_write_waits_for_what_was_there(place: Place, call: str, offset: int, data: bytes) -> None:
    place.lay_out("relation", pages(_COUNT))
    with running(place) as (hydrator, server):
        place.fail(failing=True)
        server.ask(call, "relation", 3 * PAGE_SIZE + offset, base64.b64encode(data).decode())
        assert server.waits()
        place.fail(failing=False)
        server.answer()
        hydrator.complete()
        expected = bytearray(pages(_COUNT))
        expected[3 * PAGE_SIZE + offset : 3 * PAGE_SIZE + offset + len(data)] = data
        assert server.do("read", "relation", 0, _COUNT * PAGE_SIZE) == bytes(expected)


def test_a_writer_that_is_killed_before_its_write_leaves_a_whole_page(place: Place) -> None:
    place.lay_out("relation", pages(_COUNT))
    new = b"page, new".ljust(PAGE_SIZE, b"#")
    hydrator = HydratorProcess(place)
    server = Server(place, hydrator)
    try:
        for number in range(6):
            server.ask("write", "relation", number * PAGE_SIZE, base64.b64encode(new).decode())
            server.kill()
            hydrator.kill()
            found = (place.half / "relation").read_bytes()[number * PAGE_SIZE :][:PAGE_SIZE]
            assert found in {new, bytes(PAGE_SIZE), page(number)}
            hydrator = HydratorProcess(place)
            server = Server(place, hydrator)
            assert server.do("read", "relation", number * PAGE_SIZE, PAGE_SIZE) in {new, page(number)}
    finally:
        server.kill()
        hydrator.kill()


def test_what_the_server_wrote_is_never_replaced_by_the_background(place: Place) -> None:
    place.lay_out("relation", pages(_COUNT))
    with running(place) as (hydrator, server):
        for number in (0, 9, 39):
            server.write("relation", number * PAGE_SIZE, b"new".ljust(PAGE_SIZE, b"!"))
        hydrator.complete()
        for number in range(_COUNT):
            expected = b"new".ljust(PAGE_SIZE, b"!") if number in {0, 9, 39} else page(number)
            assert server.do("read", "relation", number * PAGE_SIZE, PAGE_SIZE) == expected


def test_readahead_that_caches_the_zeros_of_a_hole_does_not_last(place: Place) -> None:
    place.lay_out("relation", pages(_COUNT))
    with running(place) as (hydrator, server):
        server.do("advise", "relation", 0, _COUNT * PAGE_SIZE)
        assert hydrator.status.arrived_bytes == 0
        assert server.do("read", "relation", 0, _COUNT * PAGE_SIZE) == pages(_COUNT)


def test_a_hole_that_is_punched_stays_a_hole(place: Place) -> None:
    place.lay_out("relation", pages(_COUNT))
    with running(place) as (hydrator, server):
        server.do("punch", "relation", 4 * PAGE_SIZE, PAGE_SIZE)
        hydrator.complete()
        expected = pages(4) + bytes(PAGE_SIZE) + pages(_COUNT - 5, first=5)
        assert server.do("read", "relation", 0, _COUNT * PAGE_SIZE) == expected


def test_many_files_arrive_and_lose_tag_and_mark(place: Place) -> None:
    for number in range(30):
        place.lay_out(f"base/{number % 3}/{number}", pages(number))
    with running(place) as (hydrator, server):
        assert hydrator.status.total_bytes == sum(range(30)) * PAGE_SIZE
        for number in range(0, 30, 4):
            assert server.do("read", f"base/{number % 3}/{number}", 0, 9 * PAGE_SIZE) == pages(min(number, 9))
        hydrator.complete()
        assert list(tagged(place.half)) == []
        for number in range(30):
            assert (place.half / f"base/{number % 3}/{number}").read_bytes() == pages(number)
        # The group lives on in the server, without marks: a file is written as fast as any, and nobody waits.
        server.write("base/0/3", 0, b"x" * PAGE_SIZE)


def test_nobody_gets_the_group_before_the_last_file_is_made_and_then_whoever_waits_for_it(
    place: Place,
) -> None:
    place.making(making=True)
    place.lay_out("base/1/early", pages(4))
    hydrator = HydratorProcess(place, armed=False)
    try:
        with pytest.raises(ServerUnavailable):
            HydratorClient(place.control, deadline=0.1).descriptor()
        assert not hydrator.is_armed()
        place.lay_out("base/2/late", pages(2))
        with ThreadPoolExecutor() as pool:
            waiting = [pool.submit(hydrator.client.descriptor) for _ in range(3)]
            place.making(making=False)
            for descriptor in waiting:
                os.close(descriptor.result())
        assert hydrator.status.total_bytes == 6 * PAGE_SIZE
        server = Server(place, hydrator)
        try:
            for name, count in (("1/early", 4), ("2/late", 2)):
                assert server.do("read", f"base/{name}", 0, 8 * PAGE_SIZE) == pages(count)
            hydrator.complete()
            assert list(tagged(place.half)) == []
        finally:
            server.kill()
    finally:
        hydrator.kill()


def test_what_is_wanted_first_comes_unasked_and_nothing_else_does(place: Place) -> None:
    place.fail(failing=True)
    first, other = place.lay_out("first/1", pages(5)), place.lay_out("base/1", pages(3))
    with running(place) as (hydrator, server):
        eventually(lambda: "wanted first" in (hydrator.status.stalled or ""))
        place.fail(failing=False)
        eventually(lambda: hydrator.status.files_left == 1)
        assert list(tagged(place.half)) == [other]
        assert hydrator.status.arrived_bytes == hydrator.status.fetched_bytes == 5 * PAGE_SIZE
        assert hydrator.status.on_demand_reads == 0
        assert server.do("read", "first/1", 0, 8 * PAGE_SIZE) == pages(5) == first.read_bytes()


def test_a_last_page_that_is_cut_off_arrives(place: Place) -> None:
    content = pages(3) + b"tail"
    place.lay_out("relation", content)
    with running(place) as (hydrator, server):
        assert server.do("read", "relation", 2 * PAGE_SIZE, 9000) == page(2) + b"tail"
        hydrator.complete()
        assert (place.half / "relation").read_bytes() == content


def test_several_servers_processes_ask_for_the_same_pages_at_once(place: Place) -> None:
    place.lay_out("relation", pages(400))
    place.slow(slow=True)
    with running(place) as (hydrator, _):
        others = [Server(place, hydrator) for _ in range(5)]
        try:
            hydrator.client.background()
            for other in others:
                other.ask("read", "relation", 0, 400 * PAGE_SIZE)
            assert all(other.answer() == pages(400) for other in others)
        finally:
            for other in others:
                other.kill()


def test_a_sequential_reader_gets_more_than_it_asked_for(place: Place) -> None:
    place.lay_out("relation", pages(1000))
    with running(place) as (hydrator, server):
        for number in range(0, 1000, 2):
            assert server.do("read", "relation", number * PAGE_SIZE, 2 * PAGE_SIZE) == pages(2, first=number)
        assert hydrator.status.on_demand_reads < 50


def test_this_process_never_saw_a_page_of_zeros_in_a_race_of_readers(place: Place) -> None:
    place.lay_out("relation", b"x" * (800 * PAGE_SIZE))
    wrong: list[int] = []

    def read(step: int) -> None:
        descriptor = os.open(place.half / "relation", os.O_RDONLY)
        wrong.extend(
            number
            for number in range(0, 800, step)
            if os.pread(descriptor, PAGE_SIZE, number * PAGE_SIZE) != b"x" * PAGE_SIZE
        )
        os.close(descriptor)

    with running(place) as (hydrator, _):
        hydrator.client.background()
        threads = [threading.Thread(target=read, args=(step,)) for step in (1, 3, 7, 11)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_everything_arrives_while_the_server_writes_on(place: Place) -> None:
    for number in range(3):
        place.lay_out(f"relation{number}", pages(400))
    place.writes()
    with running(place) as (hydrator, server):
        server.write("relation1", 7 * PAGE_SIZE, b"w" * PAGE_SIZE)
        hydrator.complete()
        expected = pages(7) + b"w" * PAGE_SIZE + pages(392, first=8)
        assert server.do("read", "relation0", 0, 400 * PAGE_SIZE) == pages(400)
        assert server.do("read", "relation1", 0, 400 * PAGE_SIZE) == expected


def test_more_files_than_descriptors_arrive_as_well(place: Place) -> None:
    for number in range(40):
        place.lay_out(f"relation{number}", pages(_COUNT))
    place.slow(slow=True)
    hydrator = HydratorProcess(place, descriptors=1200)
    assert hydrator.status.files_left == 40
    server = Server(place, hydrator)
    try:
        hydrator.client.background()
        server.do("unlink", "relation39")
        server.write("relation38", 39 * PAGE_SIZE, b"w" * PAGE_SIZE)
        for number in range(38):
            assert server.do("read", f"relation{number}", 0, _COUNT * PAGE_SIZE) == pages(_COUNT)
        hydrator.complete()
        expected = pages(_COUNT - 1) + b"w" * PAGE_SIZE
        assert server.do("read", "relation38", 0, _COUNT * PAGE_SIZE) == expected
    finally:
        server.kill()
        hydrator.kill()

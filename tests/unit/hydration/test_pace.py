"""The background gives way to accesses that wait, and to a server that waits for the disk."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from stillframe.hydration.pace import Pace

pytestmark = pytest.mark.unit


def test_pieces_come_side_by_side_while_the_server_is_quiet() -> None:
    pace = Pace(threading.Event(), server_writes=lambda: False)
    barrier = threading.Barrier(3)

    def bring(_: int) -> bool:
        with pace.piece() as server_writes:
            barrier.wait(timeout=60)
        return server_writes

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(bring, range(3))) == [False] * 3


def test_pieces_come_one_after_the_other_while_the_server_writes() -> None:
    pace = Pace(threading.Event(), server_writes=lambda: True)
    at_work: list[int] = []

    def bring(number: int) -> int:
        with pace.piece():
            at_work.append(number)
            time.sleep(0.01)
            beside = len(at_work)
            at_work.remove(number)
        return beside

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(bring, range(3))) == [1, 1, 1]


class Stop(threading.Event):
    """Notes how long it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return self.is_set()


@pytest.mark.parametrize("server_writes", [True, False])
def test_a_thread_rests_after_a_piece_while_the_server_writes(*, server_writes: bool) -> None:
    stop = Stop()
    pace = Pace(stop, server_writes=lambda: server_writes)
    with pace.piece() as told:
        time.sleep(0.02)
    assert told == server_writes
    assert [wait >= 0.01 for wait in stop.waits] == [True] * server_writes


def test_a_piece_that_fails_is_not_rested_after() -> None:
    stop = Stop()
    with pytest.raises(OSError, match="no such day"), Pace(stop, server_writes=lambda: True).piece():
        raise OSError("no such day")
    assert stop.waits == []


def test_the_background_waits_for_an_access_and_no_longer_than_it() -> None:
    stop = Stop()
    pace = Pace(stop, server_writes=lambda: False)
    with pace.demanded():
        pace.give_way()
    assert stop.waits
    time.sleep(0.01)
    stop.waits.clear()
    pace.give_way()
    assert stop.waits == []


def test_what_is_stopped_looks_once_and_waits_for_nobody() -> None:
    stop = Stop()
    stop.set()
    pace = Pace(stop, server_writes=lambda: True)
    with pace.demanded():
        pace.give_way()
        pace.await_first_queries()
    assert len(stop.waits) == 2

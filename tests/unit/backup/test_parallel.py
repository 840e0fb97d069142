"""Work on several threads ends as a whole: done, failed by its first error, or cancelled."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from stillframe.backup.parallel import Unit, beside, run_parallel
from stillframe.domain.cancel import CancelToken
from stillframe.errors import Cancelled, DiskFull

pytestmark = pytest.mark.unit


def test_every_unit_runs_once() -> None:
    done: list[int] = []
    units: Iterator[Unit] = (partial(done.append, number) for number in range(500))
    run_parallel(units, threads=3, cancel=CancelToken())
    assert sorted(done) == list(range(500))


def test_the_first_error_ends_the_work_soon() -> None:
    done: list[int] = []

    def units() -> Iterator[Unit]:
        for number in range(100_000):
            yield _fail if number == 10 else partial(done.append, number)

    with pytest.raises(DiskFull, match="full"):
        run_parallel(units(), threads=2, cancel=CancelToken())
    assert len(done) < 100_000


def test_an_error_of_whoever_makes_the_units_counts_too() -> None:
    def units() -> Iterator[Unit]:
        yield lambda: None
        raise DiskFull("while planning")

    with pytest.raises(DiskFull, match="planning"):
        run_parallel(units(), threads=2, cancel=CancelToken())


def test_cancelling_stops_between_two_units() -> None:
    cancel = CancelToken()
    done: list[int] = []

    def unit(number: int) -> None:
        done.append(number)
        if number == 5:
            cancel.cancel("enough")

    with pytest.raises(Cancelled, match="enough"):
        run_parallel((partial(unit, number) for number in range(10_000)), threads=2, cancel=cancel)
    assert len(done) < 10_000


def test_the_heartbeat_can_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillframe.backup.parallel._HEARTBEAT_SECONDS", 0.01)
    going = threading.Event()

    def endless() -> Iterator[Unit]:
        while not going.wait(0.001):
            yield lambda: None

    def heartbeat() -> None:
        going.set()
        raise DiskFull("the source went away")

    with pytest.raises(DiskFull, match="went away"):
        run_parallel(endless(), threads=2, cancel=CancelToken(), heartbeat=heartbeat)


def _fail() -> None:
    raise DiskFull("full")


def test_work_beside_a_block_is_waited_for_where_its_result_is_needed() -> None:
    began, may_end = threading.Event(), threading.Event()

    def work() -> str:
        began.set()
        assert may_end.wait(10)
        return "done"

    with beside(work) as result:
        assert began.wait(10)
        may_end.set()
        assert result() == "done"


def test_an_error_of_work_beside_a_block_comes_where_its_result_is_needed() -> None:
    with pytest.raises(DiskFull, match="full"), beside(_fail) as result:
        result()


def test_work_beside_a_block_has_ended_when_the_block_fails() -> None:
    may_end, ended = threading.Event(), threading.Event()

    def work() -> None:
        assert may_end.wait(10)
        ended.set()

    def block() -> None:
        with beside(work):
            may_end.set()
            raise Cancelled("by the block")

    with pytest.raises(Cancelled):
        block()
    assert ended.is_set()

"""Figures about running work are true at any moment."""

import threading
from datetime import UTC, datetime

import pytest

from stillframe.backup.progress import Progress

pytestmark = pytest.mark.unit


class SetClock:
    """A clock that shows what it is told."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def test_rate_and_remaining_time_follow_from_what_was_done() -> None:
    clock = SetClock()
    progress = Progress(clock)
    progress.begin("checkpoint")
    clock.sleep(5)
    assert progress.current.total_bytes is None
    assert progress.current.remaining_seconds is None
    progress.begin("copying")
    progress.expect(1000)
    clock.sleep(2)
    progress.advance(400)
    seen = progress.current
    assert (seen.phase, seen.done_bytes, seen.total_bytes) == ("copying", 400, 1000)
    assert (seen.bytes_per_second, seen.elapsed_seconds, seen.remaining_seconds) == (200, 7, 3)


def test_what_becomes_known_later_adds_to_the_total() -> None:
    progress = Progress(SetClock())
    progress.expect(10)
    progress.expect(5)
    assert progress.current.total_bytes == 15


def test_several_threads_lose_no_byte() -> None:
    progress = Progress(SetClock())

    def advance() -> None:
        for _ in range(5000):
            progress.advance(1)

    workers = [threading.Thread(target=advance) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert progress.current.done_bytes == 20000

"""Whether a server writes WAL is seen from its files."""

import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from stillframe.postgres.wal_activity import WalActivity

pytestmark = pytest.mark.unit

MOMENT = 0.1
"""Seconds between two looks, more than any look waits for and less than a pause."""


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def wal(tmp_path: Path) -> Path:
    directory = tmp_path / "pg_wal"
    directory.mkdir()
    for number in (1, 2):
        (directory / f"00000001000000000000000{number}").touch()
        os.utime(directory / f"00000001000000000000000{number}", ns=(number, number))
    return directory


class Looks:
    """Looks at a server, a moment apart, each after something happened or nothing."""

    def __init__(self, wal: Path) -> None:
        self.clock = Clock()
        self.writes = WalActivity(wal.parent, now=self.clock)

    def after(self, *happens: Callable[[], None], seconds: float = MOMENT) -> list[bool]:
        """What each look says."""
        return [self._after(one, seconds) for one in happens]

    def _after(self, happens: Callable[[], None], seconds: float) -> bool:
        happens()
        self.clock.seconds += seconds
        return self.writes()


def nothing() -> None:
    pass


@pytest.fixture
def looks(wal: Path) -> Looks:
    return Looks(wal)


@pytest.fixture
def write(wal: Path) -> Callable[[], None]:
    """Write to the newest segment once more."""
    moments = count(100)

    def once() -> None:
        moment = next(moments)
        os.utime(wal / "000000010000000000000002", ns=(moment, moment))

    return once


@pytest.fixture
def begin_segment(wal: Path) -> Callable[[], None]:
    """Make the next segment."""
    numbers = count(3)

    def once() -> None:
        number = next(numbers)
        segment = wal / f"0000000100000000000000{number:02X}"
        segment.touch()
        os.utime(segment, ns=(number, number))

    return once


def test_a_server_writes_that_did_at_three_looks_in_a_row_and_until_a_quarter_of_a_second_after(
    looks: Looks, write: Callable[[], None]
) -> None:
    assert looks.after(write, write, write) == [False, False, True]
    assert looks.after(*[nothing] * 5) == [True, True, False, False, False]


def test_a_server_that_goes_on_writing_is_never_quiet(looks: Looks, write: Callable[[], None]) -> None:
    assert all(looks.after(*[write] * 20)[2:])


def test_a_server_that_writes_a_little_now_and_then_is_quiet(looks: Looks, write: Callable[[], None]) -> None:
    assert not any(looks.after(*[write, write, nothing] * 5))


def test_what_was_written_long_before_a_look_says_nothing(looks: Looks, write: Callable[[], None]) -> None:
    assert not any(looks.after(*[write] * 5, seconds=1.0))
    assert looks.after(write, write, write) == [False, False, True]


def test_a_server_that_was_looked_at_just_now_is_not_looked_at_again(
    looks: Looks, write: Callable[[], None]
) -> None:
    assert not any(looks.after(*[write] * 10, seconds=0.001))


def test_segments_that_come_and_go_are_told_by_the_newest(
    looks: Looks, wal: Path, begin_segment: Callable[[], None]
) -> None:
    (wal / "000000010000000000000001").unlink()
    assert not any(looks.after(*[nothing] * 4))
    assert looks.after(*[begin_segment] * 3) == [False, False, True]
    assert looks.after(*[nothing] * 3) == [True, True, False]


def test_summaries_of_wal_are_not_wal(looks: Looks, wal: Path) -> None:
    summaries = wal / "summaries"
    summaries.mkdir()
    assert not any(looks.after(*[lambda: os.utime(summaries)] * 5))


def test_a_directory_that_is_gone_is_quiet_in_the_end(
    looks: Looks, wal: Path, write: Callable[[], None]
) -> None:
    looks.after(write, write, write)
    assert looks.after(lambda: shutil.rmtree(wal), *[nothing] * 5)[-1] is False


def test_a_directory_without_segments_is_quiet_until_there_are_some(
    wal: Path, begin_segment: Callable[[], None]
) -> None:
    for segment in wal.iterdir():
        segment.unlink()
    looks = Looks(wal)
    assert not any(looks.after(*[nothing] * 5))
    assert looks.after(*[begin_segment] * 3) == [False, False, True]

"""Whether a server writes WAL is seen from its files."""

import os
import shutil
from pathlib import Path

import pytest

from stillframe.postgres.wal_activity import WalActivity

pytestmark = pytest.mark.unit


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


def write(wal: Path, moment: int) -> None:
    os.utime(wal / "000000010000000000000002", ns=(moment, moment))


def test_a_server_is_quiet_until_a_segment_changes_and_a_quarter_of_a_second_after(wal: Path) -> None:
    clock = Clock()
    writes = WalActivity(wal.parent, now=clock)
    assert not writes()
    write(wal, 7)
    assert not writes(), "looked again at once"
    clock.seconds += 0.1
    assert writes()
    clock.seconds += 0.2
    assert writes()
    clock.seconds += 0.1
    assert not writes()


def test_a_server_that_goes_on_writing_is_never_quiet(wal: Path) -> None:
    clock = Clock()
    writes = WalActivity(wal.parent, now=clock)
    for step in range(1, 20):
        write(wal, 100 + step)
        clock.seconds += 0.1
        assert writes()


def test_segments_that_come_and_go_are_told_by_the_newest(wal: Path) -> None:
    clock = Clock()
    writes = WalActivity(wal.parent, now=clock)
    (wal / "000000010000000000000001").unlink()
    clock.seconds += 0.1
    assert not writes()
    (wal / "000000010000000000000003").touch()
    clock.seconds += 0.1
    assert writes()


def test_a_directory_that_is_gone_is_quiet_in_the_end(wal: Path) -> None:
    clock = Clock()
    writes = WalActivity(wal.parent, now=clock)
    shutil.rmtree(wal)
    for _ in range(5):
        clock.seconds += 1.0
        last = writes()
    assert not last


def test_a_directory_without_segments_is_quiet_until_the_first(tmp_path: Path) -> None:
    clock = Clock()
    wal = tmp_path / "pg_wal"
    wal.mkdir()
    writes = WalActivity(tmp_path, now=clock)
    for _ in range(3):
        clock.seconds += 0.1
        assert not writes()
    (wal / "000000010000000000000001").touch()
    clock.seconds += 0.1
    assert writes()


def test_each_new_segment_tells_that_a_server_writes_and_only_for_a_while(wal: Path) -> None:
    clock = Clock()
    writes = WalActivity(wal.parent, now=clock)
    for step in range(3, 9):
        segment = wal / f"00000001000000000000000{step}"
        segment.touch()
        os.utime(segment, ns=(step * 1000, step * 1000))
        clock.seconds += 0.3
        assert writes()
        clock.seconds += 0.3
        assert not writes()

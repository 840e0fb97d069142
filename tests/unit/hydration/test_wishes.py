"""Files that are asked for often come first."""

from pathlib import Path

import pytest

from stillframe.hydration.file import ArrivingFile
from stillframe.hydration.wishes import Wishes

pytestmark = pytest.mark.unit


def _file(name: str) -> ArrivingFile:
    return ArrivingFile(name, str(Path("nowhere") / name), descriptor=-1, identity=(0, 0), limit=8192)


def test_a_file_is_wished_for_when_it_was_asked_four_times_and_only_once() -> None:
    wishes, one, other = Wishes(), _file("one"), _file("other")
    for _ in range(3):
        wishes.note(one)
    assert wishes.next() is None
    for _ in range(4):
        wishes.note(other)
    for _ in range(9):
        wishes.note(one)
    assert wishes.next() is other
    assert wishes.next() is one
    assert wishes.next() is None

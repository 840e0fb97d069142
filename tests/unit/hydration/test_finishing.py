"""Completed files: those that are asked for often become ordinary ones at once, the others together."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillframe.errors import OperatorError
from stillframe.hydration import finishing, tag
from stillframe.hydration.fanotify import Group
from stillframe.hydration.file import ArrivingFile, identity_of
from stillframe.hydration.files import Files
from stillframe.hydration.finishing import Finisher
from stillframe.hydration.ledger import Ledger
from stillframe.hydration.pages import PAGE_SIZE
from stillframe.hydration.tags import limit_of
from stillframe.hydration.wishes import Wishes

pytestmark = pytest.mark.unit


class Marks(Group):
    """A group that has no descriptor, and tells when the next file has lost its mark."""

    def __init__(self) -> None:
        self.unmarked = threading.Event()

    def unmark(self, descriptor: int) -> None:
        os.fstat(descriptor)
        self.unmarked.set()


@pytest.fixture
def marks() -> Marks:
    return Marks()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    """`asked`, `other` and `missing`, of a page each, of which the first two are complete."""
    files = Files()
    for name in ("asked", "other", "missing"):
        path = tmp_path / name
        path.write_bytes(bytes(PAGE_SIZE))
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            tag(descriptor, PAGE_SIZE)
        except OperatorError as error:
            os.close(descriptor)
            pytest.skip(f"no extended attributes here: {error.message}")
        identity = identity_of(descriptor)
        file = ArrivingFile(name, str(path), descriptor=descriptor, identity=identity, limit=PAGE_SIZE)
        if name != "missing":
            file.pages.arrived(0, 1)
        files.add(file)
    yield files
    for file in files.left():
        file.release()


def test_a_file_that_is_asked_for_often_does_not_wait_for_the_others(
    tmp_path: Path, files: Files, marks: Marks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing, "_SHORTEST_PAUSE_SECONDS", 3600.0)
    asked, other = files.at("asked"), files.at("other")
    assert asked is not None
    assert other is not None
    wishes = Wishes()
    for _ in range(4):
        wishes.note(asked)
    finisher = Finisher(tmp_path, marks, files, Ledger())
    finisher.start()
    finisher.look_at(other)
    finisher.look_at(asked)
    assert marks.unmarked.wait(60)
    finisher.end()
    assert limit_of(str(tmp_path / "asked")) is None
    assert limit_of(str(tmp_path / "missing")) == PAGE_SIZE
    assert files.at("asked") is None
    assert files.at("missing") is not None

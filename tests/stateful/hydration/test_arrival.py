"""Files that arrive while a server uses them, against a plain model of what they should contain.

In any order the server reads, writes, truncates, extends, deletes and recreates, the source fails and heals, the
background begins, hydrator and server are killed. Every read is compared. STILLFRAME_HYDRATION_STEPS lengthens it.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stillframe.errors import ServerUnavailable
from stillframe.hydration import tagged
from stillframe.hydration.pages import PAGE_SIZE
from support.hydration import HydratorProcess, Place, Server, eventually, pages, skip_unless_supported

pytestmark = pytest.mark.stateful

_NAMES = ("one", "two", "three")
_PAGES = 24
_STEPS = int(os.environ.get("STILLFRAME_HYDRATION_STEPS", "60"))

_name = st.sampled_from(_NAMES)
_page = st.integers(0, _PAGES + 6)


class Arrival(RuleBasedStateMachine):
    """`model` has the bytes that every file would have if all had been there from the beginning."""

    def __init__(self) -> None:
        super().__init__()
        self._root = Path(tempfile.mkdtemp(prefix="sf-hydration-"))
        self.place = Place(self._root)
        self.place.widen()
        self.model: dict[str, bytearray] = {}
        self.writes = 0
        self.failing = False
        for name in _NAMES:
            self.place.lay_out(name, pages(_PAGES))
            self.model[name] = bytearray(pages(_PAGES))

    @initialize()
    def start(self) -> None:
        """Arm, then let the server begin."""
        self.hydrator = HydratorProcess(self.place)
        self.server = Server(self.place, self.hydrator)

    @rule(name=_name, first=_page, count=st.integers(1, 12))
    @precondition(lambda self: not self.failing)
    def read(self, name: str, first: int, count: int) -> None:
        """Whatever is read is what should be there."""
        if name in self.model:
            start = first * PAGE_SIZE
            expected = bytes(self.model[name][start : start + count * PAGE_SIZE])
            assert self.server.do("read", name, start, count * PAGE_SIZE) == expected

    @rule(name=_name, first=_page, data=st.data())
    def write(self, name: str, first: int, data: st.DataObject) -> None:
        """Inside of the file, or at its end; a whole page, for which nothing is needed, or a part."""
        if name in self.model:
            self.writes += 1
            content = self.model[name]
            offset = min(first * PAGE_SIZE, len(content) // PAGE_SIZE * PAGE_SIZE)
            new = f"page written {self.writes} ".encode().ljust(PAGE_SIZE, b"#")
            # A page that has no beginning is not whole, and PostgreSQL writes none.
            if not self.failing and content[offset : offset + 4] == b"page" and data.draw(st.booleans()):
                offset, new = offset + 4000, b"part"
            self.server.write(name, offset, new)
            content[offset : offset + len(new)] = new

    @rule(name=_name, first=_page)
    def truncate(self, name: str, first: int) -> None:
        """To whole pages, as PostgreSQL does; needs no content, so it works while the source fails."""
        if name in self.model:
            length = min(first * PAGE_SIZE, len(self.model[name]))
            self.server.do("ftruncate", name, length)
            del self.model[name][length:]

    @rule(name=_name, count=st.integers(1, 6))
    def extend(self, name: str, count: int) -> None:
        """By unwritten pages, as PostgreSQL does."""
        if name in self.model and len(self.model[name]) < 2 * _PAGES * PAGE_SIZE:
            self.server.do("fallocate", name, len(self.model[name]), count * PAGE_SIZE)
            self.model[name] += bytes(count * PAGE_SIZE)

    @rule(name=_name)
    def delete(self, name: str) -> None:
        """Truncate, then unlink, as PostgreSQL does with relations."""
        if name in self.model:
            self.server.do("ftruncate", name, 0)
            self.server.do("unlink", name)
            self.server.do("close", name)
            del self.model[name]

    @rule(name=_name, count=st.integers(0, _PAGES))
    def create(self, name: str, count: int) -> None:
        """A new file at the path of a deleted one."""
        if name not in self.model:
            self.server.do("create", name)
            if count:
                self.server.do("fallocate", name, 0, count * PAGE_SIZE)
            self.model[name] = bytearray(count * PAGE_SIZE)

    @rule(failing=st.booleans())
    def source_changes(self, failing: bool) -> None:
        """The source fails from now on, or does no longer."""
        self.failing = failing
        self.place.fail(failing=failing)

    @rule(slow=st.booleans())
    def source_slows(self, slow: bool) -> None:
        """The source takes its time from now on, or does no longer."""
        self.place.slow(slow=slow)

    @rule()
    def background(self) -> None:
        """Let everything come."""
        if self.hydrator.ended() is None:
            try:
                self.hydrator.client.background()
            except ServerUnavailable:
                eventually(lambda: self.hydrator.ended() == 0)

    @rule(name=_name, first=_page)
    def read_without_hydrator(self, name: str, first: int) -> None:
        """The hydrator dies: a read is right, or waits until it is killed."""
        self.hydrator.kill()
        if name in self.model:
            self.server.ask("read", name, first * PAGE_SIZE, PAGE_SIZE)
            eventually(lambda: self.server.answered() or self.server.held())
            if self.server.answered():
                expected = bytes(self.model[name][first * PAGE_SIZE :][:PAGE_SIZE])
                assert self.server.answer() == expected
        self._restart()

    @rule(check_pages=st.booleans())
    def crash(self, check_pages: bool) -> None:
        """Both die, and begin anew; all pages there are whole, so checking them changes nothing."""
        self._restart(check_pages=check_pages)

    def _restart(self, *, check_pages: bool = False) -> None:
        self.server.kill()
        self.hydrator.kill()
        self.hydrator = HydratorProcess(self.place, check_pages=check_pages)
        self.server = Server(self.place, self.hydrator)

    @invariant()
    def a_hydrator_ends_only_when_all_is_there(self) -> None:
        """And says so by its exit status."""
        if hasattr(self, "hydrator") and self.hydrator.ended() is not None:
            assert self.hydrator.ended() == 0
            assert list(tagged(self.place.half)) == []

    def teardown(self) -> None:
        """Let everything come, compare all of it."""
        try:
            if hasattr(self, "hydrator"):
                self.place.fail(failing=False)
                self.hydrator.complete()
                assert {path.name for path in self.place.half.iterdir()} == set(self.model)
                for name, content in self.model.items():
                    assert (self.place.half / name).read_bytes() == bytes(content)
        finally:
            if hasattr(self, "server"):
                self.server.kill()
                self.hydrator.kill()
            shutil.rmtree(self._root)


def test_files_that_arrive_are_never_read_or_left_wrong(tmp_path: Path) -> None:
    skip_unless_supported(tmp_path)
    examples = max(1, _STEPS // 30)
    Arrival.TestCase.settings = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    Arrival.TestCase("runTest").debug()

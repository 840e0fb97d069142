"""Many files that are cut off and grow again while they arrive, on a busy file system; then the power goes."""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stillframe.hydration.pages import PAGE_SIZE
from stillframe.hydration.tags import limit_of
from support.hydration import HydratorProcess, Place, Server, eventually, pages

_FILES = 100
_PAGES = 24
_GROWN = _PAGES + 8


class Truncated:
    """`root` lies on the file system whose power is cut, `beside` on another one."""

    def __init__(self, root: Path, beside: Path, chance: random.Random) -> None:
        for directory in (root, beside):
            directory.mkdir()
        (beside / "half").symlink_to(root)
        (beside / "reference").mkdir()
        self._root = root
        self._chance = chance
        self._done = 0
        self._place = Place(beside, filled=True)
        self._kept = {f"file{number}": chance.randrange(_PAGES) for number in range(_FILES)}
        for name in self._kept:
            self._place.lay_out(name, pages(_PAGES))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """One file after the other is read, cut off, and made longer than it was, while others make the log move."""
        ended = threading.Event()
        hydrator = HydratorProcess(self._place)
        server = Server(self._place, hydrator)
        threads = [
            threading.Thread(target=self._truncate, args=(server, ended)),
            _busy_log(self._root, ended),
        ]
        try:
            for thread in threads:
                thread.start()
            yield
        finally:
            ended.set()
            server.kill()
            hydrator.kill()
            for thread in threads:
                thread.join(20)

    def _truncate(self, server: Server, ended: threading.Event) -> None:
        # Whatever fails now fails because the power is gone.
        with suppress(AssertionError, OSError, ValueError):
            for name, kept in self._kept.items():
                if ended.is_set():
                    return
                server.do("read", name, 0, 4 * PAGE_SIZE)
                server.do("ftruncate", name, kept * PAGE_SIZE)
                server.do("fallocate", name, kept * PAGE_SIZE, (_GROWN - kept) * PAGE_SIZE)
                self._done += 1

    def await_some(self) -> None:
        """Return when some files, it is chance how many, were cut off and have grown."""
        wanted = self._chance.randrange(10, _FILES - 10)
        eventually(lambda: self._done >= wanted)
        time.sleep(self._chance.uniform(0, 0.01))

    def judge(self) -> "Counter[str]":
        """How many files were found in which state. Raises AssertionError for one that would get back what it lost."""
        seen = Counter[str]()
        for name, kept in self._kept.items():
            path = self._root / name
            # Without a tag it is complete: nothing will be filled.
            size, limit = path.stat().st_size // PAGE_SIZE, (limit_of(str(path)) or 0) // PAGE_SIZE
            state = {_PAGES: "as before", kept: "cut off"}.get(size, "grown again")
            lowered = limit <= kept
            assert lowered or size == _PAGES, f"{name}: {size} pages, a tag of {limit}, cut off at {kept}"
            seen[f"{state}, tag lowered" if state == "as before" and lowered else state] += 1
        self._require_nothing_back()
        return seen

    def _require_nothing_back(self) -> None:
        hydrator = HydratorProcess(self._place, check_pages=True)
        hydrator.complete()
        for name, kept in self._kept.items():
            content = (self._root / name).read_bytes()
            # One that still has its old length may have a tag that was lowered: PostgreSQL truncates it again.
            right = (
                _is_between(content, kept)
                if len(content) == _PAGES * PAGE_SIZE
                else content == pages(kept).ljust(len(content), b"\0")
            )
            assert right, name


def _is_between(content: bytes, kept: int) -> bool:
    """Whether every page up to `kept` is there, and every other one is there or zero."""
    expected = pages(_PAGES)
    return all(
        content[at : at + PAGE_SIZE] == expected[at : at + PAGE_SIZE]
        or (at >= kept * PAGE_SIZE and not any(content[at : at + PAGE_SIZE]))
        for at in range(0, len(content), PAGE_SIZE)
    )


def _busy_log(root: Path, ended: threading.Event) -> threading.Thread:
    def write() -> None:
        with suppress(OSError), (root.parent / f"{root.name}-busy").open("wb") as file:
            while not ended.is_set():
                file.write(b"x" * 5000)
                file.flush()
                os.fsync(file.fileno())

    return threading.Thread(target=write, daemon=True)

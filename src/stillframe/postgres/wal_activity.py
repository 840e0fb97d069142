"""Whether a server is writing WAL, seen from outside: whoever changes anything waits for the disk to have it."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_LOOK_SECONDS: Final = 0.05
_LASTS_SECONDS: Final = 0.25
_IN_A_ROW: Final = 3
"""So many looks have to find something new: a server that has nothing to do writes a little now and then, too."""


class _Written(NamedTuple):
    """When a file was last written to, in nanoseconds, and its name."""

    at: int
    name: str


class WalActivity:
    """Asks the file system when a segment was last written to, at most twenty times a second. For several threads."""

    def __init__(self, data_directory: Path, *, now: Callable[[], float] = time.monotonic) -> None:
        self._directory = data_directory / "pg_wal"
        self._now = now
        self._lock = threading.Lock()
        self._newest = self._found()
        self._looked_at = now()
        self._in_a_row = 0
        self._seen_at = -_LASTS_SECONDS

    def __call__(self) -> bool:
        """Whether WAL was written all the time, until a quarter of a second ago at least, as far as was looked."""
        now = self._now()
        with self._lock:
            if now - self._looked_at >= _LOOK_SECONDS:
                lately = now - self._looked_at < _LASTS_SECONDS
                self._looked_at = now
                before = self._newest
                # A server that writes is most often still at the same segment: one file is asked for, not a hundred.
                self._newest = self._again(before) or self._found()
                # What is new after a long time says nothing about now.
                self._in_a_row = self._in_a_row + 1 if lately and self._newest != before else 0
                if self._in_a_row >= _IN_A_ROW:
                    self._seen_at = now
            return now - self._seen_at < _LASTS_SECONDS

    def _again(self, before: _Written) -> _Written | None:
        """The same segment, if there was one and it was written to since."""
        with suppress(OSError):
            written = (self._directory / before.name).stat(follow_symlinks=False).st_mtime_ns
            if before.name and written > before.at:
                return _Written(written, before.name)
        return None

    def _found(self) -> _Written:
        """The segment that was written to last; none has no name."""
        newest = _Written(0, "")
        # Segments are removed and renamed meanwhile; the directory is gone with its server.
        with suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    # Summaries, and what is archived.
                    continue
                with suppress(FileNotFoundError):
                    newest = max(newest, _Written(entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
        return newest

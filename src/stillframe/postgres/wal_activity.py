"""Whether a server is writing WAL, seen from outside: whoever changes anything waits for the disk to have it."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_LOOK_SECONDS: Final = 0.05
_LASTS_SECONDS: Final = 0.25


class WalActivity:
    """Asks the file system when a segment was last written to, at most twenty times a second. For several threads."""

    def __init__(self, data_directory: Path, *, now: Callable[[], float] = time.monotonic) -> None:
        self._directory = data_directory / "pg_wal"
        self._now = now
        self._lock = threading.Lock()
        self._written = self._last_written()
        self._looked_at = now()
        self._seen_at = -_LASTS_SECONDS

    def __call__(self) -> bool:
        """Whether WAL was written within the last quarter of a second, as far as was looked."""
        now = self._now()
        with self._lock:
            if now - self._looked_at >= _LOOK_SECONDS:
                self._looked_at = now
                written, self._written = self._written, self._last_written()
                if written != self._written:
                    self._seen_at = now
            return now - self._seen_at < _LASTS_SECONDS

    def _last_written(self) -> int:
        """The newest time of the files there, in nanoseconds; 0 when there is none."""
        newest = 0
        # Segments are removed and renamed meanwhile; the directory is gone with its server.
        with suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    newest = max(newest, entry.stat(follow_symlinks=False).st_mtime_ns)
        return newest

"""Completed files: made durable, then without tag and mark, so that they are as fast as any other."""

import math
import queue
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from stillframe.errors import StillframeError
from stillframe.hydration import tags
from stillframe.hydration.fanotify import Group
from stillframe.hydration.file import ArrivingFile
from stillframe.hydration.files import Files
from stillframe.hydration.filesystem import sync_file_system
from stillframe.hydration.ledger import Ledger

log = structlog.get_logger(__name__)

_FEW: Final = 4
_SHORTEST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 8.0
_PAUSE_FACTOR: Final = 8
"""Everybody who writes waits while many files are made durable: for at most a ninth of the time."""
_LOOK_SECONDS: Final = 0.1


class Finisher:
    """One thread; files may be handed in by any, as often as they like."""

    def __init__(self, directory: Path, group: Group, files: Files, ledger: Ledger) -> None:
        self._directory = directory
        self._group = group
        self._files = files
        self._ledger = ledger
        self._queue: queue.SimpleQueue[ArrivingFile | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="finisher", daemon=True)
        self._seen: set[str] = set()
        self._ending = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def look_at(self, file: ArrivingFile) -> None:
        """The file may be complete now."""
        if file.complete and not file.finished:
            self._queue.put(file)

    def end(self) -> None:
        """Return when the thread has ended; files that still wait stay tagged."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        pause = _SHORTEST_PAUSE_SECONDS
        while not self._ending:
            files = self._gathered(pause)
            began = time.monotonic()
            self._finish_all(files)
            took = _PAUSE_FACTOR * (time.monotonic() - began)
            pause = min(max(took, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)

    def _gathered(self, pause: float) -> list[ArrivingFile]:
        """What has come that many seconds after the first, or sooner when nothing else is left, or at the end."""
        files: dict[str, ArrivingFile] = {}
        until = math.inf
        while not self._ending and len(files) < max(1, self._files.count_left()) and time.monotonic() < until:
            file = self._next(_LOOK_SECONDS if files else None)
            if file is None or file.path in self._seen:
                continue
            self._seen.add(file.path)
            if file.wished:
                # Every access of it is an event, as long as it is marked.
                self._finish(file)
            else:
                until = min(until, time.monotonic() + pause)
                files[file.path] = file
        return list(files.values())

    def _next(self, patience: float | None) -> ArrivingFile | None:
        """None at the end, or when that many seconds have passed."""
        with suppress(queue.Empty):
            file = self._queue.get(timeout=patience)
            self._ending = file is None
            return file
        return None

    def _finish_all(self, files: list[ArrivingFile]) -> None:
        if len(files) > _FEW:
            # One wait for the disk instead of one a file. Whether each was written is for its own fsync to tell.
            with suppress(OSError, StillframeError):
                sync_file_system(self._directory)
        for file in files:
            self._finish(file)

    def _finish(self, file: ArrivingFile) -> None:
        try:
            if not file.forsake_if_deleted():
                self._complete(file)
            self._files.done(file)
            file.release()
        except FileNotFoundError:
            # Replaced or removed while it was not held open.
            file.deleted = True
            self._files.done(file)
        except (OSError, StillframeError) as error:
            self._failed(file, error)

    def _complete(self, file: ArrivingFile) -> None:
        file.finish()
        with file.opened() as descriptor:
            self._group.unmark(descriptor)

    def _failed(self, file: ArrivingFile, error: Exception) -> None:
        # Linux forgets a failed write once it was told (fsync(2)): asking again would be answered with a lie. The
        # tag stays, the hydration does not end, and the next arming checks every page.
        self._ledger.failed(file.path, f"{file.path} could not be made durable: {error}")
        log.error("file_not_durable", path=file.path, reason=str(error))
        try:
            tags.suspect(self._directory)
        except (OSError, StillframeError) as again:
            log.error("directory_not_tagged", directory=str(self._directory), reason=str(again))

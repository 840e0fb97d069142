"""Files that are asked for again and again: when one is complete, nobody waits for it any more."""

import threading
from collections import Counter, deque
from typing import Final

from stillframe.hydration.file import ArrivingFile

_OFTEN: Final = 4


class Wishes:
    """In the order in which they were noticed. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: Counter[str] = Counter()
        self._next: deque[ArrivingFile] = deque()

    def note(self, file: ArrivingFile) -> None:
        """An access had to wait for content of this file."""
        with self._lock:
            self._asked[file.path] += 1
            if self._asked[file.path] == _OFTEN:
                file.wished = True
                self._next.append(file)

    def next(self) -> ArrivingFile | None:
        """The file that should come before all others, each once; None when there is none."""
        with self._lock:
            return self._next.popleft() if self._next else None

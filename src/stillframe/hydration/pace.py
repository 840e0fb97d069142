"""The background gives way: to accesses that wait, and to a server that waits for the disk."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_QUIET_SECONDS: Final = 0.002
_LONGEST_WAIT_SECONDS: Final = 0.02
_LOOK_SECONDS: Final = 0.001
_FIRST_QUIET_SECONDS: Final = 0.1
_FIRST_SECONDS: Final = 0.5
_REST: Final = 1.5
"""While the server writes, a pause follows each piece, for that many times what it took."""


class Pace:
    """Safe to use from several threads."""

    def __init__(self, stop: threading.Event, *, server_writes: Callable[[], bool]) -> None:
        self._stop = stop
        self._server_writes = server_writes
        self._lock = threading.Lock()
        self._alone = threading.Lock()
        self._waiting = 0
        self._last = 0.0

    @contextmanager
    def demanded(self) -> Iterator[None]:
        """Somebody waits as long as the block lasts."""
        with self._lock:
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                self._last = time.monotonic()

    def await_first_queries(self) -> None:
        """Return when nobody has waited for a tenth of a second from now on; after half a second in any case."""
        began = time.monotonic()
        while time.monotonic() - max(self._last, began) < _FIRST_QUIET_SECONDS or self._waiting:
            if time.monotonic() - began > _FIRST_SECONDS or self._stop.wait(_LOOK_SECONDS):
                return

    def give_way(self) -> None:
        """Return when nobody waits and nobody did a moment ago; after a fiftieth of a second in any case."""
        until = time.monotonic() + _LONGEST_WAIT_SECONDS
        while self._busy() and time.monotonic() < until:
            self._stop.wait(_LOOK_SECONDS)
            if self._stop.is_set():
                return

    @contextmanager
    def piece(self) -> Iterator[bool]:
        """The block brings one piece; whether the server writes just now, and waits for all that the disk has to do.

        Then no other piece comes beside it, and a pause follows.
        """
        if not self._server_writes():
            yield False
            return
        with self._alone:
            began = time.monotonic()
            yield True
            self._stop.wait(_REST * (time.monotonic() - began))

    def _busy(self) -> bool:
        return self._waiting > 0 or time.monotonic() - self._last < _QUIET_SECONDS

"""How far a long piece of work is: counted by its threads, read by whoever shows it."""

import threading

from stillframe.domain.clock import Clock
from stillframe.domain.snapshot import SnapshotProgress


class Progress:
    """Phase, bytes done and bytes to do. Safe to use from several threads; reading it costs nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock.monotonic()
        self._moving_since: float | None = None
        self._phase = "starting"
        self._done = 0
        self._total: int | None = None

    def begin(self, phase: str) -> None:
        """The work enters its next phase."""
        with self._lock:
            self._phase = phase

    def expect(self, size: int) -> None:
        """So many bytes more are going to be done."""
        with self._lock:
            self._total = (self._total or 0) + size
            self._moving_since = self._moving_since or self._clock.monotonic()

    def advance(self, size: int) -> None:
        """So many bytes more are done."""
        with self._lock:
            self._done += size

    @property
    def current(self) -> SnapshotProgress:
        """The state at this moment; the rate is the mean since the first byte could be done."""
        with self._lock:
            now = self._clock.monotonic()
            moving = now - self._moving_since if self._moving_since is not None else 0.0
            return SnapshotProgress(
                phase=self._phase,
                done_bytes=self._done,
                total_bytes=self._total,
                bytes_per_second=self._done / moving if moving > 0 else 0.0,
                elapsed_seconds=now - self._started,
            )

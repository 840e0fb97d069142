"""How far the arrival is, and what holds it up."""

import threading
from collections.abc import Hashable

import msgspec


class HydrationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes. `stalled` is why something waits for its content at this moment, None while nothing does.

    `total_bytes` shrinks when files are truncated or deleted. `fetched_bytes` is what the source gave, without the
    `local_bytes` that it found on this machine.
    """

    total_bytes: int
    arrived_bytes: int
    files_left: int
    on_demand_reads: int
    on_demand_bytes: int
    fetched_bytes: int
    stalled: str | None
    armed: bool
    local_bytes: int = 0

    @property
    def missing_bytes(self) -> int:
        """What has still to arrive."""
        return self.total_bytes - self.arrived_bytes


class Ledger:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = 0
        self._arrived = 0
        self._reads = 0
        self._on_demand = 0
        self._fetched = 0
        self._failures: dict[Hashable, str] = {}

    def expect(self, total: int, *, arrived: int) -> None:
        """A file joins."""
        with self._lock:
            self._total += total
            self._arrived += arrived

    def fetched(self, fetched: int, *, arrived: int) -> None:
        """The source gave something, and that much of it was new."""
        with self._lock:
            self._fetched += fetched
            self._arrived += arrived

    def overwritten(self, arrived: int) -> None:
        """Somebody wrote that much himself before it was fetched."""
        with self._lock:
            self._arrived += arrived

    def waited(self, arrived: int) -> None:
        """An access had to wait for content: that many bytes."""
        with self._lock:
            self._reads += 1
            self._on_demand += arrived

    def retired(self, gone: int) -> None:
        """That many bytes need not come any more."""
        with self._lock:
            self._total -= gone

    def failed(self, work: Hashable, reason: str) -> None:
        """This piece of work waits, and why."""
        with self._lock:
            self._failures[work] = reason

    def healed(self, work: Hashable) -> None:
        """This piece of work waits no longer."""
        if self._failures:
            with self._lock:
                self._failures.pop(work, None)

    def status(self, *, files_left: int, armed: bool) -> HydrationStatus:
        """All of it at one moment."""
        with self._lock:
            return HydrationStatus(
                total_bytes=self._total,
                arrived_bytes=self._arrived,
                files_left=files_left,
                on_demand_reads=self._reads,
                on_demand_bytes=self._on_demand,
                fetched_bytes=self._fetched,
                stalled=next(iter(self._failures.values()), None),
                armed=armed,
            )

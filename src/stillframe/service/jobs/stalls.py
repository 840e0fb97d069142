"""Noticing that a private copy waits for content that does not come.

An access to content that cannot be fetched waits for as long as it takes, and nothing ends it but the end of its
server. For a namespace that is right; work on a private copy would never end.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from stillframe.errors import StillframeError
from stillframe.postgres.cluster import Cluster
from stillframe.service.arrivals import hydration_status

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 10.0
"""How long something may wait before the copy is given up; a store that is slow for a moment is waited for."""

_LOOK_SECONDS = 1.0


class Stall:
    """Why a copy was given up; None for one that was not."""

    def __init__(self) -> None:
        self.reason: str | None = None


@contextmanager
def ended_when_stalled(cluster: Cluster, end: Callable[[], None]) -> Iterator[Stall]:
    """Call `end`, once, from a thread of its own, when the copy has waited for too long; the block fails by that."""
    stall, finished = Stall(), threading.Event()

    def look() -> None:
        waited = 0.0
        while not finished.wait(_LOOK_SECONDS):
            reason = _stalled(cluster)
            waited = waited + _LOOK_SECONDS if reason else 0.0
            if reason and waited >= PATIENCE_SECONDS:
                stall.reason = reason
                _end(end)
                return

    thread = threading.Thread(target=look, name="stall", daemon=True)
    thread.start()
    try:
        yield stall
    finally:
        finished.set()
        thread.join()


def _stalled(cluster: Cluster) -> str | None:
    try:
        status = hydration_status(cluster)
    except StillframeError:
        # It is just being made or removed.
        return None
    return status.stalled if status is not None else None


def _end(end: Callable[[], None]) -> None:
    try:
        end()
    except StillframeError as error:
        log.warning("stalled_copy_not_ended", kind=error.kind, reason=error.message)

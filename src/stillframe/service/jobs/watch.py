"""Between a running job and everybody who looks at it: progress goes out, cancelling comes in."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stillframe.backup.progress import Progress
from stillframe.domain.cancel import CancelToken
from stillframe.domain.snapshot import SnapshotProgress
from stillframe.errors import StillframeError

INTERVAL = 0.5
"""Seconds between two looks: progress is written, and a wish to cancel is read, this often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Handed to the work: where it reports to, and what may ask it to stop."""

    progress: Progress
    cancel: CancelToken


@contextmanager
def watching(
    watch: Watch, *, publish: Callable[[SnapshotProgress], None], cancel_requested: Callable[[], bool]
) -> Iterator[None]:
    """Publish progress and look for a wish to cancel, every `INTERVAL` seconds, while the block runs."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(INTERVAL):
            try:
                publish(watch.progress.current)
                if cancel_requested():
                    watch.cancel.cancel("The snapshot was cancelled.")
            except StillframeError:
                # The catalog is away for a moment: the work goes on, and the next look tells.
                continue

    thread = threading.Thread(target=look, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

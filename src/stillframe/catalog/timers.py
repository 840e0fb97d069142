"""Work that is due every so many seconds, in threads of its own.

Not procrastinate's periodic jobs: those count in cron's units and cost rows in the catalog for every turn,
while these sweeps are short, belong to this process and are worth nothing once the process is gone.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from stillframe.errors import StillframeError

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicTask:
    """Something to do at once and then every `every_seconds` after it has ended; it never overlaps itself."""

    name: str
    every_seconds: float
    action: Callable[[], None]


class Timers:
    """One daemon thread a task. A task that raises is logged and has its next turn as usual."""

    def __init__(self, tasks: Sequence[PeriodicTask]) -> None:
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(task,), name=f"periodic {task.name}", daemon=True)
            for task in tasks
        ]

    def start(self) -> None:
        """Begin with the first turns. Can be called once."""
        for thread in self._threads:
            thread.start()

    def stop(self, *, wait_seconds: float = 1.0) -> None:
        """No further turns; waits that long for those that are going on."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(wait_seconds)

    def _repeat(self, task: PeriodicTask) -> None:
        while not self._stopping.is_set():
            _take_turn(task)
            self._stopping.wait(task.every_seconds)


def _take_turn(task: PeriodicTask) -> None:
    try:
        task.action()
    except StillframeError as error:
        _log.warning("periodic_task_failed", task=task.name, kind=error.kind, reason=error.message)
    except Exception:  # noqa: BLE001  a mistake in one turn must not end all the others
        _log.exception("periodic_task_failed", task=task.name)

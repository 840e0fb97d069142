"""Running many small pieces of work on a few threads, until they are done, one fails, or somebody cancels."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from stillframe.domain.cancel import CancelToken

Unit = Callable[[], None]
_T = TypeVar("_T")
_HEARTBEAT_SECONDS = 1.0
_POLITENESS = 5
"""How much nicer than the rest of the process these threads are: they would take every core, and queries and API
calls on the same machine come in short bursts that must not wait behind them."""


def run_parallel(
    units: Iterator[Unit],
    *,
    threads: int,
    cancel: CancelToken,
    heartbeat: Callable[[], None] = lambda: None,
    polite: bool = True,
) -> None:
    """Run every unit once; `heartbeat` is called about once a second meanwhile, by the calling thread.

    Not `polite` is for the little that somebody waits for.

    Units are taken when a thread is free, so that their number costs no memory. Raises the first error of a
    unit or of the heartbeat, or Cancelled, when every thread has come to its end.
    """
    source = _Shared(units)
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="backup") as pool:
        running = [pool.submit(_work, source, cancel, polite=polite) for _ in range(threads)]
        try:
            _watch(running, heartbeat)
        finally:
            source.close()
    for future in running:
        future.result()


@contextmanager
def beside(work: Callable[[], _T]) -> Iterator[Callable[[], _T]]:
    """Run this in a thread of its own while the block runs; calling what the block gets waits for its end.

    The call returns what the work returned, or raises what it raised. The thread has ended when the block is left,
    in whatever way.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="beside") as pool:
        yield pool.submit(work).result


def _watch(running: "list[Future[None]]", heartbeat: Callable[[], None]) -> None:
    pending = set(running)
    while pending:
        done, pending = wait(pending, timeout=_HEARTBEAT_SECONDS, return_when=FIRST_EXCEPTION)
        if any(future.exception() is not None for future in done):
            return
        if pending:
            heartbeat()


def _work(source: "_Shared", cancel: CancelToken, *, polite: bool) -> None:
    if polite:
        _be_polite()
    while (unit := source.take()) is not None:
        cancel.raise_if_cancelled()
        unit()


def _be_polite() -> None:
    """Give way to others. Linux knows a priority of each thread; elsewhere it would be the whole process's."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, 0) + _POLITENESS)


class _Shared:
    """An iterator that several threads take from, until somebody closes it."""

    def __init__(self, units: Iterator[Unit]) -> None:
        self._units = units
        self._lock = threading.Lock()
        self._closed = False

    def take(self) -> Unit | None:
        with self._lock:
            return None if self._closed else next(self._units, None)

    def close(self) -> None:
        with self._lock:
            self._closed = True

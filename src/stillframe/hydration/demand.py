"""Accesses that wait, and their answers.

One thread reads the events. What touches only pages that are there is answered by it at once, without a lock; the
rest goes to a few workers, which fetch, fill, and answer then. An access of which anything fails is not answered.
"""

import errno
import os
import queue
import select
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from stillframe.errors import InternalError, OperatorError
from stillframe.hydration.calls import UnknownCall
from stillframe.hydration.fanotify import Event, Group
from stillframe.hydration.file import ArrivingFile, identity_of
from stillframe.hydration.files import Files
from stillframe.hydration.finishing import Finisher
from stillframe.hydration.ledger import Ledger
from stillframe.hydration.overwriting import page_being_written
from stillframe.hydration.pace import Pace
from stillframe.hydration.pages import PAGE_SIZE
from stillframe.hydration.perseverance import Perseverance
from stillframe.hydration.source import Source
from stillframe.hydration.truncation import may_truncate, new_length
from stillframe.hydration.wishes import Wishes

log = structlog.get_logger(__name__)

CHUNK: Final = 1 << 20
"""Fetched at once at most, in bytes."""
_FIRST_WINDOW: Final = 1 << 18
_SETTLE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.0005


class Demand:
    """Answers the events of a group for these files."""

    def __init__(
        self,
        group: Group,
        files: Files,
        bringer: "Bringer",
        *,
        own_accesses: bool,
        undisturbed: Callable[[], bool],
    ) -> None:
        """`own_accesses`: this process opens files after they were marked, and must not wait for itself.
        `undisturbed`: hardly anybody else writes into the files, so that whoever reads events may, and is not held up.
        """
        self._undisturbed = undisturbed
        self._group = group
        self._files = files
        self._bringer = bringer
        self._own_accesses = own_accesses
        self._queue: queue.SimpleQueue[tuple[Event, ArrivingFile] | None] = queue.SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._ending = False
        self._threads: list[threading.Thread] = []

    def start(self, *, workers: int, on_failure: Callable[[], None]) -> None:
        """Begin; `on_failure` is called if one of the threads ended by a mistake."""
        self._threads = [
            threading.Thread(target=_guarded, args=(target, on_failure), name="demand", daemon=True)
            for target in (self._read, *[self._work] * workers)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Return when all threads have ended; accesses that wait go on waiting."""
        self._ending = True
        os.eventfd_write(self._wake, 1)
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        os.close(self._wake)

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._group.descriptor, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._ending:
            poll.poll()
            while events := self._events():
                for event in events:
                    self._take(event)

    def _events(self) -> list[Event]:
        try:
            return [] if self._ending else self._group.events()
        except OSError as error:
            # The kernel has denied an access, for it could not open the file for us.
            log.error("event_lost", reason=os.strerror(error.errno or 0))
            return []

    def _take(self, event: Event) -> None:
        file = self._files.open_as(identity_of(event.descriptor))
        if file is None or self._may_pass(file, event):
            answer(self._group, event)
        elif not file.settling and self._undisturbed() and self._bringer.take_over(event, file):
            # Handing it to a worker would take twice as long as all of it, and recovery does it page by page.
            self._bringer.let_go(self._group, event, file)
        else:
            self._queue.put((event, file))

    def _may_pass(self, file: ArrivingFile, event: Event) -> bool:
        if self._own_accesses and Path(f"/proc/self/task/{event.thread}").exists():
            return True
        if may_truncate(event.count) or not file.pages.is_there(event.offset, event.count):
            return False
        # Looked at last: a truncation announces itself before it takes pages away.
        return not (file.settling and event.offset + event.count > file.limit)

    def _work(self) -> None:
        while (taken := self._queue.get()) is not None and not self._ending:
            event, file = taken
            self._bringer.serve(self._group, event, file)


class Bringer:
    """What a waiting access needs: fetched, filled, answered."""

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        pace: Pace,
        perseverance: Perseverance,
        finisher: Finisher,
        *,
        wishes: Wishes,
    ) -> None:
        self._source = source
        self._wishes = wishes
        self._ledger = ledger
        self._pace = pace
        self._perseverance = perseverance
        self._finisher = finisher

    def serve(self, group: Group, event: Event, file: ArrivingFile) -> None:
        """Answer one access when it may go on; not at all when the hydration is stopped before."""
        length = new_length(event.thread) if may_truncate(event.count) else None
        with self._pace.demanded():
            if isinstance(length, UnknownCall):
                ready = self._ready_for_anything(event, file)
            elif length is None:
                ready = self.take_over(event, file) or self._bring(event, file, event.offset, event.count)
                ready = ready and self._settled(file, event)
            else:
                self._truncate(group, event, file, length)
                return
        if ready:
            self.let_go(group, event, file)

    def bring_through(self, file: ArrivingFile, descriptor: int, offset: int, length: int) -> int:
        """Fetch these bytes and what comes with them, and fill; how many bytes arrived.

        Raises what the source raises, OSError, InternalError.
        """
        if not file.missing(offset, length):
            # It came with what was fetched a moment ago.
            return 0
        start, size = self._source.around(file.path, offset, length)
        # A limit may have come down since, but what is waited for is asked for.
        offset, length = start, max(offset + length, min(start + size, file.limit)) - start
        data = self._source.read(file.path, offset, length)
        if len(data) != length:
            raise InternalError(
                f"{len(data)} of {length} bytes at {offset} of {file.path} came from the source"
            )
        arrived = file.fill(descriptor, offset, data)
        self._ledger.fetched(length, arrived=arrived)
        return arrived

    def let_go(self, group: Group, event: Event, file: ArrivingFile) -> None:
        """Answer an access that has what it needs; its file may be complete now."""
        answer(group, event)
        self._finisher.look_at(file)

    def take_over(self, event: Event, file: ArrivingFile, *, patiently: bool = False) -> bool:
        """Fill with what the access is about to write, if that is a whole page: nothing has to be fetched for it.

        Whether it was one; the access may go on then.
        """
        page = page_being_written(event, patiently=patiently)
        if page is None:
            return False
        try:
            self._ledger.overwritten(file.fill(event.descriptor, event.offset, page))
        except (OSError, OperatorError):
            # Tried again, and told, with what is fetched.
            return False
        return True

    def _bring(self, event: Event, file: ArrivingFile, offset: int, count: int) -> bool:
        count += _read_ahead(file, offset)
        runs = list(_chunks(file.missing(offset, count)))
        if not runs:
            return not self._perseverance.ended
        file.demand_end = runs[-1][0] + runs[-1][1]
        self._wishes.note(file)

        def bring(run: tuple[int, int]) -> None:
            try:
                self._ledger.waited(self.bring_through(file, event.descriptor, *run))
            except Exception:
                # While the source fails there is time to ask a thread that had not fallen asleep.
                if not self.take_over(event, file, patiently=True):
                    raise

        return all(
            self._perseverance.until_done(partial(bring, run), work=f"reading {file.path} at {run[0]}")
            for run in runs
        )

    def _settled(self, file: ArrivingFile, event: Event) -> bool:
        """Wait for truncations to take effect that took away what was to be read: there is nothing else to read."""
        until = time.monotonic() + _SETTLE_SECONDS
        while file.settling and event.offset + event.count > file.limit and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
        return not self._perseverance.ended

    def _ready_for_anything(self, event: Event, file: ArrivingFile) -> bool:
        """For a thread that does not tell what it does: right for a truncation and for anything else.

        Everything that a truncation would take away comes first, then it counts as taken away. A truncation into
        the middle of a 4 KiB block is not recognised here; PostgreSQL truncates to whole pages.
        """
        if event.count or event.offset >= file.limit:
            return self._bring(event, file, event.offset, event.count)
        if not self._bring(event, file, event.offset, file.limit - event.offset):
            return False

        def retire() -> None:
            os.fdatasync(event.descriptor)
            self._ledger.retired(file.retire(event.descriptor, event.offset))

        return self._perseverance.until_done(retire, work=f"a truncation of {file.path}")

    def _truncate(self, group: Group, event: Event, file: ArrivingFile, length: int) -> None:
        if length % PAGE_SIZE and not self._bring(event, file, length, 1):
            return
        file.settled(1)
        try:
            if self._retire(event, file, length):
                self._let_truncate(group, event, length)
        finally:
            file.settled(-1)
        self._finisher.look_at(file)

    def _retire(self, event: Event, file: ArrivingFile, length: int) -> bool:
        return self._perseverance.until_done(
            lambda: self._ledger.retired(file.retire(event.descriptor, length)),
            work=f"a truncation of {file.path}",
        )

    @staticmethod
    def _let_truncate(group: Group, event: Event, length: int) -> None:
        kept = os.dup(event.descriptor)
        try:
            answer(group, event)
            _await_effect(kept, event.thread, length)
        finally:
            os.close(kept)


def _guarded(work: Callable[[], None], on_failure: Callable[[], None]) -> None:
    try:
        work()
    except Exception as error:
        # Whoever waits goes on waiting, which is safe, until somebody notices and begins anew.
        log.error("demand_failed", exc_info=error)
        on_failure()


def answer(group: Group, event: Event) -> None:
    """Let an access go on."""
    try:
        group.allow(event)
    except OSError as error:
        # ENOENT: whoever waited was killed.
        if error.errno != errno.ENOENT:
            log.error("event_not_answered", reason=os.strerror(error.errno or 0))


def _await_effect(descriptor: int, thread: int, length: int) -> None:
    """Wait until the file is as short, or its truncation has ended otherwise."""
    until = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < until and os.fstat(descriptor).st_size > length:
        now = new_length(thread)
        # One that runs, but was not seen to leave its call, may be in it still.
        if not isinstance(now, UnknownCall) and now != length:
            return
        time.sleep(_LOOK_SECONDS)


def _read_ahead(file: ArrivingFile, offset: int) -> int:
    """How much more to bring for a reader that goes on where it waited the last time, in bytes."""
    follows = offset == file.demand_end
    file.window = min(max(2 * file.window, _FIRST_WINDOW), CHUNK) if follows else 0
    return file.window


def _chunks(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(start + at, min(CHUNK, length - at)) for start, length in runs for at in range(0, length, CHUNK)]

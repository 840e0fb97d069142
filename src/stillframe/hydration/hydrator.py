"""The hydrator of one directory: marks what is arriving, brings it, and says how far it is."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from stillframe.errors import Cancelled, InternalError
from stillframe.hydration.arming import ArmedFiles
from stillframe.hydration.background import Background
from stillframe.hydration.control import Actions, Control
from stillframe.hydration.demand import Bringer, Demand
from stillframe.hydration.failures import translating_os_errors
from stillframe.hydration.fanotify import Group
from stillframe.hydration.file import ArrivingFile
from stillframe.hydration.files import Files
from stillframe.hydration.finishing import Finisher
from stillframe.hydration.ledger import HydrationStatus, Ledger
from stillframe.hydration.pace import Pace
from stillframe.hydration.perseverance import Perseverance
from stillframe.hydration.source import PageCheck, Source
from stillframe.hydration.wishes import Wishes

log = structlog.get_logger(__name__)

_WORKERS: Final = 4
_LOOK_SECONDS: Final = 1.0
_LINGER_SECONDS: Final = 1.0
_MAKING_SECONDS: Final = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the hydrator asks about the machine while it works.

    `local_bytes`: how much of what the source gave so far did not have to be fetched. `server_writes`: whether whoever
    uses the files writes just now, and waits for the disk to have it.
    """

    local_bytes: Callable[[], int] = lambda: 0
    server_writes: Callable[[], bool] = lambda: False


class Hydrator:
    """Brings the tagged files of a directory, whatever order they are asked for in.

    The order of calls that keeps a hole from being read as zeros: `arm`, then start the server with a copy of the
    group's descriptor (the control socket hands it out), then `run`. When this process dies, accesses wait; kill the
    server, which closes the group, before another hydrator arms the directory.
    """

    def __init__(
        self,
        directory: Path,
        source: Source,
        *,
        control: Path,
        page_is_whole: PageCheck,
        threads: int = 2,
        surroundings: Surroundings = Surroundings(),
    ) -> None:
        """`control` is the path of the socket that `HydratorClient` asks; `threads` fill in the background.

        Raises PermissionMissing without CAP_SYS_ADMIN, OperatorError where the kernel has no such events.
        """
        self._directory = directory
        self._page_is_whole = page_is_whole
        self._threads = threads
        self._local_bytes = surroundings.local_bytes
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._armed = False
        self._broken = False
        self._group = Group()
        self._files = Files()
        self._ledger = Ledger()
        self._pace = Pace(self._stop, server_writes=surroundings.server_writes)
        perseverance = Perseverance(self._ledger, self._stop)
        self._finisher = Finisher(directory, self._group, self._files, self._ledger)
        wishes = Wishes()
        self._bringer = Bringer(source, self._ledger, self._pace, perseverance, self._finisher, wishes=wishes)
        self._background = Background(
            source, self._files, self._ledger, self._pace, perseverance, wishes=wishes
        )
        self._demand: Demand | None = None
        self._control = Control(
            control,
            Actions(
                status=self.status,
                background=self.begin_background,
                stop=self.stop,
                group=self._group_to_inherit,
            ),
        )

    def arm(self, *, check_pages: bool = False, is_made: Callable[[], bool] = lambda: True) -> None:
        """Mark every tagged file; a server may start when this returns, and its accesses are answered from then on.

        Only from then on the control socket hands the group's descriptor out: a server that started before would read
        holes. What the source names first comes at once, beside what is asked for.

        With `check_pages`, after a crash of the machine, pages that are there count only if they are whole. `is_made`
        is asked until it says that all files have been made. The control socket answers from the beginning. Raises
        OperatorError and its kinds, Cancelled, and what `is_made` raises; the directory is as before then.
        """
        self._control.start()
        with translating_os_errors(f"Marking the files of {self._directory}"):
            while not is_made() and not self._stop.wait(_MAKING_SECONDS):
                pass
            armed = ArmedFiles(
                self._directory, self._group, page_is_whole=self._page_is_whole, check=check_pages
            )
            self._take_all(armed.arm())
        self._finisher.start()
        self._demand = Demand(
            self._group,
            self._files,
            self._bringer,
            own_accesses=armed.late,
            undisturbed=lambda: not self._background.has_begun,
        )
        self._demand.start(workers=_WORKERS, on_failure=self._break)
        self._files.armed()
        self._armed = True
        self._control.hand_out()
        self._background.begin_first(self._finisher)

    def _take_all(self, files: Iterable[ArrivingFile]) -> None:
        for file in files:
            self._files.add(file)
            self._ledger.expect(file.limit, arrived=file.limit - file.missing_bytes)
            if self._stop.is_set():
                break
        if self._stop.is_set():
            raise Cancelled("The hydrator was stopped before every file was marked")

    def begin_background(self) -> None:
        """Fill everything from now on, not only what is asked for. Once `arm` has returned; again changes nothing."""
        if self._armed:
            self._background.start(self._finisher, threads=self._threads)

    def run(self, *, on_complete: Callable[[], None] | None = None) -> bool:
        """Serve until every file is complete (True), or until `stop` (False).

        `on_complete` is called when all is there, durable and without marks, while the control socket still answers.
        Raises InternalError when accesses can not be answered any more; they wait then.
        """
        for file in self._files.left():
            self._finisher.look_at(file)
        complete = self._await_end()
        if complete and on_complete is not None:
            on_complete()
        if complete:
            # An access that saw its mark just before it was removed may be on its way to the queue.
            time.sleep(_LINGER_SECONDS)
            # Deleted files that somebody still has open: nobody would answer for them any more.
            self._group.flush()
        self._end()
        if self._broken:
            raise InternalError("The hydrator can answer no more accesses")
        return complete

    def stop(self) -> None:
        """Have `run` end; accesses that wait are not answered. Safe in any thread."""
        self._stop.set()
        self._ended.set()

    def status(self) -> HydrationStatus:
        """How far it is."""
        status = self._ledger.status(files_left=self._files.count_left(), armed=self._armed)
        local = min(self._local_bytes(), status.fetched_bytes)
        return msgspec.structs.replace(status, local_bytes=local, fetched_bytes=status.fetched_bytes - local)

    def _group_to_inherit(self) -> int | None:
        return self._group.descriptor if self._armed and not self._stop.is_set() else None

    def _await_end(self) -> bool:
        while not self._stop.is_set():
            if self._files.all_done.wait(_LOOK_SECONDS):
                return True
            self._forsake_deleted()
        return False

    def _forsake_deleted(self) -> None:
        for file in self._files.left():
            missing = file.missing_bytes
            try:
                gone = file.forsake_if_deleted()
            except FileNotFoundError:
                gone = file.deleted = True
            if gone:
                self._ledger.retired(missing)
                self._files.done(file)

    def _break(self) -> None:
        self._broken = True
        self.stop()

    def _end(self) -> None:
        self._stop.set()
        self._background.end()
        if self._demand is not None:
            self._demand.end()
        self._finisher.end()
        self._control.end()
        for file in self._files.left():
            file.release()
        self._group.close()

"""Everything that nobody has asked for yet, the most useful first."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, Self

from stillframe.errors import InternalError
from stillframe.hydration.demand import CHUNK
from stillframe.hydration.file import ArrivingFile
from stillframe.hydration.files import Files
from stillframe.hydration.filesystem import write_out
from stillframe.hydration.finishing import Finisher
from stillframe.hydration.ledger import Ledger
from stillframe.hydration.pace import Pace
from stillframe.hydration.perseverance import Perseverance
from stillframe.hydration.source import Batch, IsMissing, Source
from stillframe.hydration.wishes import Wishes

Batches = Callable[[], Iterator[Batch]]

_NICE: Final = 10
"""Added to the threads' own niceness (sched(7)): a server that has work gets nearly all of a processor."""
_LEAST_WRITTEN: Final = 1 << 20
"""Bytes of one file that are worth a request of their own to the disk."""
_MOST_QUEUED: Final = 1 << 18
"""Bytes that the disk is given at once while the server waits for it."""
_LARGEST_PIECE: Final = 1 << 18
"""Bytes that are written under one lock of their file."""


class Background:
    """A few threads that fill what is missing, giving way to accesses that wait."""

    def __init__(
        self,
        source: Source,
        files: Files,
        ledger: Ledger,
        pace: Pace,
        perseverance: Perseverance,
        *,
        wishes: Wishes,
    ) -> None:
        self._source = source
        self._wishes = wishes
        self._files = files
        self._ledger = ledger
        self._pace = pace
        self._perseverance = perseverance
        self._started = threading.Lock()
        self._thread: threading.Thread | None = None
        self._vanguard: threading.Thread | None = None

    def begin_first(self, finisher: Finisher) -> None:
        """Bring what the source names first, without giving way: a server that starts soon waits for just that."""
        self._vanguard = threading.Thread(
            target=self._bring_first, args=(finisher,), name="background", daemon=True
        )
        self._vanguard.start()

    def start(self, finisher: Finisher, *, threads: int) -> None:
        """Begin; once, however often it is asked."""
        with self._started:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._bring_everything, args=(finisher, threads), name="background", daemon=True
                )
                self._thread.start()

    @property
    def has_begun(self) -> bool:
        """Whether it was started."""
        return self._thread is not None

    def end(self) -> None:
        """Return when all threads have ended; they do once everything is there or the hydration was stopped."""
        with self._started:
            for thread in (self._vanguard, self._thread):
                if thread is not None:
                    thread.join()

    def _bring_first(self, finisher: Finisher) -> None:
        self._perseverance.until_done(
            lambda: self._fill_first(finisher), work="bringing what is wanted first"
        )

    def _fill_first(self, finisher: Finisher) -> None:
        for batch in self._source.first({file.path for file in self._files.left()}):
            with _Held() as held:
                for piece in _by_file(batch.pieces(self._is_missing)):
                    if self._perseverance.ended:
                        return
                    self._fill(held, piece, finisher)

    def _bring_everything(self, finisher: Finisher, threads: int) -> None:
        self._pace.await_first_queries()
        for file in self._files.left():
            finisher.look_at(file)
        self._go_through(self._planned, finisher, threads)
        # What no batch had should be zeros. The source says so: a page it forgot must not be lost.
        self._go_through(self._leftovers, finisher, threads)

    def _go_through(self, batches: Batches, finisher: Finisher, threads: int) -> None:
        line = _Line(batches, self._wished, self._perseverance)
        workers = [
            threading.Thread(target=self._work, args=(line, finisher), name="background", daemon=True)
            for _ in range(threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _work(self, line: "_Line", finisher: Finisher) -> None:
        _give_precedence()
        while (batch := line.next()) is not None:
            self._perseverance.until_done(
                lambda batch=batch: self._bring(batch, finisher),  # type: ignore[misc]
                work="filling in the background",
            )

    def _bring(self, batch: Batch, finisher: Finisher) -> None:
        pieces = _by_file(batch.pieces(self._is_missing))
        with _Held() as held:
            while not self._perseverance.ended:
                self._pace.give_way()
                with self._pace.piece() as gently:
                    piece = next(pieces, None)
                    if piece is None:
                        break
                    self._fill(held, piece, finisher)
                    if gently:
                        held.write_out(least=_MOST_QUEUED, wait=True)

    def _fill(self, held: "_Held", piece: "_Piece", finisher: Finisher) -> None:
        file = self._files.at(piece.path)
        arrived = 0
        if file is not None and not file.complete:
            try:
                arrived = file.fill_parts(held.descriptor(file), piece.parts)
            except FileNotFoundError:
                # Removed while it was not held open.
                file.deleted = True
                self._files.done(file)
            else:
                held.note(piece, arrived)
                finisher.look_at(file)
        self._ledger.fetched(piece.size, arrived=arrived)

    def _is_missing(self, path: str, offset: int, length: int) -> bool:
        file = self._files.at(path)
        return file is not None and not file.pages.is_there(offset, length)

    def _wished(self) -> Iterator[Batch]:
        while (file := self._wishes.next()) is not None:
            if not file.complete:
                yield from self._source.batches({file.path})

    def _planned(self) -> Iterator[Batch]:
        paths = {file.path for file in self._files.left() if not file.complete}
        return self._source.batches(paths)

    def _leftovers(self) -> Iterator[Batch]:
        return iter([_Leftover(source=self._source, file=file) for file in self._files.left()])


@dataclass(slots=True)
class _Piece:
    """Parts of one file that came one after the other: offsets, and the bytes there. `size` is that of all of them."""

    path: str
    parts: list[tuple[int, memoryview]]
    size: int

    @property
    def start(self) -> int:
        """Where the first of them begins in the file."""
        return min(offset for offset, _ in self.parts)

    @property
    def end(self) -> int:
        """Where the last of them ends in the file."""
        return max(offset + len(data) for offset, data in self.parts)


def _by_file(pieces: Iterator[tuple[str, int, memoryview]]) -> Iterator[_Piece]:
    """Pieces of the same file together, as much as a run of pages: each would cost the same."""
    gathered: list[tuple[int, memoryview]] = []
    size, of = 0, ""
    for path, offset, data in pieces:
        if gathered and (path != of or size + len(data) > _LARGEST_PIECE):
            yield _Piece(of, _joined(gathered), size)
            gathered, size = [], 0
        of = path
        gathered.append((offset, data))
        size += len(data)
    if gathered:
        yield _Piece(of, _joined(gathered), size)


def _joined(parts: list[tuple[int, memoryview]]) -> list[tuple[int, memoryview]]:
    """Neighbours as one part: a write of each would have the file's lock wait for the interpreter's once more."""
    runs: list[tuple[int, list[memoryview]]] = []
    end = -1
    for offset, data in parts:
        if offset == end:
            runs[-1][1].append(data)
        else:
            runs.append((offset, [data]))
        end = offset + len(data)
    return [(offset, _one(run)) for offset, run in runs]


def _one(run: list[memoryview]) -> memoryview:
    return run[0] if len(run) == 1 else memoryview(b"".join(run))


class _Held:
    """The file that is being filled, open: neighbours of a batch lie in the same one, and opening costs more than
    filling.

    What was written of it goes to the disk when it is left: else all of it would have to wait at the end. Small files
    are left to whoever makes them durable.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._file: ArrivingFile | None = None
        self._descriptor = -1
        self._start, self._end, self._total = 0, 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def descriptor(self, file: ArrivingFile) -> int:
        """Of this file, for reading and writing. Raises as `ArrivingFile.opened`."""
        if file is not self._file:
            self._leave()
            self._descriptor = self._stack.enter_context(file.opened())
            self._file = file
        return self._descriptor

    def note(self, piece: "_Piece", arrived: int) -> None:
        """So many bytes of a piece were written."""
        if arrived:
            self._start = min(self._start, piece.start) if self._total else piece.start
            self._end = max(self._end, piece.end)
            self._total += arrived

    def write_out(self, *, least: int, wait: bool) -> None:
        """Have the disk write what was noted, if it is at least so many bytes."""
        if self._file is None or self._total < least:
            return
        # What could not be written is told by fsync(2), before the file counts as durable.
        with suppress(OSError):
            write_out(self._descriptor, self._start, self._end - self._start, wait=wait)
        self._total = 0

    def _leave(self) -> None:
        self.write_out(least=_LEAST_WRITTEN, wait=False)
        self._file, self._total = None, 0
        self._stack.close()


def _give_precedence() -> None:
    """Have every other thread on the machine go before the one that calls."""
    thread = threading.get_native_id()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICE)


class _Line:
    """Batches for whoever is next. One that could not be planned is planned again, from what is missing then."""

    def __init__(self, batches: Batches, wished: Batches, perseverance: Perseverance) -> None:
        self._batches = batches
        self._wished = wished
        self._preferred: Iterator[Batch] = iter(())
        self._perseverance = perseverance
        self._lock = threading.Lock()
        self._planned: Iterator[Batch] | None = None
        self._found: Batch | None = None

    def next(self) -> Batch | None:
        """None at the end, or when the hydration was stopped."""
        with self._lock:
            done = self._perseverance.until_done(self._advance, work="planning what comes next")
            return self._found if done else None

    def _advance(self) -> None:
        # Forgotten if that fails: what was preferred is planned for, too.
        preferred, self._preferred = self._preferred, iter(())
        self._found = next(preferred, None)
        if self._found is None:
            preferred = self._wished()
            self._found = next(preferred, None)
        self._preferred = preferred
        if self._found is None:
            self._advance_planned()

    def _advance_planned(self) -> None:
        planned, self._planned = self._planned or self._batches(), None
        self._found = next(planned, None)
        # Forgotten if that failed: an iterator that failed has no more to give.
        self._planned = planned


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leftover:
    """What is still missing of a file, asked for by the piece."""

    source: Source
    file: ArrivingFile

    def pieces(self, is_missing: IsMissing) -> Iterator[tuple[str, int, memoryview]]:  # noqa: ARG002 - it looks itself
        """As `Batch.pieces`."""
        for start, length in self.file.missing(0, self.file.limit):
            for offset in range(start, start + length, CHUNK):
                data = self.source.read(self.file.path, offset, min(CHUNK, start + length - offset))
                if len(data) != min(CHUNK, start + length - offset):
                    raise InternalError(
                        f"The source has only {len(data)} bytes at {offset} of {self.file.path}"
                    )
                yield self.file.path, offset, memoryview(data)

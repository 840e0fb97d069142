"""Another data directory of the same origin as a source of pages, for whoever can tell whether they are the right ones.

It may be in use, changed, half removed or damaged: all that may come of it is that its pages are not recognised.
"""

import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from stillframe.errors import OperatorError
from stillframe.hydration.filesystem import is_in_memory
from stillframe.hydration.tags import limit_of
from stillframe.repository import Span

_PATIENCE = 8
_NOW_AND_THEN = 16
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class LocalDirectory:
    """The files of a data directory. Safe to use from several threads; `taken_bytes` is what they were good for.

    With `only_in_memory` nothing is read that the disk would have to be asked for: where the repository lies on it,
    too, the compressed frames are there sooner. `read_ahead` is asked whether the system may read more at once than is
    asked for: megabytes that somebody else, who waits for the same disk, waits for, too.

    The directory may be renamed and removed meanwhile. A file that was asked in vain several times in a row is asked
    only now and then, until it has something again: so one that differs everywhere costs next to nothing.
    """

    def __init__(self, descriptor: int, *, only_in_memory: bool = False) -> None:
        """Take over the open directory."""
        self.taken_bytes = 0
        self._only_in_memory = only_in_memory
        self.read_ahead: Callable[[], bool] = lambda: True
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._disappointments: dict[str, int] = {}

    @classmethod
    @contextmanager
    def first_of(
        cls, candidates: Iterable[Path], *, only_in_memory: bool = False
    ) -> Iterator["LocalDirectory | None"]:
        """The first directory of these that is there, for the length of the block; None when none is."""
        for directory in candidates:
            try:
                descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                continue
            try:
                yield cls(descriptor, only_in_memory=only_in_memory)
            finally:
                os.close(descriptor)
            return
        yield None

    def read(self, spans: Sequence[Span]) -> bytes | None:
        """As `LocalFiles.read`."""
        path = spans[0].path
        if not self._is_worth_a_look(path):
            return None
        try:
            parts = [part for name, of_one in groupby(spans, _path) for part in self._parts(name, of_one)]
        except (OSError, OperatorError):
            # Whatever is wrong with it, the repository has the same.
            self.judged(path, right=False)
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def judged(self, path: str, *, right: bool) -> None:
        """As `LocalFiles.judged`."""
        if right and path not in self._disappointments:
            return
        with self._lock:
            count = 0 if right else self._disappointments.get(path, 0) + 1
            self._disappointments[path] = count

    def took(self, size: int) -> None:
        """As `LocalFiles.took`."""
        with self._lock:
            self.taken_bytes += size

    def _is_worth_a_look(self, path: str) -> bool:
        if self._disappointments.get(path, 0) < _PATIENCE:
            return True
        with self._lock:
            count = self._disappointments[path] = self._disappointments[path] + 1
        return count % _NOW_AND_THEN == 0

    def _parts(self, path: str, spans: Iterable[Span]) -> list[bytes]:
        """Raises OSError, OperatorError; a span that is not all there is an OSError, too."""
        descriptor = os.open(path, _FLAGS, dir_fd=self._descriptor)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode) or limit_of(descriptor) is not None:
                # Files of that directory may be arriving themselves: its holes are no pages, and reading one would
                # make its own hydrator fetch what we are about to fetch.
                raise OSError(f"{path} is not all there")
            if not self.read_ahead():
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
            return [self._read_span(descriptor, span) for span in spans]
        finally:
            os.close(descriptor)

    def _read_span(self, descriptor: int, span: Span) -> bytes:
        if self._only_in_memory and not is_in_memory(descriptor, span.offset, span.length):
            raise OSError(f"{span.path} is not in memory")
        data = os.pread(descriptor, span.length, span.offset)
        if len(data) != span.length:
            raise OSError(f"{span.path} is shorter")
        return data


def _path(span: Span) -> str:
    return span.path

"""Objects on their way into a store: files that are written aside, and stay there until what they became is durable.

A process that is killed leaves what it had named but not synced: everybody sees it, and a loss of power takes
it away. Whoever relied on it would be left with less than was promised. So the file aside is the mark of it: it
tells the directory in its name, goes only after that directory was synced, and whoever publishes next syncs for
those whose mark is still there, before its own object gets a name.
"""

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from stillframe.objectstore.claims import unlink_if_unlocked
from stillframe.objectstore.directories import Directories

_LONGEST_NAME = 255
_SEPARATOR = "+"
"""Stands for a slash; no object's name has it."""


class Publication:
    """One file aside, open and locked; `descriptor` is for writing it. Methods raise OSError."""

    def __init__(self, path: Path, descriptor: int, directory: Path) -> None:
        self.path = path
        self.descriptor = descriptor
        self.directory = directory
        self._named = False

    def name_it(self, target: Path, *, if_absent: bool) -> None:
        """Give the file its object's name. Raises FileExistsError if it is taken and must not be."""
        if if_absent:
            # link(2) fails if the name exists; rename(2) would replace it.
            os.link(self.path, target)
        else:
            # By a second name, because the first one is the mark.
            second = self.path.with_name(f"{uuid.uuid4().hex}{self.path.name[32:]}")
            os.link(self.path, second)
            second.rename(target)
        self._named = True

    def settled(self) -> None:
        """The directory has been synced."""
        self._named = False

    def close(self) -> None:
        """Remove the file aside, unless its directory has yet to be synced."""
        try:
            if not self._named:
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self.descriptor)


class Publications:
    """The files aside of one store, in a directory of their own. Methods raise OSError."""

    def __init__(self, aside: Path, root: Path, directories: Directories) -> None:
        self._aside = aside
        self._root = root
        self._directories = directories

    @contextlib.contextmanager
    def begin(self, directory: Path) -> Iterator[Publication]:
        """A file aside for an object in this directory."""
        publication = self._opened(directory)
        try:
            yield publication
        finally:
            publication.close()

    def finish_others(self, own: Publication | None = None) -> None:
        """Make durable what others have named and not synced yet, and remove the marks of those that died.

        What goes into the own publication's directory is left out: that is synced with it.
        """
        for path in self._aside.iterdir():
            directory = self._directory_of(path.name)
            if own is None or directory != own.directory:
                self._finish(path, directory)

    def _opened(self, directory: Path) -> Publication:
        """A fresh file, locked while it is open: the lock tells a living writer's file from a dead one's."""
        where = self._mark(directory)
        while True:
            path = self._aside / f"{uuid.uuid4().hex}{where}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return Publication(path, descriptor, directory)
            # Another opener of the store swept it between its creation and its lock.
            os.close(descriptor)

    def _finish(self, path: Path, directory: Path | None) -> None:
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            # What has no other name yet has been seen by nobody.
            if path.stat().st_nlink > 1:
                self._sync(directory)
            unlink_if_unlocked(path)

    def _sync(self, directory: Path | None) -> None:
        if directory is None:
            self._directories.sync_all()
        else:
            self._directories.sync_if_there(directory)

    def _mark(self, directory: Path) -> str:
        """The end of the name of a file aside; empty, which means any directory, when it would be too long."""
        mark = _SEPARATOR + directory.relative_to(self._root).as_posix().replace("/", _SEPARATOR)
        return mark if len(mark) + 32 <= _LONGEST_NAME else ""

    def _directory_of(self, name: str) -> Path | None:
        """Where the object goes; None for a file of release 0.1.0, which does not tell."""
        _, separator, rest = name.partition(_SEPARATOR)
        return self._root.joinpath(*rest.split(_SEPARATOR)) if separator else None

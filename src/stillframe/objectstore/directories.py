"""Directories below which names are durable: an object is only as safe as the entry of each directory on its way.

fsync(2) of a directory makes its entries durable, and says nothing of its own entry in its parent. So before the
first object goes into a directory, every directory on the way to it is synced once, whoever made it.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from stillframe.errors import StoreUnavailable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


class Directories:
    """The directories of one store. Safe to use from several threads; methods raise OSError."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[Path] = set()
        self._unsynced: set[Path] = set()
        """Directories whose last sync failed: what is seen in them may not be durable."""

    def make(self, directory: Path) -> None:
        """See that a directory at or below the root is there, and that it will be after a loss of power."""
        if directory in self._durable:
            return
        for path in self._way_to(directory):
            path.mkdir(mode=0o700, exist_ok=True)
            self.sync(path.parent)
        if self._root not in self._durable:
            self._sync_above()
        self._durable |= {self._root, directory}

    def sync(self, directory: Path) -> None:
        """Make the entries of a directory durable."""
        # From before the attempt: another thread must not take what it sees for durable while this one fails.
        descriptor = os.open(directory, _DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError:
            self._unsynced.add(directory)
            raise
        finally:
            os.close(descriptor)
        self._unsynced.discard(directory)

    def sync_if_there(self, directory: Path) -> None:
        """The same for a directory that may never have been made: then what is missing in it stays so."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.sync(directory)

    def require_durable(self, directory: Path) -> None:
        """Before something in it is believed. Raises StoreUnavailable when what is seen there may vanish again."""
        if directory not in self._unsynced:
            return
        try:
            self.sync(directory)
        except OSError as error:
            raise StoreUnavailable(
                f"What is in {directory.name} may not be durable: it could not be synced."
            ) from error

    def sync_all(self) -> None:
        """Every directory of the store, from the root on."""
        pending = [self._root]
        while pending:
            directory = pending.pop()
            self.sync(directory)
            with os.scandir(directory) as entries:
                pending += [directory / entry.name for entry in entries if _is_visible_directory(entry)]

    def _way_to(self, directory: Path) -> Iterator[Path]:
        """The directories below the root on the way to one, the outermost first."""
        parts = directory.relative_to(self._root).parts
        for length in range(1, len(parts) + 1):
            yield self._root.joinpath(*parts[:length])

    def _sync_above(self) -> None:
        """What leads to the root, up to its mount point; not what belongs to somebody else."""
        device = self._root.stat().st_dev
        with contextlib.suppress(PermissionError):
            for parent in self._root.absolute().parents:
                if parent.stat().st_dev != device:
                    return
                self.sync(parent)


def _is_visible_directory(entry: "os.DirEntry[str]") -> bool:
    return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)

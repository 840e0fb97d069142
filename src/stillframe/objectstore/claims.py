"""Claims as locked files: the operating system ends them with the process that holds them.

A directory of them serves every process of one machine. Stores whose objects lie elsewhere use one too, which
is why such a store is for the processes of one machine at a time.
"""

import contextlib
import fcntl
import io
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from stillframe.errors import Conflict
from stillframe.objectstore.oserrors import translate_os_error
from stillframe.objectstore.port import checked_name


class ClaimDirectory:
    """Claims by name among all processes that use this directory, which is made (mode 0700) when missing.

    Raises PermissionMissing, DiskFull or StoreUnavailable when it cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            translate_os_error(error, str(directory))

    def claim(self, name: str, *, shared: bool = False) -> "LocalClaim":
        """Hold a name; see `ObjectStore.claim`. Raises Conflict when a living holder excludes it."""
        path = self._path(name)
        try:
            descriptor = _locked(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        except BlockingIOError:
            raise Conflict(f"{name} is held by somebody else.", claim=name) from None
        except OSError as error:
            translate_os_error(error, name)
        return LocalClaim(path, descriptor)

    def held(self, prefix: str) -> list[str]:
        """Names that somebody holds; see `ObjectStore.held_claims`. What the dead have left is removed on the way."""
        try:
            names = [path.name.replace("+", "/") for path in self._directory.iterdir()]
            return [name for name in sorted(names) if name.startswith(prefix) and self._is_held(name)]
        except OSError as error:
            translate_os_error(error, str(self._directory))

    def _is_held(self, name: str) -> bool:
        try:
            unlink_if_unlocked(self._path(name))
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def _path(self, name: str) -> Path:
        return self._directory / checked_name(name).replace("/", "+")


class LocalClaim:
    """A lock file; see `Claim`. Not inherited by programs this process starts."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        # A file object, so that a claim nobody released is at least closed, and warned about, when it is dropped.
        self._file = io.FileIO(descriptor, "r+")

    def release(self) -> None:
        """Give the name up, and remove its file when nobody else has it."""
        if self._file.closed:
            return
        self._file.close()
        with contextlib.suppress(OSError):
            unlink_if_unlocked(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def unlink_if_unlocked(path: Path) -> None:
    """Remove a lock file that nobody holds. Raises OSError: BlockingIOError when somebody does."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The name may by now stand for another file, if somebody else removed this one first.
        if os.fstat(descriptor).st_nlink:
            path.unlink()
    finally:
        os.close(descriptor)


def _locked(path: Path, operation: int) -> int:
    """Open and lock a lock file, sure that the locked file is the one under its name."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)

"""Small files that hold keys: created once or replaced whole, durably, readable by nobody else."""

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from stillframe.errors import Conflict, DiskFull, KeyUnavailable, PermissionMissing, StillframeError
from stillframe.system import reason_of, says_full, says_refused

_PATIENCE = 10.0
_POLL = 0.01


def make_directory(path: Path) -> None:
    """The directory, for this user alone, created if missing."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)


def create_file(path: Path, data: bytes) -> None:
    """Create a file whole and durably; FileExistsError if the name is taken."""
    with _written(path.with_name(f".{uuid.uuid4().hex}"), data, os.O_EXCL) as temporary:
        path.hardlink_to(temporary)
        _sync_directory(path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in the place of another one, in one atomic and durable step. The caller holds the lock."""
    with _written(path.with_name(".new"), data, os.O_TRUNC) as temporary:
        temporary.replace(path)
        _sync_directory(path.parent)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep every other thread and process from changing files here. Raises Conflict after ten seconds."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        translate(error, "The directory of the keys")
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def translate(error: OSError, what: str) -> NoReturn:
    """Raise what the failure of storing `what` means to us."""
    kind: type[StillframeError] = KeyUnavailable
    if says_full(error):
        kind = DiskFull
    elif says_refused(error):
        kind = PermissionMissing
    raise kind(f"{what} could not be stored: {reason_of(error)}.") from error


@contextlib.contextmanager
def _written(temporary: Path, data: bytes, how: int) -> Iterator[Path]:
    # The mode is there from the first moment: the file holds a key.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() >= deadline:
            raise Conflict("Another change of the keys has not ended yet.", hint="Try again later.")
        time.sleep(_POLL)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The tag of a file that is still arriving: below which length a hole means "not there yet".

It travels with the file and survives what the file survives. PostgreSQL extends files by posix_fallocate(), whose
unwritten extents look like holes, too: that is why a tag carries a length, and why a file without one is never
filled, such as a new one at a path that was in use before.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stillframe.errors import OperatorError
from stillframe.hydration.failures import translating_os_errors

TAG = "user.stillframe.hydration"
_SUSPECT = "user.stillframe.suspect"
_ABSENT = {errno.ENODATA, errno.ENOTSUP}


def tag(descriptor: int, limit: int) -> None:
    """Say that a hole of this open file below `limit` bytes is content that has not arrived. Raises OperatorError."""
    with translating_os_errors("Tagging a file"):
        os.setxattr(descriptor, TAG, str(limit).encode())


def untag(descriptor: int) -> None:
    """Say that everything of this open file has arrived. Raises OperatorError."""
    with translating_os_errors("Removing the tag of a file"):
        _remove(descriptor, TAG)


def suspect(directory: Path) -> None:
    """Note a failed write: on disk, pages of this directory may differ from what they read. Raises OperatorError."""
    with translating_os_errors(f"Tagging {directory}"):
        os.setxattr(directory, _SUSPECT, b"1")


def is_suspect(directory: Path) -> bool:
    """Whether a write failed, and its pages were not checked since. Raises OSError."""
    return _SUSPECT in os.listxattr(directory)


def unsuspect(directory: Path) -> None:
    """Note that every page was checked. Raises OSError."""
    if is_suspect(directory):
        _remove(directory, _SUSPECT)


def limit_of(file: int | str) -> int | None:
    """The length in bytes that the tag tells; None for a file without. Raises OSError, OperatorError."""
    try:
        value = os.getxattr(file, TAG, follow_symlinks=not isinstance(file, str))
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    if not value.isdigit():
        raise OperatorError(f"The tag of {file} is no length: {value!r}")
    return int(value)


def tagged(directory: Path) -> Iterator[Path]:
    """The files below a directory that carry the tag. Symbolic links are not followed. Raises OperatorError."""
    with translating_os_errors(f"Looking for files that are arriving in {directory}"):
        for path, _ in limits(directory):
            yield Path(path)


def limits(directory: Path) -> Iterator[tuple[str, int]]:
    """Path and limit of every tagged file below a directory. Raises OSError, OperatorError.

    A server may remove files meanwhile; those that it removed are not told.
    """
    for path in _files(str(directory)):
        limit = None
        with suppress(FileNotFoundError):
            limit = limit_of(path)
        if limit is not None:
            yield path, limit


def _files(directory: str) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    yield from _files(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry.path


def _remove(file: int | Path, name: str) -> None:
    try:
        os.removexattr(file, name)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise

"""Room on the disk that snapshots and restores leave alone.

A PostgreSQL server that finds no room for its next WAL file ends at once, the catalog's as well. So what we
write in bulk stops before that, and what fails is the snapshot or the restore, and nothing else.
"""

import os
from pathlib import Path

from stillframe.errors import DiskFull
from stillframe.objectstore import LocalObjectStore
from stillframe.objectstore.port import ObjectBytes
from stillframe.system import translating_os_errors

MEBIBYTE = 1024 * 1024

RESERVE = 64 * MEBIBYTE
"""Bytes: two WAL files for the catalog's server and two for the one that is read or restored."""

_SMALL = 64 * 1024
"""Bytes: documents up to this length are always written, so that work can be ended in order."""


def require_room(directory: Path, needed: int) -> None:
    """Raise DiskFull unless `needed` bytes and the reserve are free on this directory's file system."""
    with translating_os_errors("looking how much room there is"):
        found = os.statvfs(directory)
    free = found.f_bavail * found.f_frsize
    if free < needed + RESERVE:
        raise DiskFull(
            f"There is not enough space: {_mebibytes(needed)} MiB are needed beside the {_mebibytes(RESERVE)} MiB "
            f"that the databases keep for themselves, and {_mebibytes(free)} MiB are free.",
            hint="Free some space on the file system of the data directory, then ask again.",
        )


class RoomKeepingStore(LocalObjectStore):
    """A directory of objects that does not grow into the reserve."""

    def put(self, name: str, data: ObjectBytes, *, if_absent: bool = False) -> None:
        """As the port says; DiskFull also when the reserve would be touched."""
        size = memoryview(data).nbytes
        if size > _SMALL:
            require_room(self._root, size)
        super().put(name, data, if_absent=if_absent)


def _mebibytes(size: int) -> int:
    return -(-size // MEBIBYTE)

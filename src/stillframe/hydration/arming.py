"""Finding, opening and marking everything that is arriving, before a server may start."""

import os
from collections.abc import Iterator
from pathlib import Path

from stillframe.hydration import tags
from stillframe.hydration.descriptors import free_descriptors
from stillframe.hydration.fanotify import Group
from stillframe.hydration.file import ArrivingFile
from stillframe.hydration.scan import drop_damaged, note_arrived
from stillframe.hydration.source import PageCheck


class ArmedFiles:
    """Marks files in a group. With `check`, the pages that are there are read, and believed if they are whole.

    `late` tells that there were more files than descriptors: some are opened when they are filled, and accesses of
    this process are among the events.
    """

    def __init__(self, directory: Path, group: Group, *, page_is_whole: PageCheck, check: bool) -> None:
        self._directory = directory
        self._group = group
        self._page_is_whole = page_is_whole
        self._check = check
        self._free = free_descriptors()
        self.late = False

    def arm(self) -> Iterator[ArrivingFile]:
        """Every tagged file of the directory, marked. Raises OSError, OperatorError."""
        check = self._check or tags.is_suspect(self._directory)
        for path, limit in list(tags.limits(self._directory)):
            yield self._arm(path, limit, check=check)
        tags.unsuspect(self._directory)

    def _arm(self, path: str, limit: int, *, check: bool) -> ArrivingFile:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        file = _arriving(path[len(str(self._directory)) + 1 :], path, descriptor, limit)
        note_arrived(file, descriptor)
        if check:
            drop_damaged(file, descriptor, self._page_is_whole)
        self._group.mark(descriptor)
        self._keep(file)
        return file

    def _keep(self, file: ArrivingFile) -> None:
        self._free -= 1
        if self._free < 0:
            self.late = True
            file.release()


def _arriving(name: str, path: str, descriptor: int, limit: int) -> ArrivingFile:
    status = os.fstat(descriptor)
    if status.st_size < limit:
        # Shortened while nobody watched: what follows when it grows again is not the snapshot's.
        limit = status.st_size
        tags.tag(descriptor, limit)
    identity = status.st_dev, status.st_ino
    return ArrivingFile(name, path, descriptor=descriptor, identity=identity, limit=limit)

"""Finding, opening and marking everything that is arriving, before a server may start."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from stillframe.hydration import tags
from stillframe.hydration.fanotify import Group
from stillframe.hydration.file import ArrivingFile
from stillframe.hydration.scan import drop_damaged, note_arrived
from stillframe.hydration.source import PageCheck

_RESERVED_DESCRIPTORS: Final = 1024
"""Kept free for events: the kernel denies an access when it can not open its file for us."""


class ArmedFiles:
    """Marks files in a group. With `check`, the pages that are there are read, and believed if they are whole.

    Files that somebody is still making can be armed one by one as they are finished: marking a thousand takes as long
    as making them. `late` tells that there were more files than descriptors: some are opened when they are filled,
    and accesses of this process are among the events.
    """

    def __init__(self, directory: Path, group: Group, *, page_is_whole: PageCheck, check: bool) -> None:
        self._directory = directory
        self._group = group
        self._page_is_whole = page_is_whole
        self._check = check
        self._free = _free_descriptors()
        self._known: set[str] = set()
        self.late = False

    def arm_made(self) -> Iterator[ArrivingFile]:
        """Those tagged files, marked, that are as long as they will be, while more are being made. Raises OSError,
        OperatorError.

        A file gets its length last (`lay_out`), and nobody uses it before all are there.
        """
        for path, limit in list(tags.limits(self._directory, known=self._known)):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            if os.fstat(descriptor).st_size == limit:
                yield self._arm(path, descriptor, limit, check=False)
            else:
                os.close(descriptor)

    def arm(self) -> Iterator[ArrivingFile]:
        """Every other tagged file of the directory, marked. Raises OSError, OperatorError."""
        check = self._check or tags.is_suspect(self._directory)
        for path, limit in list(tags.limits(self._directory, known=self._known)):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            yield self._arm(path, descriptor, limit, check=check)
        tags.unsuspect(self._directory)

    def _arm(self, path: str, descriptor: int, limit: int, *, check: bool) -> ArrivingFile:
        file = _arriving(path[len(str(self._directory)) + 1 :], path, descriptor, limit)
        note_arrived(file, descriptor)
        if check:
            drop_damaged(file, descriptor, self._page_is_whole)
        self._group.mark(descriptor)
        self._known.add(path)
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


def _free_descriptors() -> int:
    """How many files may be held open: all that the system allows, less a reserve."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    taken = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough, and many
    return max(0, hard - taken - max(_RESERVED_DESCRIPTORS, hard // 8))

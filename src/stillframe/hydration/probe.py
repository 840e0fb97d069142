"""Whether files can arrive while they are read: tried, in the directory where they would."""

import os
import select
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stillframe.errors import StillframeError
from stillframe.hydration import tags
from stillframe.hydration.demand import answer
from stillframe.hydration.failures import os_error
from stillframe.hydration.fanotify import Event, Group
from stillframe.hydration.file import ArrivingFile, identity_of
from stillframe.hydration.pages import PAGE_SIZE
from stillframe.hydration.scan import note_arrived

_MILLISECONDS: Final = 5000
_PAGE: Final = b"stillframe".ljust(PAGE_SIZE, b".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """`reason` is a sentence, for either answer."""

    supported: bool
    reason: str


def probe(directory: Path) -> Probe:
    """Try everything that hydration relies on with a small file in this directory, which exists. Raises nothing."""
    try:
        with tempfile.TemporaryDirectory(prefix=".hydration-", dir=directory) as place:
            found = _tried(Path(place) / "probe")
    except OSError as error:
        found = os_error(error, "Trying it").message
    except StillframeError as error:
        found = error.message
    if found is not None:
        return Probe(supported=False, reason=f"{found.rstrip('.')}.")
    return Probe(supported=True, reason="The kernel holds accesses until content has arrived (fanotify).")


def _tried(path: Path) -> str | None:
    """What does not work. Raises OSError, OperatorError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, 4 * PAGE_SIZE)
        tags.tag(descriptor, 4 * PAGE_SIZE)
        os.pwrite(descriptor, _PAGE, PAGE_SIZE)
        identity = identity_of(descriptor)
        file = ArrivingFile(
            path.name, str(path), descriptor=descriptor, identity=identity, limit=4 * PAGE_SIZE
        )
        note_arrived(file, descriptor)
        if file.missing(0, 4 * PAGE_SIZE) != [(0, PAGE_SIZE), (2 * PAGE_SIZE, 2 * PAGE_SIZE)]:
            return "The file system does not tell which single pages of a file are allocated"
        return _tried_events(path, descriptor)
    finally:
        os.close(descriptor)


def _tried_events(path: Path, descriptor: int) -> str | None:
    group = Group()
    try:
        group.mark(descriptor)
        reader = _Reader(path)
        reader.start()
        event = _next_event(group)
        if event is None:
            return "The kernel does not say when a marked file is read"
        os.pwrite(event.descriptor, _PAGE, event.offset)
        answer(group, event)
        reader.join(_MILLISECONDS / 1000)
        if reader.read != _PAGE:
            return "A marked file was read before its content was there"
        return None
    finally:
        # A reader that still waits goes on by that.
        group.close()


def _next_event(group: Group) -> Event | None:
    poll = select.poll()
    poll.register(group.descriptor, select.POLLIN)
    poll.poll(_MILLISECONDS)
    return next(iter(group.events()), None)


class _Reader(threading.Thread):
    """Reads the first page, as a program that knows nothing of all this."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="probe", daemon=True)
        self._path = path
        self.read = b""

    def run(self) -> None:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.read = os.pread(descriptor, PAGE_SIZE, 0)
        finally:
            os.close(descriptor)

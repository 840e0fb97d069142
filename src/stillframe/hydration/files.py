"""All files of one directory that are arriving."""

import threading

from stillframe.hydration.file import ArrivingFile, Identity


class Files:
    """Found by path or by what is open. Safe to use from several threads.

    A file that was deleted is no longer left, but still found: whoever has it open may ask for more of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_identity: dict[Identity, ArrivingFile] = {}
        self._left: dict[str, ArrivingFile] = {}
        self.all_done = threading.Event()

    def add(self, file: ArrivingFile) -> None:
        """Before its first event."""
        with self._lock:
            self._by_identity[file.identity] = file
            self._left[file.path] = file

    def armed(self) -> None:
        """There will be no more files."""
        self._look_whether_done()

    def open_as(self, identity: Identity) -> ArrivingFile | None:
        """The file with this identity, None for one that is complete."""
        return self._by_identity.get(identity)

    def at(self, path: str) -> ArrivingFile | None:
        """The file that was armed at this path and is not done."""
        return self._left.get(path)

    def left(self) -> list[ArrivingFile]:
        """Those that are not done."""
        with self._lock:
            return list(self._left.values())

    def count_left(self) -> int:
        """How many are not done."""
        return len(self._left)

    def done(self, file: ArrivingFile) -> None:
        """It has no mark any more, or no name."""
        with self._lock:
            self._left.pop(file.path, None)
            if not file.deleted:
                self._by_identity.pop(file.identity, None)
        self._look_whether_done()

    def _look_whether_done(self) -> None:
        if not self._left:
            self.all_done.set()

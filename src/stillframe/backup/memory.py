"""What a process remembers of the data directories it copied, so that the next copy need not list them anew.

Only ever a shortcut: it is lost with the process, and without it everything is listed.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from stillframe.domain.identifiers import SnapshotId
from stillframe.postgres.files import KnownFolder

_MOST = 256
_MOST_NAMES = 400_000
"""Of files, in all: some forty megabytes."""


class Moment(NamedTuple):
    """A snapshot, and the run of the server that it was taken of (`BackupSession.server_run`)."""

    snapshot_id: SnapshotId
    server_run: str


class ListingMemory:
    """The directories of each data directory as its last snapshot found them. Safe to use from several threads."""

    def __init__(self, *, most: int = _MOST, most_names: int = _MOST_NAMES) -> None:
        self._most = most
        self._most_names = most_names
        self._lock = threading.Lock()
        self._kept: OrderedDict[Path, tuple[Moment, Mapping[str, KnownFolder]]] = OrderedDict()

    def recall(self, root: Path, moment: Moment) -> Mapping[str, KnownFolder] | None:
        """What was found in this data directory then; None if that is not remembered."""
        with self._lock:
            found = self._kept.get(root)
        return found[1] if found is not None and found[0] == moment else None

    def keep(self, root: Path, moment: Moment, known: Mapping[str, KnownFolder]) -> None:
        """Remember it instead of what was found earlier; the data directories longest unseen are forgotten."""
        with self._lock:
            self._kept[root] = (moment, known)
            self._kept.move_to_end(root)
            while len(self._kept) > self._most or self._names() > self._most_names:
                self._kept.popitem(last=False)

    def _names(self) -> int:
        return sum(
            len(folder.plain) + len(folder.maps)
            for _, known in self._kept.values()
            for folder in known.values()
        )

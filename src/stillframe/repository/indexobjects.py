"""The index objects of one data key in the store, opened. What cannot be used is passed over, and said."""

import threading
from collections.abc import Iterator
from typing import NamedTuple

import structlog

from stillframe.errors import DataError, FormatUnknown, ObjectMissing
from stillframe.objectstore import ObjectStore, StoredObject
from stillframe.repository.crypto import DataKey
from stillframe.repository.format import INDEX
from stillframe.repository.indexform import IndexObject, is_index_name, open_head
from stillframe.repository.parts import StoredPart

_HEAD = 256 << 10
"""Bytes read first: objects up to this length are read whole, and the directory of nearly every larger one."""
_ATTEMPTS = 3

log = structlog.get_logger(__name__)


class OpenedIndex(NamedTuple):
    """An index object whose directory is open; all its bytes beside it when they were read along."""

    stored: IndexObject
    whole: bytes | None

    def part(self, store: ObjectStore) -> StoredPart:
        """What an index is made of. Raises StoredDataCorrupt when bytes that were read along are damaged."""
        return StoredPart(store, self.stored, whole=self.whole)


class IndexObjects:
    """Safe to use from several threads. What is wrong with an object is never raised; what the store raises is."""

    def __init__(self, store: ObjectStore, key: DataKey) -> None:
        self._store = store
        self._key = key
        self._lock = threading.RLock()
        self._known: dict[str, IndexObject] = {}
        self._unusable: dict[str, DataError] = {}

    @property
    def damaged(self) -> dict[str, DataError]:
        """Objects that were found damaged; not those of a form that this release does not know."""
        return {name: error for name, error in self._unusable.items() if not isinstance(error, FormatUnknown)}

    def names(self) -> list[StoredObject]:
        """What is listed, whether or not it can be used."""
        listed = self._store.list(f"{INDEX}{self._key.reference}/")
        return [stored for stored in listed if is_index_name(stored.name)]

    def opened(self) -> list[OpenedIndex]:
        """Those that can be used, the ones with the most rows first."""
        with self._lock:
            found = self._listed_and_opened()
        return sorted(found, key=lambda one: one.stored.rows, reverse=True)

    def distrust(self, name: str, error: DataError) -> None:
        """Use an object no more. One that is merely gone was consolidated with others, as happens."""
        with self._lock:
            self._known.pop(name, None)
            if not isinstance(error, ObjectMissing) and name not in self._unusable:
                self._unusable[name] = error
                log.warning("index_object_unusable", object=name, reason=error.message)

    def _listed_and_opened(self) -> list[OpenedIndex]:
        for _ in range(_ATTEMPTS):
            listed = self.names()
            found = list(self._opened(listed))
            usable = [stored for stored in listed if stored.name not in self._unusable]
            if len(found) == len(usable):
                break
            # One was consolidated with others in this moment: what has taken its place is listed now.
        names = {stored.name for stored in listed}
        self._known = {name: one for name, one in self._known.items() if name in names}
        self._unusable = {name: error for name, error in self._unusable.items() if name in names}
        return found

    def _opened(self, listed: list[StoredObject]) -> Iterator[OpenedIndex]:
        for stored in listed:
            known = self._known.get(stored.name)
            if known is not None and known.size == stored.size:
                yield OpenedIndex(known, None)
            elif stored.name not in self._unusable:
                try:
                    opened = self._open(stored)
                except DataError as error:
                    self.distrust(stored.name, error)
                else:
                    self._known[stored.name] = opened.stored
                    yield opened

    def _open(self, stored: StoredObject) -> OpenedIndex:
        name, size = stored
        head = self._store.get_range(name, 0, min(size, _HEAD))
        found = open_head(name, head, key=self._key, size=size)
        end = found.first_block
        if end > len(head):
            head += self._store.get_range(name, len(head), end - len(head))
        found.open_directory(memoryview(head)[len(found.header) : end])
        return OpenedIndex(found, head if len(head) == size else None)

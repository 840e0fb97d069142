"""The packs of one data key that are in the store: what they hold, and what a writer may rely on.

A writer must not rely on content of another writer that may still abort and take its packs away. A pack is
*settled* when it was seen in the store after its writer was seen to be finished or dead; from then on only a
sweep removes it, which condemns it first. So a writer relies on settled packs that were not condemned in the list
it read after it had opened its epoch.
"""

import contextlib
import threading
from collections.abc import Container, Iterable, Mapping

from stillframe.errors import DataError, ObjectMissing, StoredDataCorrupt
from stillframe.objectstore import ObjectStore
from stillframe.repository.condemned import Numbered, newest_list
from stillframe.repository.crypto import DataKey
from stillframe.repository.epochs import announced, epoch_claim, is_held
from stillframe.repository.format import NODES, PACKS, SNAPSHOTS
from stillframe.repository.index import Index, Location
from stillframe.repository.pack import PackName, list_pack


class PackLibrary:
    """Safe to use from several threads. `refresh` before use, with an epoch open."""

    def __init__(self, store: ObjectStore, key: DataKey) -> None:
        self.key = key
        self.index = Index()
        self._store = store
        self._refreshing = threading.Lock()
        self._sizes: dict[PackName, int] = {}
        self._settled: frozenset[PackName] = frozenset()
        self._writers: dict[PackName, bytes] = {}
        """Of packs that have been listed."""
        self._damaged: dict[PackName, DataError] = {}
        self._distrusted: frozenset[tuple[PackName, int]] = frozenset()
        self._newest = Numbered(0, None)
        self._avoided: frozenset[str] | None = None
        """Condemned packs; None when that is not known, so that no pack may be relied on."""

    @property
    def damaged(self) -> Mapping[PackName, DataError]:
        """Packs that are in the store and cannot be listed, and why."""
        return self._damaged

    @property
    def sizes(self) -> Mapping[PackName, int]:
        """Every pack in the store at the last refresh, with its length in bytes."""
        return self._sizes

    def refresh(self, *, finished: frozenset[bytes] = frozenset()) -> None:
        """Agree with the store about which packs there are. Writers in `finished` are known not to be open.

        The order is what makes it safe: list the packs, then look for open writers, then see each pack that is
        not settled yet (again). A writer that aborts removes its packs before it stops being seen as open.
        Before that the list of condemned packs is read: one that has left it meanwhile is gone from the listing.
        """
        with self._refreshing:
            self._newest = newest_list(self._store, known=self._newest)
            present = self._present()
            gone = self._sizes.keys() - present.keys()
            self.index.forget(gone)
            for name in gone:
                self._writers.pop(name, None)
            self._settled -= gone
            open_writers = living_writers(self._store) - finished
            fresh = [name for name in present if name not in self._settled]
            self._settled |= {name for name in fresh if self._see(name, present, open_writers)}
            self._sizes = {
                name: present[name] for name in present if name in self.index.packs or name in self._damaged
            }
            # Last, so that whoever reads this list sees that the packs are gone that are not on it any more.
            self._avoided = self._newest.list.avoided if self._newest.list is not None else None

    def adopt(self, content_id: bytes, *, own: Container[PackName]) -> Location | None:
        """Where content lies that a writer of the packs `own` may refer to, or None when it has to store it."""
        for found in self.index.find_all(content_id):
            if found.pack not in own and self._is_avoided(found.pack):
                continue
            whole = (found.pack, found.place.offset) not in self._distrusted
            if whole and (found.pack in self._settled or found.pack in own):
                return found
        return None

    def writer_of(self, pack: PackName) -> bytes | None:
        """The id of a listed pack's writer."""
        return self._writers.get(pack)

    def distrust(self, places: Iterable[tuple[PackName, int]]) -> None:
        """Content at these offsets of packs is damaged: the next writer stores it again.

        Which heals older snapshots too, because a reader takes any copy that is whole.
        """
        self._distrusted |= frozenset(places)

    def discard(self, packs: Iterable[PackName]) -> None:
        """A writer of this process has aborted, and its packs are gone."""
        self.index.forget(packs)

    def settle(self, packs: Mapping[PackName, int], *, writer: bytes) -> None:
        """A writer of this process has committed: these packs, of these lengths, may be relied on.

        It has added their content to the index as it sealed them.
        """
        with self._refreshing:
            self._sizes |= packs
            self._writers |= dict.fromkeys(packs, writer)
            self._settled |= packs.keys()

    def _is_avoided(self, pack: PackName) -> bool:
        avoided = self._avoided
        return avoided is None or str(pack) in avoided

    def _present(self) -> dict[PackName, int]:
        """Packs in the store; what has no pack's name is none, and is left alone."""
        present: dict[PackName, int] = {}
        for prefix in (PACKS, NODES):
            for stored in self._store.list(f"{prefix}{self.key.reference}/"):
                with contextlib.suppress(StoredDataCorrupt):
                    present[PackName.parse(stored.name)] = stored.size
        return present

    def _see(self, name: PackName, present: Mapping[PackName, int], open_writers: frozenset[bytes]) -> bool:
        """Look at a pack now; True when it is there, whole, and its writer is not open."""
        self._damaged.pop(name, None)
        try:
            if name in self._writers:
                self._store.size(str(name))
            else:
                listing = list_pack(self._store, name, self.key, size=present[name])
                self.index.add_table(name, listing.table)
                self._writers[name] = listing.header.writer
        except ObjectMissing:
            self.index.forget([name])
            self._writers.pop(name, None)
            return False
        except DataError as error:
            # One damaged pack must not keep the rest from being read; a check reports it.
            self._damaged[name] = error
            return False
        return self._writers[name] not in open_writers


def living_writers(store: ObjectStore) -> frozenset[bytes]:
    """The snapshot ids of writers that may still abort: registered, not committed, and not dead."""
    return frozenset(name.bytes for name in announced(store) if _may_abort(store, str(name)))


def _may_abort(store: ObjectStore, name: str) -> bool:
    # If the claim is free its process is gone, and a dead writer removes nothing any more.
    return is_held(store, epoch_claim(name)) and not exists(store, SNAPSHOTS + name)


def exists(store: ObjectStore, name: str) -> bool:
    """Whether the store has an object of this name; a store that does not answer raises."""
    try:
        store.size(name)
    except ObjectMissing:
        return False
    return True

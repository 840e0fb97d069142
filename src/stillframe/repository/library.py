"""The packs of one data key that are in the store: what they hold, and what a writer may rely on.

A writer must not rely on content of another writer that may still abort and take its packs away. A pack is
*settled* when it was seen in the store after its writer was seen to be finished or dead; from then on only a
sweep removes it, which condemns it first. So a writer relies on settled packs that were not condemned in the list
it read after it had opened its epoch.

What a pack holds, and who wrote it, never changes; so it is learnt from wherever it is written down: its own trailer,
or an index object. Whether a pack is there, and whether its writer is open, is asked of the store each time.
"""

import contextlib
import threading
from collections.abc import Container, Iterable, Iterator, Mapping, Set
from types import MappingProxyType
from typing import NamedTuple, TypeGuard

from stillframe.errors import DataError, ObjectMissing, StoredDataCorrupt
from stillframe.objectstore import ObjectStore
from stillframe.repository.comparing import differing_packs, digest_of
from stillframe.repository.condemned import Numbered, newest_list
from stillframe.repository.crypto import DataKey
from stillframe.repository.epochs import claimed_epochs
from stillframe.repository.format import NODES, PACKS, SNAPSHOTS
from stillframe.repository.index import Index, Location
from stillframe.repository.indexform import PackFacts
from stillframe.repository.indexobjects import IndexObjects, OpenedIndex
from stillframe.repository.pack import Entry, Listing, PackName, list_pack
from stillframe.repository.parts import StoredPart
from stillframe.repository.trailers import read_trailers

_FEW = 8
"""Packs of which the trailers are read, or that are asked for one by one, rather than opening index objects or
listing again."""


class Examined(NamedTuple):
    """Damaged objects, each with what is wrong; the digests of all other packs' trailers; and the names of index
    objects that agree with the packs."""

    damaged: list[tuple[str, DataError]]
    digests: Mapping[PackName, int]
    index_objects: frozenset[str]


class PackLibrary:
    """Safe to use from several threads. `refresh` before writing, `look` before reading, with an epoch open."""

    def __init__(self, store: ObjectStore, key: DataKey, *, believe_index: bool = True) -> None:
        self.key = key
        self.index = Index(self.replace)
        self.objects = IndexObjects(store, key)
        self._store = store
        self._believe_index = believe_index
        self._refreshing = threading.Lock()
        self._names: dict[str, PackName] = {}
        self._sizes: dict[PackName, int] = {}
        self._settled: frozenset[PackName] = frozenset()
        self._covered: frozenset[PackName] = frozenset()
        """Packs that an index object tells of, as far as this process has noticed."""
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
        """Every pack in the store when it was last looked at, with its length in bytes."""
        return self._sizes

    @property
    def uncovered(self) -> frozenset[PackName]:
        """Packs that may be relied on and that no index object is known to tell of."""
        return (self._settled & self._sizes.keys() & self.index.packs) - self._covered

    def look(self) -> None:
        """Agree with the store about which packs there are, for reading only."""
        with self._refreshing:
            present = self._agree()
            self._learn(present)
            self._note(present)

    def refresh(self, *, finished: frozenset[bytes] = frozenset(), at_least: int = 0) -> None:
        """The same, and which of them may be relied on. Writers in `finished` are known not to be open.

        The order is what makes it safe: list the packs, then look for open writers, then see each pack that is
        not settled yet (again). A writer that aborts removes its packs before it stops being seen as open.
        Before that the list of condemned packs is read: one that has left it meanwhile is gone from the listing.
        `at_least` is the number of a list that is known to be there; raises StoreUnavailable for an older one.
        """
        with self._refreshing:
            newest = newest_list(self._store, known=self._newest, at_least=at_least)
            present = self._agree()
            open_writers = living_writers(self._store) - finished
            seen = self._learn(present)
            self._settle(present, open_writers, seen)
            self._note(present)
            # Last, so that whoever reads this list sees that the packs are gone that are not on it any more.
            self._newest = newest
            self._avoided = newest.list.avoided if newest.list is not None else None

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

    def facts_of(self, pack: PackName) -> PackFacts:
        """What an index object says of a known pack."""
        contents = self.index.contents(pack)
        return PackFacts(pack, self._sizes[pack], self._writers[pack], contents.pieces, contents.checksum)

    def entries(self, pack: PackName) -> list[Entry]:
        """What a pack holds, by offset: from its own trailer, or from the index if that cannot be read.

        Raises ObjectMissing when the pack is gone, and what the store raises.
        """
        try:
            return list_pack(self._store, pack, self.key, size=self._store.size(str(pack))).entries
        except ObjectMissing:
            raise
        except DataError:
            return self.index.entries(pack)

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
            self._sizes = {**self._sizes, **packs}
            self._writers |= dict.fromkeys(packs, writer)
            self._settled |= packs.keys()

    def cover(self, opened: OpenedIndex) -> None:
        """An index object that was just stored tells of its packs from now on, instead of this process's memory."""
        with self._refreshing:
            self._covered |= self._attach(opened, self._sizes)

    def replace(self, part: StoredPart, error: DataError) -> None:
        """An index object cannot be read (any more): learn in another way what it has told.

        Raises what the store raises; nothing is forgotten then.
        """
        with self._refreshing:
            self.objects.distrust(part.stored.name, error)
            for own in self.index.stored:
                if own.stored.name == part.stored.name:
                    self._learn_anew(own)

    def note_covered(self, packs: frozenset[PackName]) -> None:
        """These are the packs that index objects tell of."""
        with self._refreshing:
            self._covered = packs

    def examine(
        self, *, trusted: Mapping[PackName, int] = MappingProxyType({}), compared: Container[str] = ()
    ) -> Examined:
        """Read every trailer, and find out which packs and index objects are damaged or tell something else.

        Packs in `trusted` are not read: by the digest of their trailer. Index objects in `compared` are known to
        agree. What a damaged pack holds is not known any more after this. Raises what the store raises.
        """
        with self._refreshing:
            objects = self.objects.opened()
            digests = dict(trusted)
            for some in self._read({name: size for name, size in self._sizes.items() if name not in digests}):
                digests |= {name: digest_of(listing.table) for name, listing in some}
            self.index.forget(self._damaged)
            for opened in objects:
                if opened.stored.name not in compared:
                    self._compare(opened, digests)
            damaged = self.objects.damaged
            for part in self.index.stored:
                if part.stored.name in damaged:
                    self._learn_anew(part)
        found = [*((str(name), error) for name, error in self._damaged.items()), *damaged.items()]
        return Examined(found, digests, frozenset(opened.stored.name for opened in objects) - damaged.keys())

    def _is_avoided(self, pack: PackName) -> bool:
        avoided = self._avoided
        return avoided is None or str(pack) in avoided

    def _agree(self) -> dict[PackName, int]:
        """The packs in the store; what is gone is forgotten."""
        present = present_packs(self._store, self.key.reference, names=self._names)
        if len(self._names) > 2 * len(present):
            self._names = {str(name): name for name in present}
        gone = self._sizes.keys() - present.keys()
        self._forget(gone)
        self._settled -= gone
        return present

    def _note(self, present: Mapping[PackName, int]) -> None:
        known = self.index.packs | self._damaged.keys()
        self._sizes = {name: size for name, size in present.items() if name in known}

    def _forget(self, gone: Iterable[PackName]) -> None:
        self.index.forget(gone)
        for name in gone:
            self._writers.pop(name, None)
            self._damaged.pop(name, None)

    def _settle(
        self, present: Mapping[PackName, int], open_writers: frozenset[bytes], seen: frozenset[PackName]
    ) -> None:
        """Note which packs are there although their writers are not open. `seen`: those that were there just now."""
        known = (present.keys() & self.index.packs) - self._settled
        ended = {name for name in known if self._writers[name] not in open_writers}
        gone = ended - seen - self._still_there(ended - seen)
        self._forget(gone)
        self._settled |= ended - gone

    def _still_there(self, names: Set[PackName]) -> Set[PackName]:
        """Which of these packs are in the store now, that is, after the open writers were looked for."""
        if len(names) > _FEW:
            return names & present_packs(self._store, self.key.reference, names=self._names).keys()
        return {name for name in names if exists(self._store, str(name))}

    def _learn(self, present: Mapping[PackName, int]) -> frozenset[PackName]:
        """Learn what packs hold that are not known, and who wrote them; those of which the own trailer was read.

        An index object is as good as trailers: what it says of a pack of that name and length is true for ever,
        whoever was open when it was written.
        """
        if self._believe_index and len(present.keys() - self.index.packs) > _FEW:
            for opened in self.objects.opened():
                self._covered |= self._attach(opened, present, known=self.index.packs)
        # A pack that is being written here is in the index before anybody has read who its writer is.
        unknown = {
            name: size
            for name, size in present.items()
            if name not in self.index or name not in self._writers
        }
        seen: set[PackName] = set()
        for some in self._read(unknown):
            self.index.add_tables((name, listing.table) for name, listing in some)
            seen.update(name for name, _ in some)
        return frozenset(seen)

    def _attach(
        self, opened: OpenedIndex, present: Mapping[PackName, int], *, known: Container[PackName] = ()
    ) -> frozenset[PackName]:
        """Believe an index object about packs that are there, and not in `known`; all that are there of its packs."""
        told = {pack.name: pack for pack in opened.stored.packs if present.get(pack.name) == pack.size}
        wanted = {name for name in told if name not in known}
        if wanted:
            try:
                part = opened.part(self._store)
            except DataError as error:
                self.objects.distrust(opened.stored.name, error)
                return frozenset()
            self.index.attach(part, wanted)
            self._writers |= {name: told[name].writer for name in wanted}
        return frozenset(told)

    def _read(self, packs: Mapping[PackName, int]) -> Iterator[list[tuple[PackName, Listing]]]:
        """The trailers of these packs, some at a time. Which are damaged or gone is noted."""
        for some in read_trailers(self._store, self.key, packs):
            yield [(name, read) for name, read in some if self._is_listed(read, name)]

    def _is_listed(self, read: Listing | DataError, name: PackName) -> TypeGuard[Listing]:
        self._damaged.pop(name, None)
        if isinstance(read, Listing):
            self._writers[name] = read.header.writer
            return True
        if isinstance(read, ObjectMissing):
            self._forget([name])
        else:
            # One damaged pack must not keep the rest from being read; a check reports it.
            self._damaged[name] = read
        return False

    def _learn_anew(self, part: StoredPart) -> None:
        """From other index objects, or else from the trailers, what this one has told."""
        sizes = {name: self._sizes[name] for name in part.live() & self._sizes.keys()}
        self._covered -= part.live()
        for opened in self.objects.opened():
            self._covered |= self._attach(opened, sizes, known=sizes.keys() - part.live())
        left = {name: sizes[name] for name in sizes.keys() & part.live()}
        tables = [(name, listing.table) for some in self._read(left) for name, listing in some]
        self.index.move(part.live(), tables)

    def _compare(self, opened: OpenedIndex, digests: Mapping[PackName, int]) -> None:
        name = opened.stored.name
        try:
            wrong = differing_packs(opened.part(self._store), digests)
        except DataError as error:
            self.objects.distrust(name, error)
            return
        if wrong:
            problem = f"{name} says of {wrong[0]} something else than its own trailer."
            self.objects.distrust(name, StoredDataCorrupt(problem, object=name))


def present_packs(
    store: ObjectStore, reference: str | None = None, *, names: dict[str, PackName] | None = None
) -> dict[PackName, int]:
    """Every pack in the store, under this data key or whichever, with its length in bytes.

    What has no pack's name is none, and is left alone. `names` keeps what was parsed for the next time.
    """
    names = {} if names is None else names
    below = "" if reference is None else f"{reference}/"
    present: dict[PackName, int] = {}
    for prefix in (PACKS, NODES):
        for stored in store.list(f"{prefix}{below}"):
            name = names.get(stored.name)
            with contextlib.suppress(StoredDataCorrupt):
                name = names[stored.name] = name or PackName.parse(stored.name)
                present[name] = stored.size
    return present


def living_writers(store: ObjectStore) -> frozenset[bytes]:
    """The snapshot ids of writers that may still abort: registered, not committed, and not dead."""
    # If the claim is free its process is gone, and a dead writer removes nothing any more.
    return frozenset(
        epoch_id.bytes for epoch_id in claimed_epochs(store) if not exists(store, f"{SNAPSHOTS}{epoch_id}")
    )


def exists(store: ObjectStore, name: str) -> bool:
    """Whether the store has an object of this name; a store that does not answer raises."""
    try:
        store.size(name)
    except ObjectMissing:
        return False
    return True

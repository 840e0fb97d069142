"""Content of packs: from its id to pack and place, compact.

Only a cache of what the packs' trailers say, in memory or in index objects. It decides what need not be stored again
and where to look; what is then found there is authenticated.
"""

import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import compress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import DataError, StoreUnavailable
from stillframe.repository.codec import Place
from stillframe.repository.format import ContentKind
from stillframe.repository.pack import Entry, PackName, Table, pack_size
from stillframe.repository.parts import Contents, MemoryPart, Part, StoredPart
from stillframe.repository.rows import (
    Keys,
    Rows,
    contained,
    entry_of,
    ids_of,
    key_of,
    keys_of,
    place_of,
    places_of,
    rows_of_entries,
    rows_of_table,
)

_ATTEMPTS = 20


class Location(NamedTuple):
    """One place content lies at."""

    pack: PackName
    place: Place


class PackUse(NamedTuple):
    """Stored bytes of a pack that are needed, and of those that are counted in no other pack bytes and pieces."""

    needed: int
    first: int
    pieces: int

    @property
    def compact(self) -> int:
        """Bytes of a pack that would hold only those."""
        return pack_size(self.first, self.pieces)


class _Hits(NamedTuple):
    """Needed rows, a column each. Packs are counted through all parts."""

    keys: Keys
    packs: NDArray[np.uint32]
    stored: NDArray[np.uint32]


Replace = Callable[[StoredPart, DataError], None]
"""Learns in another way what an index object told that cannot be read any more. Raises when it could not."""


class Index:
    """Content of the packs of one data key. Safe to use from several threads; readers wait for the store alone.

    Each pack is answered for by one part. Methods that look for content raise what the store raises.
    """

    def __init__(self, replace: Replace | None = None) -> None:
        self._replace = replace
        self._lock = threading.Lock()
        self._memory = MemoryPart()
        self._stored: tuple[StoredPart, ...] = ()
        self._owners: dict[PackName, tuple[Part, int]] = {}
        self._version = 0
        """Grows before packs are handed from one part to another."""

    def __len__(self) -> int:
        return sum(part.contents(number).pieces for part, number in self._owners.values())

    @property
    def packs(self) -> frozenset[PackName]:
        """The packs whose content it knows."""
        return frozenset(self._owners)

    @property
    def parts(self) -> tuple[Part, ...]:
        """What it is made of at this moment."""
        return (self._memory, *self._stored)

    @property
    def stored(self) -> tuple[StoredPart, ...]:
        """Those of its parts that are index objects."""
        return self._stored

    def __contains__(self, pack: object) -> bool:
        return pack in self._owners

    def find(self, content_id: bytes) -> Location | None:
        """Where content of this id lies, or None."""
        return next(self.find_all(content_id), None)

    def find_all(self, content_id: bytes) -> Iterator[Location]:
        """Every place where content of this id lies: two writers at once may both have stored it."""
        key = np.uint64(key_of(content_id))
        rest = content_id[8:]
        version = self._version
        found = False
        for part in self.parts:
            try:
                rows = list(part.find(key, rest))
            except DataError as error:
                # Its packs are in another part after this; what was found already may come again.
                self._replaced(part, error)
                yield from self.find_all(content_id)
                return
            for row in rows:
                pack = part.packs[int(row["pack"])]
                if pack is not None:
                    found = True
                    yield Location(pack, place_of(row))
        if not found and self._version != version:
            # Packs were handed from part to part meanwhile, and may have been met in neither.
            with self._lock:
                pass
            yield from self.find_all(content_id)

    def located(self, kind: ContentKind, content_ids: Iterable[bytes]) -> dict[bytes, Location]:
        """One place of each of these ids of which it is certain that a known pack has it, as content of this kind.

        For very many at once. What it leaves over is for `find_all` to say.
        """
        return {
            content_id: Location(pack, place)
            for part, found, rows in self._held(kind, content_ids)
            for content_id, (number, place) in zip(found, places_of(rows), strict=True)
            if (pack := part.packs[number]) is not None
        }

    def not_held(self, kind: ContentKind, content_ids: Iterable[bytes]) -> list[bytes]:
        """Those of these ids that `located` would leave over."""
        asked = list(content_ids)
        held = {content_id for _, found, _ in self._held(kind, asked) for content_id in found}
        return [content_id for content_id in asked if content_id not in held]

    def _held(
        self, kind: ContentKind, content_ids: Iterable[bytes]
    ) -> Iterator[tuple[Part, list[bytes], Rows]]:
        """Of each part the ids that it certainly has, each from one part alone, and their rows."""
        left = list(content_ids)
        for part in self.parts:
            if not left:
                return
            try:
                held = part.held(ids_of(left), kind=kind)
            except DataError as error:
                self._replaced(part, error)
                yield from self._held(kind, left)
                return
            yield part, list(compress(left, held.here)), held.rows[held.here]
            left = list(compress(left, ~held.here))

    def entries(self, pack: PackName) -> list[Entry]:
        """What a pack holds, by offset; nothing for one that is not known. Goes through all rows of its part."""
        found: list[Entry] = []
        owner = self._owners.get(pack)
        if owner is not None:
            part, number = owner
            found = [entry_of(row) for rows in part.scan() for row in rows[rows["pack"] == number]]
        return sorted(found, key=lambda entry: entry.place.offset)

    def contents(self, pack: PackName) -> Contents:
        """What a known pack holds in sum."""
        part, number = self._owners[pack]
        return part.contents(number)

    def owner(self, pack: PackName) -> tuple[Part, int]:
        """The part that answers for a known pack, and the pack's number there."""
        return self._owners[pack]

    def uses(self, needed: Keys, *, spared: Container[PackName]) -> dict[PackName, PackUse]:
        """How much of each pack is needed, for `needed` keys that are sorted. Packs in `spared` come last.

        Content that lies in several packs is counted as needed in all, and as `first` in one of them.
        """
        packs, hits = self._hits(needed)
        late = np.array([pack is None or pack in spared for pack in packs], bool)
        first = _first_of_each(hits, late)
        size = len(packs)
        all_bytes = np.bincount(hits.packs, hits.stored, size)
        first_bytes = np.bincount(hits.packs[first], hits.stored[first], size)
        pieces = np.bincount(hits.packs[first], minlength=size)
        return {
            pack: PackUse(int(all_bytes[number]), int(first_bytes[number]), int(pieces[number]))
            for number, pack in enumerate(packs)
            if pack is not None
        }

    def add(self, pack: PackName, entries: Sequence[Entry]) -> None:
        """Learn what a pack holds. A pack that is known already is left as it is."""
        self._add([(pack, rows_of_entries(entries))])

    def add_table(self, pack: PackName, table: Table) -> None:
        """The same from a stored pack's own table."""
        self.add_tables([(pack, table)])

    def add_tables(self, tables: Iterable[tuple[PackName, Table]]) -> None:
        """The same for many packs at once, which is cheaper than one by one."""
        self._add([(pack, rows_of_table(table)) for pack, table in tables])

    def attach(self, part: StoredPart, packs: Container[PackName]) -> None:
        """Let this part answer for those of its packs that are in `packs`, instead of whoever did."""
        with self._lock:
            self._version += 1
            for number, pack in enumerate(part.packs):
                if pack is None or pack not in packs:
                    part.packs[number] = None
                else:
                    self._disown(pack)
                    self._owners[pack] = (part, number)
            self._stored = (*self._stored, part)
            self._drop_idle()

    def forget(self, packs: Iterable[PackName]) -> None:
        """Stop answering with these packs, because they are gone from the store."""
        with self._lock:
            known = [pack for pack in packs if pack in self._owners]
            for pack in known:
                self._disown(pack)
            if known:
                self._drop_idle()

    def move(self, packs: Iterable[PackName], tables: Iterable[tuple[PackName, Table]]) -> None:
        """Let memory answer for packs with these tables, and nobody for what else is among `packs`."""
        with self._lock:
            self._version += 1
            for pack in packs:
                self._disown(pack)
            self._learn([(pack, rows_of_table(table)) for pack, table in tables])
            self._drop_idle()

    def answers_with(self, part: Part) -> bool:
        """Whether any pack is still answered for by this part."""
        return any(one is part for one in self.parts)

    def _add(self, tables: list[tuple[PackName, Rows]]) -> None:
        with self._lock:
            self._learn(tables)

    def _learn(self, tables: list[tuple[PackName, Rows]]) -> None:
        fresh = [table for table in dict(tables).items() if table[0] not in self._owners]
        start = len(self._memory.packs)
        self._memory.add(fresh)
        for number, (pack, _) in enumerate(fresh, start):
            self._owners[pack] = (self._memory, number)

    def _disown(self, pack: PackName) -> None:
        part, number = self._owners.pop(pack, (None, 0))
        if part is not None:
            part.packs[number] = None

    def _drop_idle(self) -> None:
        """Let go of the memory of parts that answer for nothing, or little."""
        self._stored = tuple(part for part in self._stored if any(part.packs))
        if self._memory.is_sparse:
            tables, self._memory = self._memory.live(), MemoryPart()
            self._memory.add(tables)
            for number, (pack, _) in enumerate(tables):
                self._owners[pack] = (self._memory, number)

    def _hits(self, needed: Keys) -> tuple[list[PackName | None], _Hits]:
        for _ in range(_ATTEMPTS):
            version = self._version
            packs: list[PackName | None] = []
            found = [_Hits(np.empty(0, np.uint64), np.empty(0, np.uint32), np.empty(0, np.uint32))]
            for part in self.parts:
                try:
                    found += _hits_of(part, needed, len(packs))
                except DataError as error:
                    self._replaced(part, error)
                    break
                packs += part.packs
            else:
                if self._version == version:
                    return packs, _alive(found, packs)
        raise StoreUnavailable("The index objects changed each time they were read.")

    def _replaced(self, part: Part, error: DataError) -> None:
        if self._replace is None or not isinstance(part, StoredPart):
            raise error
        self._replace(part, error)


def _hits_of(part: Part, needed: Keys, base: int) -> list[_Hits]:
    hits = []
    for rows in part.scan():
        keys = keys_of(rows)
        hit = contained(keys, needed)
        packs = rows["pack"][hit].astype(np.uint32) + np.uint32(base)
        hits.append(_Hits(keys[hit], packs, rows["stored"][hit].astype(np.uint32)))
    return hits


def _alive(found: list[_Hits], packs: list[PackName | None]) -> _Hits:
    """All of them together, but for those in packs that nobody answers for."""
    joined = _Hits(*(np.concatenate(column) for column in zip(*found, strict=True)))
    alive = np.array([pack is not None for pack in packs], bool)
    live = alive[joined.packs] if len(alive) else np.zeros(0, bool)
    return _Hits(*(column[live] for column in joined))


def _first_of_each(hits: _Hits, late: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which hit counts of those with one key: one in a pack that is not late, if there is any."""
    first = np.ones(len(hits.keys), bool)
    order = np.argsort(hits.keys, kind="stable")
    again = hits.keys[order][1:] == hits.keys[order][:-1]
    # Nearly all content lies in one place only, so the rest is put in order alone.
    several = np.zeros(len(order), bool)
    several[1:] |= again
    several[:-1] |= again
    chosen = order[several]
    packs = hits.packs[chosen]
    chosen = chosen[np.lexsort((packs, late[packs], hits.keys[chosen]))]
    first[chosen[1:]] = hits.keys[chosen[1:]] != hits.keys[chosen[:-1]]
    return first

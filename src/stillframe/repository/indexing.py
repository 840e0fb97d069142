"""Keeping index objects: writing one for packs that none tells of, and few large ones instead of many small ones.

An index object is a cache, so nothing here has to succeed. What takes an object's place is durable before the object
is deleted. docs/spec/repository-v1.md, section 12, has the rules.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import structlog
from numpy.typing import NDArray

from stillframe.errors import Conflict, DataError, StillframeError, StoredDataCorrupt
from stillframe.objectstore import ObjectStore
from stillframe.repository.documents import create_object
from stillframe.repository.format import INDEX, INDEXER_CLAIM, REF_BYTES
from stillframe.repository.indexform import IndexBuilder, PackFacts, index_name, is_index_name, open_head
from stillframe.repository.indexobjects import OpenedIndex
from stillframe.repository.library import PackLibrary, present_packs
from stillframe.repository.pack import PackName
from stillframe.repository.parts import Part, StoredPart
from stillframe.repository.rows import KEYS, Rows, joined, keys_of, run_of

_ROWS_AT_ONCE = 1 << 17
_SMALL = 1 << 16
"""Rows that a writer may write after its commit, whatever it has stored itself: some ten milliseconds."""
_SHARE = 8
_RATIO = 4
"""An object stays alone while the next smaller ones have less than one such part of its rows."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexPolicy:
    """An index object is written when none tells of `packs` packs, and it gets no more than `rows` rows."""

    packs: int = 16
    rows: int = 2 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexState:
    """The index objects of a repository. `packs` of which `covered` are in an object that opens; bytes."""

    objects: int
    bytes: int
    packs: int
    covered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Packs whose rows go into one object: from the library's memory, or all that counts of an index object."""

    packs: tuple[PackFacts, ...]
    opened: OpenedIndex | None = None

    @property
    def rows(self) -> int:
        """How many rows they have."""
        return sum(pack.pieces for pack in self.packs)

    @property
    def must_be_written(self) -> bool:
        """Whether it cannot stay as it is: it is not stored, or most of it is of packs that are gone."""
        return self.opened is None or 2 * self.rows < self.opened.stored.rows


class IndexKeeper:
    """For all data keys of a repository. `entropy` gives that many random bytes."""

    def __init__(self, store: ObjectStore, *, policy: IndexPolicy, entropy: Callable[[int], bytes]) -> None:
        self._store = store
        self._policy = policy
        self._entropy = entropy

    def after_commit(self, library: PackLibrary) -> None:
        """Write what is missing, if that is enough to be worth it; never raises, because the snapshot is made."""
        if len(library.uncovered) >= self._policy.packs:
            self._try(library, thorough=False)

    def after_sweep(self, library: PackLibrary) -> None:
        """The same, and consolidate as much as there is to; never raises, because the sweep is done."""
        self._try(library, thorough=True)

    def rebuild(self, library: PackLibrary) -> None:
        """Make all index objects of a data key anew, from the trailers of its packs.

        `library` knows packs from their trailers alone. Raises Conflict while somebody else writes some, and what
        the store raises.
        """
        with self._store.claim(INDEXER_CLAIM):
            before = [stored.name for stored in library.objects.names()]
            library.refresh()
            for packs in self._portions(library, library.uncovered):
                self._write(library, [_Source(packs=tuple(packs))])
            for name in before:
                self._store.delete(name)

    def remove_lost(self) -> None:
        """Remove index objects under data keys that no pack is under; never raises."""
        try:
            references = {name.key_reference for name in present_packs(self._store)}
            for stored in list(self._store.list(INDEX)):
                if is_index_name(stored.name) and stored.name.split("/")[1] not in references:
                    self._store.delete(stored.name)
        except StillframeError as error:
            log.warning("index_not_kept", reason=error.message)

    def state(self, library: PackLibrary) -> IndexState:
        """Of one data key. Raises what the store raises."""
        library.look()
        covered = {pack.name for source in self._sources(library) for pack in source.packs}
        listed = library.objects.names()
        size = sum(stored.size for stored in listed)
        return IndexState(objects=len(listed), bytes=size, packs=len(library.sizes), covered=len(covered))

    def _try(self, library: PackLibrary, *, thorough: bool) -> None:
        try:
            with self._store.claim(INDEXER_CLAIM):
                if thorough:
                    library.refresh()
                self._keep(library, thorough=thorough)
        except Conflict:
            # Somebody else is at it, and everybody profits.
            return
        except StillframeError as error:
            log.warning("index_not_kept", key=library.key.reference, reason=error.message)

    def _keep(self, library: PackLibrary, *, thorough: bool) -> None:
        sources = list(self._sources(library))
        for name in library.objects.damaged:
            self._store.delete(name)
        library.note_covered(frozenset(pack.name for source in sources for pack in source.packs))
        stored = [source for source in sources if source.rows]
        for group in _groups([*stored, *self._fresh(library)], rows=self._policy.rows):
            if thorough or _is_cheap(group):
                self._write(library, group)
                self._remove(group)
        self._remove(source for source in sources if not source.rows)

    def _fresh(self, library: PackLibrary) -> list[_Source]:
        uncovered = library.uncovered
        if len(uncovered) < self._policy.packs:
            return []
        return [_Source(packs=tuple(packs)) for packs in self._portions(library, uncovered)]

    def _sources(self, library: PackLibrary) -> Iterator[_Source]:
        """The index objects, largest first, each with those of its packs that are there and in no earlier one."""
        left = dict(library.sizes)
        for opened in library.objects.opened():
            packs = tuple(pack for pack in opened.stored.packs if left.get(pack.name) == pack.size)
            for pack in packs:
                del left[pack.name]
            yield _Source(packs=packs, opened=opened)

    def _portions(self, library: PackLibrary, packs: frozenset[PackName]) -> Iterator[list[PackFacts]]:
        """These packs, so many at a time as one object may tell of."""
        portion: list[PackFacts] = []
        rows = 0
        for name in sorted(packs, key=str):
            facts = library.facts_of(name)
            if portion and rows + facts.pieces > self._policy.rows:
                yield portion
                portion, rows = [], 0
            portion.append(facts)
            rows += facts.pieces
        if rows:
            yield portion

    def _remove(self, sources: "Iterator[_Source] | Sequence[_Source]") -> None:
        for source in sources:
            if source.opened is not None:
                self._store.delete(source.opened.stored.name)

    def _write(self, library: PackLibrary, sources: Sequence[_Source]) -> None:
        """One object for all of these. Raises what reading them raises."""
        packs = [pack for source in sources for pack in source.packs]
        name = index_name(library.key.reference, self._entropy(REF_BYTES))
        builder = IndexBuilder(name, key=library.key, packs=packs)
        numbers = {pack.name: number for number, pack in enumerate(packs)}
        parts = [renumbered for source in sources for renumbered in self._parts(library, source, numbers)]
        for rows in _in_order(parts, sum(pack.pieces for pack in packs)):
            builder.add(rows)
        data = builder.finish()
        written = _verified(name, data, library)
        create_object(self._store, name, data)
        library.cover(written)

    def _parts(
        self, library: PackLibrary, source: _Source, numbers: dict[PackName, int]
    ) -> "Iterator[_Renumbered]":
        if source.opened is not None:
            part = source.opened.part(self._store)
            mine = {pack.name for pack in source.packs}
            found = {at: numbers[name] for at, name in _numbered(part) if name in mine}
            yield _Renumbered(library, part, found)
            return
        owners = sorted(
            ((*library.index.owner(pack.name), pack.name) for pack in source.packs),
            key=lambda one: id(one[0]),
        )
        for _, owned in groupby(owners, key=lambda one: id(one[0])):
            several = list(owned)
            yield _Renumbered(library, several[0][0], {at: numbers[name] for _, at, name in several})


class _Renumbered:
    """Rows of some packs of a part, with the numbers of these packs in another object."""

    def __init__(self, library: PackLibrary, part: Part, numbers: dict[int, int]) -> None:
        self._library = library
        self._part = part
        self._numbers: NDArray[np.int64] = np.full(len(part.packs), -1, np.int64)
        self._numbers[list(numbers)] = list(numbers.values())

    def between(self, low: int, high: int) -> Rows:
        """Those with keys from `low` to below `high`."""
        try:
            rows = self._part.between(low, high)
        except DataError as error:
            if isinstance(self._part, StoredPart):
                # So that it goes better the next time.
                self._library.replace(self._part, error)
            raise
        numbers = self._numbers[rows["pack"]]
        wanted: Rows = rows[numbers >= 0]
        wanted["pack"] = numbers[numbers >= 0]
        return wanted


def _numbered(part: StoredPart) -> Iterator[tuple[int, PackName]]:
    return ((number, pack.name) for number, pack in enumerate(part.stored.packs))


def _in_order(parts: Sequence[_Renumbered], rows: int) -> Iterator[Rows]:
    """All rows in the order of their keys, one range of keys after the other, so that few are in memory."""
    ranges = max(1, rows // _ROWS_AT_ONCE)
    for number in range(ranges):
        low, high = KEYS * number // ranges, KEYS * (number + 1) // ranges
        found = [part.between(low, high) for part in parts]
        yield run_of(joined(found)).rows


def _verified(name: str, data: bytearray, library: PackLibrary) -> OpenedIndex:
    """What was sealed, opened again: each pack has to have in it what its trailer lists, and nothing else.

    Raises StoredDataCorrupt.
    """
    view = memoryview(data)
    written = open_head(name, view, key=library.key, size=len(data))
    written.open_directory(view[len(written.header) : written.first_block])
    pieces = np.zeros(len(written.packs), np.int64)
    sums = np.zeros(len(written.packs), np.uint64)
    for first in range(written.blocks):
        offset, length = written.span(first, first + 1)
        rows = written.open_blocks(first, first + 1, view[offset : offset + length])
        np.add.at(pieces, rows["pack"], 1)
        np.bitwise_xor.at(sums, rows["pack"], keys_of(rows))
    told = [(pack.pieces, pack.checksum) for pack in written.packs]
    if told != list(zip(pieces.tolist(), sums.tolist(), strict=True)):
        raise StoredDataCorrupt(f"{name} did not survive being written.", object=name)
    return OpenedIndex(written, None)


def _groups(sources: Sequence[_Source], *, rows: int) -> Iterator[list[_Source]]:
    """What is to become one object each. An object that is much larger than all smaller ones together stays."""
    group: list[_Source] = []
    total = 0
    for source in sorted(sources, key=lambda one: one.rows):
        joins = source.rows < _RATIO * total and total + source.rows <= rows
        if group and not joins:
            yield from _worth_writing(group)
            group, total = [], 0
        group.append(source)
        total += source.rows
    yield from _worth_writing(group)


def _worth_writing(group: list[_Source]) -> Iterator[list[_Source]]:
    if len(group) > 1 or any(source.must_be_written for source in group):
        yield group


def _is_cheap(group: Sequence[_Source]) -> bool:
    """Whether a writer does it after its commit: it is not much more than what is new, or little at all."""
    fresh = sum(source.rows for source in group if source.opened is None)
    return bool(fresh) and sum(source.rows for source in group) <= max(_SHARE * fresh, _SMALL)

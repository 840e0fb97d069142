"""The parts an index is made of: packs whose content is known from memory, and from one stored index object each.

A part has its own numbers for packs. A pack that it does not answer for (any more) is None in its list.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stillframe.objectstore import ObjectStore
from stillframe.repository.indexform import IndexObject
from stillframe.repository.pack import PackName
from stillframe.repository.rows import (
    KEYS,
    ROW,
    Held,
    Ids,
    Rows,
    Run,
    between,
    checksum,
    held,
    joined,
    keys_of,
    matches,
    run_of,
)

_READ_WHOLE = 8
"""A stored object is read whole when one of so many of its blocks has been asked for."""
_FEW_BLOCKS = 8
_BLOCKS_AT_ONCE = 160
"""Some 8 MiB: one request's worth."""
_ROWS_AT_ONCE = 1 << 17


class Contents(NamedTuple):
    """How many pieces a pack has, and the checksum of their ids."""

    pieces: int
    checksum: int


class Part(Protocol):
    """What an index asks of a part. `packs` by number."""

    packs: list[PackName | None]

    def find(self, key: np.uint64, rest: bytes) -> Iterator[Any]:
        """The rows of one id. Raises what reading an index object raises."""
        ...

    def held(self, ids: Ids, *, kind: int) -> Held:
        """Which of these it certainly has as content of this kind, in packs that it answers for. Raises as `find`."""
        ...

    def scan(self) -> Iterator[Rows]:
        """All rows, some at a time, each time in the order of their keys, and nothing kept of them."""
        ...

    def between(self, low: int, high: int) -> Rows:
        """The rows with keys from `low` to below `high`, in no order."""
        ...

    def contents(self, number: int) -> Contents:
        """What a pack holds in sum."""
        ...


class MemoryPart:
    """Packs whose trailers were read, or that were written here. Changed under its index's lock alone."""

    def __init__(self) -> None:
        self.packs: list[PackName | None] = []
        self._contents: list[Contents] = []
        self._runs: tuple[Run, ...] = ()

    def __len__(self) -> int:
        return sum(len(run.keys) for run in self._runs)

    @property
    def is_sparse(self) -> bool:
        """Whether most rows are of packs that it does not answer for any more."""
        live = sum(one.pieces for one, pack in zip(self._contents, self.packs, strict=True) if pack)
        return 2 * live < len(self)

    def add(self, tables: Sequence[tuple[PackName, Rows]]) -> None:
        """Learn what packs hold; these rows are its own from now on."""
        for pack, rows in tables:
            rows["pack"] = len(self.packs)
            self.packs.append(pack)
            self._contents.append(Contents(len(rows), checksum(keys_of(rows))))
        found = [rows for _, rows in tables if len(rows)]
        if found:
            self._runs = _merged((*self._runs, run_of(joined(found))))

    def live(self) -> list[tuple[PackName, Rows]]:
        """A copy of the rows of each pack that it answers for."""
        rows = self.between(0, KEYS)
        rows = rows[np.argsort(rows["pack"], kind="stable")]
        ends = np.cumsum([one.pieces for one in self._contents])
        tables = zip(self.packs, np.split(rows, ends[:-1]), strict=True)
        return [(pack, table.copy()) for pack, table in tables if pack is not None]

    def find(self, key: np.uint64, rest: bytes) -> Iterator[Any]:
        """See `Part`."""
        for run in self._runs:
            yield from matches(run, key, rest)

    def held(self, ids: Ids, *, kind: int) -> Held:
        """See `Part`."""
        # The runs before the packs: a pack is in the list before its rows are in a run.
        found, runs = Held.nothing(len(ids)), self._runs
        live = _answered(self.packs)
        for run in runs:
            left = np.flatnonzero(~found.here)
            found.put(left, held(run, ids[left], kind=kind, live=live))
        return found

    def scan(self) -> Iterator[Rows]:
        """See `Part`."""
        for run in self._runs:
            yield from _slices(run.rows)

    def between(self, low: int, high: int) -> Rows:
        """See `Part`."""
        found = [between(run, low, high) for run in self._runs]
        return joined(found)

    def contents(self, number: int) -> Contents:
        """See `Part`."""
        return self._contents[number]


class StoredPart:
    """Packs whose content an index object tells. Blocks are read as they are asked for, and kept.

    Once many have been, the rest is read along. Safe to use from several threads.
    """

    def __init__(self, store: ObjectStore, stored: IndexObject, *, whole: bytes | None = None) -> None:
        self.stored = stored
        self.packs: list[PackName | None] = [pack.name for pack in stored.packs]
        self._store = store
        self._blocks: dict[int, Run] = {}
        self._loading = threading.Lock()
        self._whole: Run | None = None
        if whole is not None:
            self._whole = _in_order(stored.open_blocks(0, stored.blocks, whole[stored.first_block :]))

    def live(self) -> frozenset[PackName]:
        """The packs that it answers for."""
        return frozenset(pack for pack in self.packs if pack is not None)

    def find(self, key: np.uint64, rest: bytes) -> Iterator[Any]:
        """See `Part`."""
        if self._whole is None and len(self._blocks) > self._most_blocks:
            self._load()
        if self._whole is not None:
            yield from matches(self._whole, key, rest)
            return
        for number in self.stored.blocks_of(int(key)):
            yield from matches(self._block(number), key, rest)

    def held(self, ids: Ids, *, kind: int) -> Held:
        """See `Part`."""
        found, live = Held.nothing(len(ids)), _answered(self.packs)
        blocks = np.maximum(self.stored.fences.searchsorted(keys_of(ids), side="right") - 1, 0)
        asked = np.unique(blocks)
        if self._whole is None and len(asked) > self._most_blocks:
            self._load()
        if self._whole is not None:
            return held(self._whole, ids, kind=kind, live=live)
        for number in asked.tolist():
            these = blocks == number
            found.put(these, held(self._block(number), ids[these], kind=kind, live=live))
        return found

    def scan(self) -> Iterator[Rows]:
        """See `Part`."""
        if self._whole is not None:
            yield from _slices(self._whole.rows)
            return
        for first in range(0, self.stored.blocks, _BLOCKS_AT_ONCE):
            yield self._read(first, min(first + _BLOCKS_AT_ONCE, self.stored.blocks))

    def between(self, low: int, high: int) -> Rows:
        """See `Part`."""
        if self._whole is not None:
            return between(self._whole, low, high)
        fences = self.stored.fences
        first = max(int(fences.searchsorted(np.uint64(low))) - 1, 0)
        end = self.stored.blocks if high >= KEYS else int(fences.searchsorted(np.uint64(high)))
        rows = self._read(first, end) if first < end else np.empty(0, ROW)
        return between(_in_order(rows), low, high)

    def contents(self, number: int) -> Contents:
        """See `Part`."""
        facts = self.stored.packs[number]
        return Contents(facts.pieces, facts.checksum)

    @property
    def _most_blocks(self) -> int:
        """When more of them have been asked for, all are read."""
        return max(_FEW_BLOCKS, self.stored.blocks // _READ_WHOLE)

    def _block(self, number: int) -> Run:
        known = self._blocks.get(number)
        if known is None:
            known = self._blocks[number] = _in_order(self._read(number, number + 1))
        return known

    def _load(self) -> None:
        with self._loading:
            if self._whole is None:
                rows, end = np.empty(self.stored.rows, ROW), 0
                for some in self.scan():
                    rows[end : end + len(some)] = some
                    end += len(some)
                self._whole = _in_order(rows)
                self._blocks = {}

    def _read(self, first: int, end: int) -> Rows:
        offset, length = self.stored.span(first, end)
        return self.stored.open_blocks(first, end, self._store.get_range(self.stored.name, offset, length))


def _in_order(rows: Rows) -> Run:
    """A run of rows that are in order already, as an index object has them."""
    return Run(keys_of(rows), rows)


def _answered(packs: Sequence[PackName | None]) -> NDArray[np.bool_]:
    """By number, whether a pack is answered for."""
    return np.array([pack is not None for pack in packs], bool)


def _slices(rows: Rows) -> Iterator[Rows]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows[start : start + _ROWS_AT_ONCE]


def _merged(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """Join the newest runs until each is at least twice as long as the next: few runs, little copying."""
    while len(runs) > 1 and len(runs[-2].keys) < 2 * len(runs[-1].keys):
        *older, one, other = runs
        runs = (*older, run_of(joined((one.rows, other.rows))))
    return runs

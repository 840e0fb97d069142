"""Where content lies: from its id to pack and place, in memory, compact.

Only a cache of what the packs' trailers say. It decides what need not be stored again and where to look; what
is then found there is authenticated. Rows are kept in sorted numpy arrays (about 50 bytes for each piece of
content), merged so that there are few of them.
"""

import threading
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillframe.repository.codec import Place
from stillframe.repository.format import Codec, ContentKind
from stillframe.repository.pack import Entry, PackName, Table, pack_size

_ROW = np.dtype(
    [
        ("first", ">u8"),
        ("rest", "V24"),
        ("pack", "<u4"),
        ("offset", "<u4"),
        ("stored", "<u4"),
        ("plain", "<u4"),
        ("kind", "u1"),
        ("codec", "u1"),
    ]
)
_Rows = NDArray[Any]


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


class _Run(NamedTuple):
    """Sorted rows, with the part of the id that is searched in native order beside them."""

    keys: NDArray[np.uint64]
    rows: _Rows


class Index:
    """Content of the packs of one data key. Safe to use from several threads; readers never wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._packs: list[PackName | None] = []
        self._numbers: dict[PackName, int] = {}
        self._runs: tuple[_Run, ...] = ()

    def __len__(self) -> int:
        return sum(len(run.keys) for run in self._runs)

    @property
    def packs(self) -> frozenset[PackName]:
        """The packs whose content it knows."""
        return frozenset(self._numbers)

    def find(self, content_id: bytes) -> Location | None:
        """Where content of this id lies, or None."""
        return next(self.find_all(content_id), None)

    def find_all(self, content_id: bytes) -> Iterator[Location]:
        """Every place where content of this id lies: two writers at once may both have stored it."""
        key = np.uint64(int.from_bytes(content_id[:8], "big"))
        rest = content_id[8:]
        for run in self._runs:
            at = int(run.keys.searchsorted(key))
            while at < len(run.keys) and run.keys[at] == key:
                row = run.rows[at]
                pack = self._packs[int(row["pack"])]
                if pack is not None and row["rest"].tobytes() == rest:
                    yield Location(pack, _place(row))
                at += 1

    def entries(self, pack: PackName) -> list[Entry]:
        """What a pack holds, by offset; nothing for one that is not known."""
        number = self._numbers.get(pack)
        if number is None:
            return []
        found = [row for run in self._runs for row in run.rows[run.rows["pack"] == number]]
        entries = [
            Entry(int(row["first"]).to_bytes(8, "big") + row["rest"].tobytes(), _place(row)) for row in found
        ]
        return sorted(entries, key=lambda entry: entry.place.offset)

    def uses(self, needed: NDArray[np.uint64], *, spared: Container[PackName]) -> dict[PackName, PackUse]:
        """How much of each pack is needed, for `needed` keys that are sorted. Packs in `spared` come last.

        Content that lies in several packs is counted as needed in all, and as `first` in one of them.
        """
        packs = list(self._packs)
        hits = [run.rows[_contained(run.keys, needed)] for run in self._runs]
        rows = np.concatenate(hits) if hits else np.zeros(0, _ROW)
        late = np.array([pack is None or pack in spared for pack in packs], bool)
        rows = rows[np.lexsort((rows["pack"], late[rows["pack"]], rows["first"]))]
        unique = np.ones(len(rows), bool)
        unique[1:] = rows["first"][1:] != rows["first"][:-1]
        all_bytes = np.bincount(rows["pack"], rows["stored"], len(packs))
        first_bytes = np.bincount(rows["pack"][unique], rows["stored"][unique], len(packs))
        pieces = np.bincount(rows["pack"][unique], minlength=len(packs))
        return {
            pack: PackUse(int(all_bytes[number]), int(first_bytes[number]), int(pieces[number]))
            for number, pack in enumerate(packs)
            if pack is not None
        }

    def add(self, pack: PackName, entries: Sequence[Entry]) -> None:
        """Learn what a pack holds. A pack that is known already is left as it is."""
        self._add(pack, _rows(entries))

    def add_table(self, pack: PackName, table: Table) -> None:
        """The same from a stored pack's own table."""
        rows = np.zeros(len(table), _ROW)
        for name in ("first", "rest", "offset", "stored", "plain", "kind", "codec"):
            rows[name] = table[name]
        self._add(pack, rows)

    def _add(self, pack: PackName, rows: _Rows) -> None:
        with self._lock:
            if pack in self._numbers:
                return
            rows["pack"] = number = len(self._packs)
            self._packs.append(pack)
            self._numbers[pack] = number
            self._runs = _merged((*self._runs, _run(rows)))

    def forget(self, packs: Iterable[PackName]) -> None:
        """Stop answering with these packs, because they are gone from the store."""
        with self._lock:
            for pack in packs:
                number = self._numbers.pop(pack, None)
                if number is not None:
                    self._packs[number] = None


def _rows(entries: Sequence[Entry]) -> _Rows:
    rows = np.zeros(len(entries), _ROW)
    ids = np.frombuffer(
        b"".join(entry.content_id for entry in entries), np.dtype([("f", ">u8"), ("r", "V24")])
    )
    rows["first"], rows["rest"] = ids["f"], ids["r"]
    for name, column in zip(
        ("offset", "stored", "plain", "kind", "codec"),
        zip(*(e.place for e in entries), strict=True),
        strict=True,
    ):
        rows[name] = column
    return rows


def _run(rows: _Rows) -> _Run:
    keys = rows["first"].astype(np.uint64)
    order = np.argsort(keys, kind="stable")
    return _Run(keys[order], rows[order])


def _contained(keys: NDArray[np.uint64], needed: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which keys are among the needed ones; both are sorted."""
    if not len(needed):
        return np.zeros(len(keys), bool)
    at = np.minimum(needed.searchsorted(keys), len(needed) - 1)
    return np.asarray(needed[at] == keys)


def _merged(runs: tuple[_Run, ...]) -> tuple[_Run, ...]:
    """Join the newest runs until each is at least twice as long as the next: few runs, little copying."""
    while len(runs) > 1 and len(runs[-2].keys) < 2 * len(runs[-1].keys):
        *older, one, other = runs
        runs = (*older, _run(np.concatenate((one.rows, other.rows))))
    return runs


def _place(row: Any) -> Place:
    return Place(
        int(row["offset"]),
        int(row["stored"]),
        int(row["plain"]),
        ContentKind(int(row["kind"])),
        Codec(int(row["codec"])),
    )

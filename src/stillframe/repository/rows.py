"""Rows of the index: one for each piece of content, fifty bytes, the same in memory and in a stored index object.

Rows are kept sorted by the first eight bytes of the id. Numbers of packs mean something only beside the list of
packs that they count in.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillframe.repository.codec import Place
from stillframe.repository.format import Codec, ContentKind
from stillframe.repository.pack import Entry, Table

ROW = np.dtype(
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
Rows = NDArray[Any]
Keys = NDArray[np.uint64]
KEYS = 1 << 64
"""How many keys there are: one more than the largest."""
Ids = NDArray[Any]
"""Ids of content, in two parts as rows have them; `ids_of` makes them."""
_ID = np.dtype([("first", ">u8"), ("rest", "V24")])
KEY_OF_ID = 8
"""Leading bytes of an id that it is searched and remembered by."""
_PLAIN = np.dtype(f"V{ROW.itemsize}")
_OF_TABLE = ("first", "rest", "offset", "stored", "plain", "kind", "codec")
_OF_PLACE = ("offset", "stored", "plain", "kind", "codec")
_OF_LOCATION = ["pack", *_OF_PLACE]


class Run(NamedTuple):
    """Sorted rows, with the part of the id that is searched in native order beside them."""

    keys: Keys
    rows: Rows


class Held(NamedTuple):
    """Of each id whether it was found, and a row; the rows of those that were not mean nothing."""

    here: NDArray[np.bool_]
    rows: Rows

    @classmethod
    def nothing(cls, count: int) -> "Held":
        """None of so many ids."""
        return cls(np.zeros(count, bool), np.zeros(count, ROW))

    def put(self, of: NDArray[Any], other: "Held") -> None:
        """What another look found for the ids with these numbers, or for those that are marked."""
        self.here[of], self.rows[of] = other.here, other.rows


def key_of(content_id: bytes) -> int:
    """The part of an id that is searched: its first eight bytes as a number."""
    return int.from_bytes(content_id[:KEY_OF_ID], "big")


def keys_of(rows: Rows) -> Keys:
    """The first eight bytes of each id, as numbers of this machine."""
    return rows["first"].astype(np.uint64)


def joined(several: Sequence[Rows]) -> Rows:
    """All of these rows, one after the other, in exactly this form: numpy itself would turn their bytes about."""
    if len(several) == 1:
        return several[0]
    return np.concatenate([np.empty(0, _PLAIN), *(rows.view(_PLAIN) for rows in several)]).view(ROW)


def run_of(rows: Rows) -> Run:
    """These rows in order."""
    keys = keys_of(rows)
    if bool((keys[1:] >= keys[:-1]).all()):
        return Run(keys, rows)
    order = np.argsort(keys, kind="stable")
    return Run(keys[order], rows[order])


def rows_of_entries(entries: Sequence[Entry]) -> Rows:
    """A row for each piece; the pack's number is still to be set."""
    rows = np.zeros(len(entries), ROW)
    ids = ids_of(entry.content_id for entry in entries)
    rows["first"], rows["rest"] = ids["first"], ids["rest"]
    columns = zip(*(entry.place for entry in entries), strict=True)
    for name, column in zip(_OF_PLACE, columns, strict=bool(entries)):
        rows[name] = column
    return rows


def rows_of_table(table: Table) -> Rows:
    """The same from a stored pack's own table."""
    rows = np.zeros(len(table), ROW)
    for name in _OF_TABLE:
        rows[name] = table[name]
    return rows


def ids_of(content_ids: Iterable[bytes]) -> Ids:
    """These ids."""
    return np.frombuffer(b"".join(content_ids), _ID)


def held(run: Run, ids: Ids, *, kind: int, live: NDArray[np.bool_]) -> Held:
    """Which of these ids the first row of that key holds, as content of this kind, in a pack that is `live`.

    One that lies in several packs may be overlooked: `matches` finds it.
    """
    if not len(run.keys):
        return Held.nothing(len(ids))
    at = np.minimum(run.keys.searchsorted(keys_of(ids)), len(run.keys) - 1)
    rows = run.rows[at]
    same = (rows["first"] == ids["first"]) & (rows["rest"] == ids["rest"])
    return Held(np.asarray(same & (rows["kind"] == kind) & live[rows["pack"]]), rows)


def matches(run: Run, key: np.uint64, rest: bytes) -> Iterator[Any]:
    """The rows of one id, given in its two parts."""
    at = int(run.keys.searchsorted(key))
    while at < len(run.keys) and run.keys[at] == key:
        row = run.rows[at]
        if row["rest"].tobytes() == rest:
            yield row
        at += 1


def between(run: Run, low: int, high: int) -> Rows:
    """The rows whose keys are at least `low` and below `high`."""
    start = int(run.keys.searchsorted(np.uint64(low)))
    end = len(run.keys) if high >= KEYS else int(run.keys.searchsorted(np.uint64(high)))
    return run.rows[start:end]


def contained(keys: Keys, needed: Keys) -> NDArray[np.bool_]:
    """Which keys are among the needed ones; the latter are sorted."""
    if not len(needed):
        return np.zeros(len(keys), bool)
    at = np.minimum(needed.searchsorted(keys), len(needed) - 1)
    return np.asarray(needed[at] == keys)


def place_of(row: Any) -> Place:
    """Where and how the piece of a row is stored."""
    return Place(
        int(row["offset"]),
        int(row["stored"]),
        int(row["plain"]),
        ContentKind(int(row["kind"])),
        Codec(int(row["codec"])),
    )


def places_of(rows: Rows) -> Iterator[tuple[int, Place]]:
    """The numbers of the packs of many rows, and where and how each piece is stored there."""
    for pack, offset, stored, plain, kind, codec in rows[_OF_LOCATION].tolist():
        yield pack, Place(offset, stored, plain, ContentKind(kind), Codec(codec))


def entry_of(row: Any) -> Entry:
    """The piece of a row."""
    return Entry(int(row["first"]).to_bytes(8, "big") + row["rest"].tobytes(), place_of(row))


def checksum(keys: Keys) -> int:
    """Of the ids of a pack, in whatever order: tells rows that got lost or under another pack."""
    return int(np.bitwise_xor.reduce(keys)) if len(keys) else 0

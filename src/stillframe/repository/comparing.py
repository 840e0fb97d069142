"""Whether an index object says of packs what their own trailers say, piece by piece."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stillframe.repository.pack import PackName, Table
from stillframe.repository.parts import StoredPart
from stillframe.repository.rows import Rows

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that multiplying loses nothing."""


def digest_of(table: Table) -> int:
    """Of all that a pack's table says, in whatever order its lines are."""
    return int(np.bitwise_xor.reduce(_lines(table))) if len(table) else 0


def differing_packs(part: StoredPart, digests: Mapping[PackName, int]) -> list[PackName]:
    """The packs of which the object says something else than these digests of their trailers.

    Raises what reading the object raises.
    """
    found = np.zeros(len(part.packs), np.uint64)
    for rows in part.scan():
        np.bitwise_xor.at(found, rows["pack"], _lines(rows))
    told = zip((pack.name for pack in part.stored.packs), found, strict=True)
    return [pack for pack, digest in told if pack in digests and digests[pack] != int(digest)]


def _lines(rows: Rows | Table) -> NDArray[np.uint64]:
    words = np.frombuffer(rows["rest"].tobytes(), "<u8").reshape(-1, 3)
    digest = rows["first"].astype(np.uint64) * _FACTOR
    for column in (*words.T, *(rows[name] for name in ("offset", "stored", "plain", "kind", "codec"))):
        digest = (digest ^ column.astype(np.uint64)) * _FACTOR
    return digest

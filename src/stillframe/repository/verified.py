"""What checks have found in order, so that the next one looks at what is new.

One sealed object for each data key. It saves work and decides nothing else: losing it, or one that does not open,
means that everything is looked at again.

Nodes are remembered as *whole* by the first eight bytes of their ids: everything below them was there, in packs
that are remembered here as well. That stays true while all of these packs are there, so it is believed while they
are. Ids are keyed hashes, so two that begin alike are as good as never met.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec
import numpy as np

from stillframe.domain.clock import Clock
from stillframe.errors import DataError
from stillframe.objectstore import ObjectStore
from stillframe.repository.crypto import DataKey
from stillframe.repository.documents import replace_object
from stillframe.repository.format import VERIFIED
from stillframe.repository.pack import PackName
from stillframe.repository.rows import key_of
from stillframe.repository.vault import Vault


class VerifiedPack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Every byte of a pack of this length was in order then. `digest` is that of its trailer."""

    size: int
    at: datetime
    digest: int | None = None


class VerifiedDocument(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The stored form.

    `index_objects` agree with the trailers of the packs they tell of. `nodes` are the keys of whole nodes, joined,
    the oldest of which was walked at `nodes_since`.
    """

    version: Literal[1] = 1
    kind: Literal["verified"] = "verified"
    packs: dict[str, VerifiedPack]
    index_objects: list[str] = []
    nodes: bytes = b""
    nodes_since: datetime | None = None


class WholeNodes:
    """Nodes below which everything is there; `since` when the oldest of them was walked, None for this check."""

    def __init__(self, keys: Iterable[int] = (), *, since: datetime | None = None) -> None:
        self.since = since
        self._keys = set(keys)

    def __contains__(self, node_id: bytes) -> bool:
        return key_of(node_id) in self._keys

    def add(self, node_id: bytes) -> None:
        """One more."""
        self._keys.add(key_of(node_id))

    def encode(self) -> bytes:
        """Eight bytes each, in order."""
        return np.sort(np.fromiter(self._keys, np.uint64, len(self._keys))).astype(">u8").tobytes()

    @classmethod
    def decode(cls, data: bytes, *, since: datetime) -> "WholeNodes":
        """What `encode` made."""
        return cls(np.frombuffer(data, ">u8").tolist(), since=since)


class CheckMemory:
    """What checks of one data key have found in order, believed for `remembered_for`; None: for no time."""

    def __init__(
        self,
        store: ObjectStore,
        vault: Vault,
        *,
        key: DataKey,
        clock: Clock,
        remembered_for: timedelta | None,
    ) -> None:
        self._store = store
        self._vault = vault
        self._key = key
        self._clock = clock
        self._remembered_for = remembered_for
        self._name = f"{VERIFIED}{key.reference}"
        self._earlier = self._loaded()
        self._packs = dict(self._earlier.packs)
        self._index_objects = self._earlier.index_objects
        self._nodes = b""
        self._nodes_since: datetime | None = None

    def covers(self, pack: PackName, size: int) -> bool:
        """Whether a pack of this length need not be read. One verified in the future is not believed."""
        return self.knows(pack, size) and self._is_believed(self._packs[str(pack)].at)

    def knows(self, pack: PackName, size: int) -> bool:
        """Whether a pack of this length is remembered as being in order, however long ago."""
        known = self._packs.get(str(pack))
        return known is not None and known.size == size

    def digests(self, present: Mapping[PackName, int]) -> dict[PackName, int]:
        """The digests of the trailers of those of these packs that need not be read."""
        found = {
            name: self._packs[str(name)].digest for name, size in present.items() if self.covers(name, size)
        }
        return {name: digest for name, digest in found.items() if digest is not None}

    @property
    def index_objects(self) -> frozenset[str]:
        """Those that agree with the trailers of packs of which the digest is remembered."""
        return frozenset(self._index_objects if self._remembered_for is not None else ())

    def whole(self, present: Mapping[PackName, int]) -> WholeNodes:
        """Nodes that need not be walked, when these are the packs that are there and can be listed."""
        sizes = {str(name): size for name, size in present.items()}
        kept = all(sizes.get(name) == pack.size for name, pack in self._earlier.packs.items())
        since = self._earlier.nodes_since
        if since is None or not kept or not self._is_believed(since):
            return WholeNodes()
        return WholeNodes.decode(self._earlier.nodes, since=since)

    def note(self, pack: PackName, size: int, digest: int | None) -> None:
        """All of this pack was read and is in order; `digest` is that of its trailer, if it is known."""
        self._packs[str(pack)] = VerifiedPack(size=size, at=self._clock.now(), digest=digest)

    def note_index_objects(self, names: Iterable[str]) -> None:
        """These, and no others, agree with the trailers of the packs they tell of."""
        self._index_objects = sorted(names)

    def note_whole(self, nodes: WholeNodes) -> None:
        """These, with those that were believed, have everything below them in packs that are noted."""
        self._nodes = nodes.encode()
        self._nodes_since = nodes.since or self._clock.now()

    def forget(self, pack: PackName) -> None:
        """It is not in order."""
        self._packs.pop(str(pack), None)

    def save(self, present: Mapping[PackName, int]) -> None:
        """Keep what is known of packs that are still there. Raises what the store raises."""
        names = {str(name) for name in present}
        document = VerifiedDocument(
            packs={name: pack for name, pack in sorted(self._packs.items()) if name in names},
            index_objects=list(self._index_objects),
            nodes=self._nodes,
            nodes_since=self._nodes_since,
        )
        seal = self._vault.sealer(self._key)
        replace_object(self._store, self._name, seal(document, self._name))

    def _is_believed(self, moment: datetime) -> bool:
        if self._remembered_for is None:
            return False
        return timedelta() <= self._clock.now() - moment < self._remembered_for

    def _loaded(self) -> VerifiedDocument:
        try:
            return self._vault.opened(VerifiedDocument, self._store.get(self._name), self._name)
        except DataError:
            return VerifiedDocument(packs={})

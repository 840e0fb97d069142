"""Taking what is needed out of packs of which little is, so that they can be condemned.

Content is bound to its place in its pack, so it is opened, verified and sealed anew. A piece that another pack
holds as well is not stored again, once that copy was opened.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from stillframe.errors import DataError, StoredDataCorrupt
from stillframe.objectstore import ObjectStore
from stillframe.repository.codec import ContentCodec, Place, authenticated, nonce_at, sealed_length
from stillframe.repository.documents import create_object
from stillframe.repository.format import NODE_PACK_TARGET, NODES, PACK_TARGET, REF_BYTES, Codec
from stillframe.repository.index import Location
from stillframe.repository.library import PackLibrary
from stillframe.repository.pack import Entry, Pack, PackName


class _Piece(NamedTuple):
    """Verified content that is to be stored again."""

    content_id: bytes
    place: Place
    packed: bytes
    plain: bytes


@dataclass(slots=True, kw_only=True)
class Rewritten:
    """Packs that can go, where what was needed of them is now, and how many bytes had to be stored for it."""

    packs: list[PackName]
    into: list[PackName]
    bytes_stored: int


class Rewriter:
    """Of one data key. `keep` are the packs that stay, which alone count as other copies."""

    def __init__(
        self,
        store: ObjectStore,
        library: PackLibrary,
        *,
        keep: Collection[PackName],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._library = library
        self._codec = ContentCodec(library.key)
        self._keep = set(keep)
        self._entropy = entropy
        # Nobody's snapshot id, so that no writer is ever taken for this pack's.
        self._writer = entropy(REF_BYTES)
        self._unpublished: set[bytes] = set()

    def rewrite(self, packs: Collection[PackName], is_needed: Callable[[bytes], bool]) -> list[Rewritten]:
        """Store what is needed of these packs elsewhere, durably. A pack that is damaged is left out.

        Packs of data and of nodes become packs of their own. Raises what the store raises.
        """
        ordered = sorted(packs, key=str)
        return [
            self._rewrite(prefix, list(group), is_needed)
            for prefix, group in groupby(ordered, key=lambda name: name.prefix)
        ]

    def _rewrite(self, prefix: str, packs: list[PackName], is_needed: Callable[[bytes], bool]) -> Rewritten:
        done = Rewritten(packs=[], into=[], bytes_stored=0)
        target: Pack | None = None
        for name in packs:
            try:
                others, pieces = self._taken_out(name, is_needed)
            except DataError:
                # Repair is not for a sweep: a pack that does not open stays as it is.
                continue
            for piece in pieces:
                if piece.content_id not in self._unpublished:
                    target = self._stored(piece, target, prefix, done)
            done.packs.append(name)
            done.into += [other for other in others if other not in done.into]
        if target is not None:
            self._publish(target, done)
        return done

    def _taken_out(
        self, name: PackName, is_needed: Callable[[bytes], bool]
    ) -> tuple[list[PackName], list[_Piece]]:
        """Which other packs hold needed content of this one, and the rest of it, verified."""
        others: list[PackName] = []
        pieces: list[_Piece] = []
        for entry in self._library.entries(name):
            if not is_needed(entry.content_id):
                continue
            other = self._other_copy(entry)
            if other is None:
                packed, plain = self._opened(Location(name, entry.place), entry.content_id)
                pieces.append(_Piece(entry.content_id, entry.place, packed, plain))
            else:
                others.append(other)
        return others, pieces

    def _other_copy(self, entry: Entry) -> PackName | None:
        for location in self._library.index.find_all(entry.content_id):
            if location.pack in self._keep and self._is_whole(location, entry.content_id):
                return location.pack
        return None

    def _is_whole(self, location: Location, content_id: bytes) -> bool:
        try:
            self._opened(location, content_id)
        except DataError:
            return False
        return True

    def _opened(self, location: Location, content_id: bytes) -> tuple[bytes, bytes]:
        place = location.place
        sealed = self._store.get_range(str(location.pack), place.offset, place.stored)
        cipher = self._library.key.pack_cipher(location.pack.pack_id)
        return self._codec.opened(cipher, sealed, content_id, place)

    def _stored(self, piece: _Piece, target: Pack | None, prefix: str, done: Rewritten) -> Pack:
        """Put a piece into the target, or into a fresh pack when that is full; the pack it is in."""
        place = None if target is None else self._reserved(target, piece)
        if target is None or place is None:
            if target is not None:
                self._publish(target, done)
            target = self._new_pack(prefix)
            place = self._reserved(target, piece)
        assert place is not None
        sealed = target.cipher.encrypt(
            nonce_at(place.offset), piece.packed, authenticated(piece.content_id, place)
        )
        # Nothing counts as written until it was decoded again.
        if self._codec.unsealed(target.cipher, sealed, piece.content_id, place) != piece.plain:
            raise StoredDataCorrupt(f"The content {piece.content_id.hex()} did not survive being sealed.")
        with target.view(place) as view:
            view[:] = sealed
        target.done()
        self._unpublished.add(piece.content_id)
        return target

    def _reserved(self, pack: Pack, piece: _Piece) -> Place | None:
        return pack.reserve(
            piece.content_id,
            stored=sealed_length(len(piece.packed)),
            plain=piece.place.plain,
            kind=piece.place.kind,
            codec=Codec(piece.place.codec),
        )

    def _new_pack(self, prefix: str) -> Pack:
        key = self._library.key
        name = PackName(prefix=prefix, key_reference=key.reference, pack_id=self._entropy(REF_BYTES))
        capacity = NODE_PACK_TARGET if prefix == NODES else PACK_TARGET
        return Pack(name, key, writer=self._writer, capacity=capacity)

    def _publish(self, pack: Pack, done: Rewritten) -> None:
        with pack.seal() as data:
            create_object(self._store, str(pack.name), data)
            size = len(data)
        self._library.index.add(pack.name, pack.entries)
        self._library.settle({pack.name: size}, writer=self._writer)
        self._keep.add(pack.name)
        self._unpublished.clear()
        done.into.append(pack.name)
        done.bytes_stored += size


def batches(packs: Collection[tuple[PackName, int]], limit: int) -> Iterator[PackName]:
    """The packs with the least to copy first, until that is `limit` bytes; at least one if there is any."""
    total = 0
    for name, size in sorted(packs, key=lambda pack: (pack[1], str(pack[0]))):
        if total and total + size > limit:
            return
        total += size
        yield name

"""Packs: many sealed pieces of content in one object that can be listed from itself alone.

    header | sealed content ... | sealed trailer | footer

Header (64 bytes): magic, version, writer's snapshot id, pack id, key reference. Trailer: one 64-byte record for
each piece of content. Footer (24 bytes): where the trailer is, magic. Header and footer are authenticated with
the trailer. The pack's random id takes part in its key, so nothing of it opens under another name.
"""

import mmap
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from stillframe.errors import FormatUnknown, StoredDataCorrupt
from stillframe.objectstore import ObjectStore
from stillframe.repository.codec import Place, nonce_at
from stillframe.repository.crypto import DataKey, opened
from stillframe.repository.format import FORMAT_VERSION, LARGEST_PLAIN, TAG_BYTES, Codec, ContentKind

_HEADER = struct.Struct("<8sHH4x16s16s16s")
_RECORD = struct.Struct("<32sQIIBB14x")
_FOOTER = struct.Struct("<QII8s")
_HEADER_MAGIC = b"SFPACK\r\n"
_FOOTER_MAGIC = b"SFPACKED"
HEADER_BYTES = _HEADER.size
FOOTER_BYTES = _FOOTER.size
RECORD_BYTES = _RECORD.size
_TAIL = 64 << 10
"""Bytes read from a pack's end in the hope that the whole trailer is among them."""


_KINDS = [int(kind) for kind in ContentKind]
_CODECS = [int(codec) for codec in Codec]
_TABLE = np.dtype(
    {
        "names": ["first", "rest", "offset", "stored", "plain", "kind", "codec"],
        "formats": [">u8", "V24", "<u8", "<u4", "<u4", "u1", "u1"],
        "offsets": [0, 8, 32, 40, 44, 48, 49],
        "itemsize": RECORD_BYTES,
    }
)
"""The records of a trailer in place, the id in two parts; reading 5,000 packs piece by piece takes too long."""
Table = NDArray[Any]


class Entry(NamedTuple):
    """One piece of content of a pack."""

    content_id: bytes
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class PackHeader:
    """Who wrote a pack, and under which key."""

    writer: bytes
    pack_id: bytes
    key_reference: str

    def encode(self) -> bytes:
        """64 bytes."""
        return _HEADER.pack(
            _HEADER_MAGIC, FORMAT_VERSION, 0, self.writer, self.pack_id, bytes.fromhex(self.key_reference)
        )

    @classmethod
    def decode(cls, data: bytes, *, name: str) -> Self:
        """Read a header; raises StoredDataCorrupt or FormatUnknown."""
        if len(data) != HEADER_BYTES:
            raise StoredDataCorrupt(f"{name} is shorter than a pack's header.", object=name)
        magic, version, reserved, writer, pack_id, reference = _HEADER.unpack(data)
        if magic != _HEADER_MAGIC or reserved:
            raise StoredDataCorrupt(f"{name} does not begin like a pack.", object=name)
        if version != FORMAT_VERSION:
            raise FormatUnknown(
                f"{name} has version {version}, which this release does not know.", object=name
            )
        return cls(writer=writer, pack_id=pack_id, key_reference=reference.hex())


@dataclass(frozen=True, slots=True, kw_only=True)
class PackName:
    """The object name of a pack, `packs/` or `nodes/`, then the key's reference, then the pack's id."""

    prefix: str
    key_reference: str
    pack_id: bytes

    def __str__(self) -> str:
        return f"{self.prefix}{self.key_reference}/{self.pack_id.hex()}"

    def __hash__(self) -> int:
        # The id is random, and bytes remember their hash: sets of thousands of packs are compared all the time.
        return hash(self.pack_id)

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read an object's name; raises StoredDataCorrupt for one that no pack has."""
        prefix, _, rest = name.partition("/")
        reference, _, pack_id = rest.partition("/")
        try:
            parsed = cls(prefix=f"{prefix}/", key_reference=reference, pack_id=bytes.fromhex(pack_id))
        except ValueError:
            parsed = None
        if parsed is None or str(parsed) != name or len(parsed.pack_id) != 16:
            raise StoredDataCorrupt(f"{name} is not the name of a pack.", object=name)
        return parsed


class Listing(NamedTuple):
    """What a stored pack says about itself. `table` has a row for each piece, by offset."""

    header: PackHeader
    table: Table

    @property
    def entries(self) -> list[Entry]:
        """The pieces, one by one."""
        return [
            Entry(content_id, Place(offset, stored, plain, ContentKind(kind), Codec(codec)))
            for content_id, offset, stored, plain, kind, codec in _RECORD.iter_unpack(self.table.tobytes())
        ]


class Pack:
    """A pack that is being filled, in memory, by several threads.

    `reserve` hands out a place; its owner seals into it and then calls `done`. The pack may be closed when no
    reservation is open. A lock is held only to hand out places, never while sealing.
    """

    def __init__(self, name: PackName, key: DataKey, *, writer: bytes, capacity: int) -> None:
        self.name = name
        self.cipher: AESGCM = key.pack_cipher(name.pack_id)
        # Memory that costs nothing until it is written: a small snapshot fills a thousandth of its packs.
        self._buffer = mmap.mmap(-1, capacity, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._header = PackHeader(
            writer=writer, pack_id=name.pack_id, key_reference=name.key_reference
        ).encode()
        self._buffer[:HEADER_BYTES] = self._header
        self._end = HEADER_BYTES
        self._open = 0
        self._retired = False
        self._entries: list[Entry] = []
        self._lock = threading.Lock()

    @property
    def entries(self) -> Sequence[Entry]:
        """What has been reserved, by offset."""
        return self._entries

    def reserve(
        self, content_id: bytes, *, stored: int, plain: int, kind: ContentKind, codec: Codec
    ) -> Place | None:
        """A place for content of this sealed length, or None when it does not fit any more."""
        with self._lock:
            needed = self._end + stored + (len(self._entries) + 1) * RECORD_BYTES + TAG_BYTES + FOOTER_BYTES
            if self._retired or needed > len(self._buffer):
                return None
            place = Place(self._end, stored, plain, kind, codec)
            self._end += stored
            self._open += 1
            self._entries.append(Entry(content_id, place))
            return place

    def view(self, place: Place) -> memoryview:
        """The bytes of a place."""
        return memoryview(self._buffer)[place.offset : place.offset + place.stored]

    def done(self) -> bool:
        """One reservation has its bytes; True tells its owner, and nobody else, to hand the pack over."""
        with self._lock:
            self._open -= 1
            return self._retired and self._open == 0

    def retire(self) -> bool:
        """Let nothing more in; True tells the caller, and nobody else, to hand the pack over."""
        with self._lock:
            first, self._retired = not self._retired, True
            return first and self._open == 0

    def seal(self) -> memoryview:
        """The finished pack. Nothing may be reserved after it, or be open."""
        records = b"".join(_record(entry) for entry in self._entries)
        footer = _FOOTER.pack(self._end, len(records) + TAG_BYTES, len(self._entries), _FOOTER_MAGIC)
        sealed = self.cipher.encrypt(nonce_at(self._end), records, self._header + footer)
        end = self._end + len(sealed)
        self._buffer[self._end : end] = sealed
        self._buffer[end : end + FOOTER_BYTES] = footer
        return memoryview(self._buffer)[: end + FOOTER_BYTES]


def _record(entry: Entry) -> bytes:
    content_id, place = entry
    return _RECORD.pack(content_id, place.offset, place.stored, place.plain, place.kind, place.codec)


def pack_size(stored: int, pieces: int) -> int:
    """Bytes of a pack with so many bytes of sealed content in so many pieces."""
    return HEADER_BYTES + stored + pieces * RECORD_BYTES + TAG_BYTES + FOOTER_BYTES


def pack_writer(store: ObjectStore, name: PackName) -> bytes:
    """The id of whoever wrote a pack, without its key and so not authenticated. Raises as `list_pack`."""
    return _checked_header(store, name)[1].writer


def _checked_header(store: ObjectStore, name: PackName) -> tuple[bytes, PackHeader]:
    data = store.get_range(str(name), 0, HEADER_BYTES)
    header = PackHeader.decode(data, name=str(name))
    if (header.pack_id, header.key_reference) != (name.pack_id, name.key_reference):
        raise StoredDataCorrupt(f"{name} holds a pack of another name.", object=str(name))
    return data, header


def list_pack(store: ObjectStore, name: PackName, key: DataKey, *, size: int) -> Listing:
    """What a stored pack of `size` bytes says it holds, authenticated, by offset.

    Raises ObjectMissing, StoredDataCorrupt, FormatUnknown, and what the store raises.
    """
    raw, header = _checked_header(store, name)
    tail_bytes = min(size, _TAIL)
    tail = store.get_range(str(name), size - tail_bytes, tail_bytes)
    footer = tail[-FOOTER_BYTES:]
    if len(footer) != FOOTER_BYTES:
        raise StoredDataCorrupt(f"{name} is shorter than a pack's footer.", object=str(name))
    start, length, count, magic = _FOOTER.unpack(footer)
    if magic != _FOOTER_MAGIC or start + length + FOOTER_BYTES != size or start < HEADER_BYTES:
        raise StoredDataCorrupt(f"{name} does not end like a pack.", object=str(name))
    if length + FOOTER_BYTES <= tail_bytes:
        sealed = tail[-FOOTER_BYTES - length : -FOOTER_BYTES]
    else:
        sealed = store.get_range(str(name), start, length)
    cipher = key.pack_cipher(name.pack_id)
    records = opened(cipher, nonce_at(start), sealed, raw + footer, what=f"The trailer of {name}")
    return Listing(header, _table(records, count=count, end=start, name=str(name)))


def _table(records: bytes, *, count: int, end: int, name: str) -> Table:
    if len(records) != count * RECORD_BYTES:
        raise StoredDataCorrupt(f"The trailer of {name} does not describe it.", object=name)
    table = np.frombuffer(records, _TABLE)
    if not np.isin(table["kind"], _KINDS).all() or not np.isin(table["codec"], _CODECS).all():
        raise StoredDataCorrupt(f"The trailer of {name} cannot be read.", object=name)
    if not _gapless(table, end):
        raise StoredDataCorrupt(f"The trailer of {name} does not describe it.", object=name)
    return table


def _gapless(table: Table, end: int) -> bool:
    """Every byte between header and trailer belongs to exactly one piece of content."""
    ends = HEADER_BYTES + np.cumsum(table["stored"], dtype=np.uint64)
    starts = np.concatenate((np.array([HEADER_BYTES], np.uint64), ends))
    fits = bool((table["plain"] <= LARGEST_PLAIN).all())
    return fits and bool((table["offset"] == starts[:-1]).all()) and int(starts[-1]) == end

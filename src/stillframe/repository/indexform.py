"""The stored form of an index object: what a set of packs holds, sorted by id, in blocks that open one by one.

    header (64) | sealed directory | sealed block | sealed block ...

The directory lists the packs and the first key of each block, so that a reader of one page opens a few blocks and
not all of them. Directory and blocks are sealed under a key that follows from the object's name, each with its
number as nonce (the directory has 0), and bound to the header.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stillframe.errors import FormatUnknown, StoredDataCorrupt
from stillframe.repository.codec import nonce_at
from stillframe.repository.crypto import ContentBytes, DataKey, opened
from stillframe.repository.format import (
    FORMAT_VERSION,
    INDEX,
    NODES,
    PACKS,
    REF_BYTES,
    TAG_BYTES,
    Codec,
    ContentKind,
)
from stillframe.repository.pack import PackName
from stillframe.repository.rows import ROW, Keys, Rows, joined, keys_of

_HEADER = struct.Struct("<8sHHI16sQI20x")
_MAGIC = b"SFINDEX\n"
_BLOCK_ROWS = 1024
"""Rows of a block: 50 KiB, about what one request reads at no more cost than a few bytes."""
_LARGEST_BLOCK = 1 << 16
_PACK = np.dtype(
    {
        "names": ["pack_id", "writer", "size", "checksum", "pieces", "prefix"],
        "formats": ["V16", "V16", "<u8", "<u8", "<u4", "u1"],
        "offsets": [0, 16, 32, 40, 48, 52],
        "itemsize": 56,
    }
)
_PREFIXES = (PACKS, NODES)
_FENCE = np.dtype("<u8")
_KINDS = [int(kind) for kind in ContentKind]
_CODECS = [int(codec) for codec in Codec]


class PackFacts(NamedTuple):
    """What is true of a pack for ever, once it is in the store: its length, its writer's id, and what it holds.

    `pieces` is their number, and `checksum` the exclusive or of the first eight bytes of their ids.
    """

    name: PackName
    size: int
    writer: bytes
    pieces: int
    checksum: int


class IndexObject:
    """The opened directory of an index object, which opens its blocks. `size` in bytes; `packs` by number."""

    def __init__(self, name: str, *, header: bytes, key: DataKey, size: int) -> None:
        self.name = name
        self.size = size
        self.header = header
        self.cipher: AESGCM = key.document_cipher(name)
        self._reference = key.reference
        _, self._block_rows, reference, self.rows, self._pack_count = _checked_header(header, name)
        self.blocks = -(-self.rows // self._block_rows)
        if reference.hex() != key.reference or self._expected_size() != size:
            raise StoredDataCorrupt(f"{name} has another length or key than its header says.", object=name)
        self.packs: list[PackFacts] = []
        self.fences: Keys = np.empty(0, np.uint64)

    @property
    def first_block(self) -> int:
        """Where the blocks begin, in bytes."""
        return _HEADER.size + self._directory_bytes()

    def open_directory(self, sealed: ContentBytes) -> None:
        """Learn what it lists. Raises StoredDataCorrupt."""
        plain = self._opened(0, sealed)
        split = self._pack_count * _PACK.itemsize
        self.packs = [
            PackFacts(
                PackName(
                    prefix=_PREFIXES[int(row["prefix"]) & 1],
                    key_reference=self._reference,
                    pack_id=row["pack_id"].tobytes(),
                ),
                int(row["size"]),
                row["writer"].tobytes(),
                int(row["pieces"]),
                int(row["checksum"]),
            )
            for row in np.frombuffer(plain[:split], _PACK)
        ]
        self.fences = np.frombuffer(plain[split:], _FENCE).astype(np.uint64)
        if sum(pack.pieces for pack in self.packs) != self.rows or not _ascending(self.fences):
            raise StoredDataCorrupt(f"{self.name} contradicts itself.", object=self.name)

    def span(self, first: int, end: int) -> tuple[int, int]:
        """Offset and length of the blocks [first, end)."""
        sealed = self._block_rows * ROW.itemsize + TAG_BYTES
        start = self.first_block + first * sealed
        return start, min(self.size, self.first_block + end * sealed) - start

    def open_blocks(self, first: int, end: int, sealed: ContentBytes) -> Rows:
        """The rows of the blocks [first, end), of which these are the stored bytes. Raises StoredDataCorrupt."""
        length = self._block_rows * ROW.itemsize + TAG_BYTES
        view = memoryview(sealed)
        if end - first == 1:
            plain: ContentBytes = self._opened(first + 1, view)
        else:
            plain = bytearray(len(view) - (end - first) * TAG_BYTES)
            for number in range(end - first):
                block = self._opened(first + number + 1, view[number * length : (number + 1) * length])
                at = number * (length - TAG_BYTES)
                plain[at : at + len(block)] = block
        rows = np.frombuffer(plain, ROW)
        self._require_sound(rows, first)
        return rows

    def blocks_of(self, key: int) -> range:
        """The blocks in which rows of this key may be."""
        wanted = np.uint64(key)
        first = max(int(self.fences.searchsorted(wanted)) - 1, 0)
        return range(first, int(self.fences.searchsorted(wanted, side="right")))

    def _opened(self, number: int, sealed: ContentBytes) -> bytes:
        bound = self.header + self.name.encode()
        return opened(self.cipher, nonce_at(number), sealed, bound, what=f"The index object {self.name}")

    def _require_sound(self, rows: Rows, first: int) -> None:
        keys = keys_of(rows)
        sound = (
            _ascending(keys)
            and keys[0] == self.fences[first]
            and bool((rows["pack"] < self._pack_count).all())
            and bool(np.isin(rows["kind"], _KINDS).all() and np.isin(rows["codec"], _CODECS).all())
        )
        if not sound:
            raise StoredDataCorrupt(f"{self.name} contradicts itself.", object=self.name)

    def _directory_bytes(self) -> int:
        return self._pack_count * _PACK.itemsize + self.blocks * _FENCE.itemsize + TAG_BYTES

    def _expected_size(self) -> int:
        return self.first_block + self.rows * ROW.itemsize + self.blocks * TAG_BYTES


def index_name(reference: str, token: bytes) -> str:
    """The name of an index object; `token` is 16 fresh random bytes, and never used again."""
    return f"{INDEX}{reference}/{token.hex()}"


def is_index_name(name: str) -> bool:
    """Whether an object's name is one of an index object."""
    prefix, _, rest = name.partition("/")
    parts = rest.split("/")
    return f"{prefix}/" == INDEX and len(parts) == 2 and all(map(_is_identifier, parts))


def open_head(name: str, head: ContentBytes, *, key: DataKey, size: int) -> IndexObject:
    """An index object of `size` bytes from its first bytes; its directory is still to be opened.

    Raises StoredDataCorrupt, and FormatUnknown for one of a later release.
    """
    if len(head) < _HEADER.size:
        raise StoredDataCorrupt(f"{name} does not begin like an index object.", object=name)
    return IndexObject(name, header=bytes(head[: _HEADER.size]), key=key, size=size)


class IndexBuilder:
    """Seals rows that come in order into an index object's bytes, of which there is one copy in memory."""

    def __init__(self, name: str, *, key: DataKey, packs: Sequence[PackFacts]) -> None:
        rows = sum(pack.pieces for pack in packs)
        header = _HEADER.pack(
            _MAGIC, FORMAT_VERSION, 0, _BLOCK_ROWS, bytes.fromhex(key.reference), rows, len(packs)
        )
        blocks = -(-rows // _BLOCK_ROWS)
        directory = len(packs) * _PACK.itemsize + blocks * _FENCE.itemsize + TAG_BYTES
        self._packs = packs
        self._bound = header + name.encode()
        self._cipher = key.document_cipher(name)
        self._data = bytearray(_HEADER.size + directory + rows * ROW.itemsize + blocks * TAG_BYTES)
        self._data[: _HEADER.size] = header
        self._end = _HEADER.size + directory
        self._fences: list[int] = []
        self._rest: Rows = np.empty(0, ROW)

    def add(self, rows: Rows) -> None:
        """Take in the next rows, in the order of their keys."""
        rows = joined((self._rest, rows)) if len(self._rest) else rows
        whole = len(rows) - len(rows) % _BLOCK_ROWS
        for start in range(0, whole, _BLOCK_ROWS):
            self._seal(rows[start : start + _BLOCK_ROWS])
        self._rest = rows[whole:]

    def finish(self) -> bytearray:
        """The bytes to store. Raises StoredDataCorrupt when there were not as many rows as the packs hold."""
        if len(self._rest):
            self._seal(self._rest)
        if self._end != len(self._data):
            raise StoredDataCorrupt("An index object got another number of rows than its packs have.")
        table = np.zeros(len(self._packs), _PACK)
        for number, pack in enumerate(self._packs):
            prefix = _PREFIXES.index(pack.name.prefix)
            table[number] = (pack.name.pack_id, pack.writer, pack.size, pack.checksum, pack.pieces, prefix)
        plain = table.tobytes() + np.array(self._fences, _FENCE).tobytes()
        sealed = self._cipher.encrypt(nonce_at(0), plain, self._bound)
        self._data[_HEADER.size : _HEADER.size + len(sealed)] = sealed
        return self._data

    def _seal(self, rows: Rows) -> None:
        self._fences.append(int(rows["first"][0]))
        sealed = self._cipher.encrypt(nonce_at(len(self._fences)), rows.tobytes(), self._bound)
        end = self._end + len(sealed)
        if end > len(self._data):
            raise StoredDataCorrupt("An index object got more rows than its packs have.")
        self._data[self._end : end] = sealed
        self._end = end


def _checked_header(header: bytes, name: str) -> tuple[bytes, int, bytes, int, int]:
    magic, version, reserved, block_rows, reference, rows, packs = _HEADER.unpack(header)
    if magic != _MAGIC or reserved:
        raise StoredDataCorrupt(f"{name} does not begin like an index object.", object=name)
    if version != FORMAT_VERSION:
        raise FormatUnknown(f"{name} has version {version}, which this release does not know.", object=name)
    if not 0 < block_rows <= _LARGEST_BLOCK or not rows:
        raise StoredDataCorrupt(f"{name} contradicts itself.", object=name)
    return magic, block_rows, reference, rows, packs


def _ascending(keys: Keys) -> bool:
    return bool((keys[1:] >= keys[:-1]).all())


def _is_identifier(text: str) -> bool:
    return len(text) == 2 * REF_BYTES and all(letter in "0123456789abcdef" for letter in text)

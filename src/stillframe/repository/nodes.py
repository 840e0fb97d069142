"""The documents of the tree, as they are stored: msgpack arrays, strict, and checked beyond their types.

Content alone decides their bytes, so equal content is stored once, whoever writes it and in whatever order.
"""

from collections.abc import Iterator
from enum import IntEnum
from itertools import pairwise
from typing import Any, Generic, TypeVar

import msgspec

from stillframe.errors import StoredDataCorrupt
from stillframe.repository.format import (
    FRAME_BLOCKS,
    ID_BYTES,
    LEAF_BLOCKS,
    LIST_FANOUT,
    MAP_FANOUT,
    MAP_LEAF_RECORDS,
    ContentKind,
)

ZERO = 0
"""In an extent: these pages are all zero, and no frame holds them."""


class FileKind(IntEnum):
    """How a file's bytes are kept."""

    PLAIN = 0
    RELATION = 1


class FileRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One file. `ref` is a relation's leaf (or list of leaves), a plain file's chunk (or list of chunks).

    What `ref` stands for follows from kind and size; None is "no block at all" or, for a plain file longer than
    nothing, one chunk of zeros. `inline` holds a short plain file whole.
    """

    name: str
    kind: FileKind
    mode: int
    size: int
    ref: bytes | None
    inline: bytes | None


class DirectoryRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One directory, named by its whole path. `files` is the root of its file map, None when it has no file.

    `count` files of `size` bytes together, so that totals need no walk.
    """

    name: str
    mode: int
    files: bytes | None
    count: int
    size: int


Record = TypeVar("Record", FileRecord, DirectoryRecord)


class MapLeaf(
    msgspec.Struct, Generic[Record], frozen=True, array_like=True, forbid_unknown_fields=True, tag=1
):
    """Records of a map, in the order of their names."""

    records: list[Record]


class MapInner(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """Children of a map by the next four bits of their names' hash: (records below, node), (0, None) for none."""

    children: list[tuple[int, bytes | None]]

    @property
    def total(self) -> int:
        """Records below."""
        return sum(count for count, _ in self.children)


class LeafNode(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Up to 1,024 pages of one relation file.

    `frames`: ids of the frames used, joined. `extents`: (first page, pages, frame counted from 1 or 0 for zeros,
    index of the first page in the frame), pages counted from the leaf's own first, without gap or overlap.
    """

    frames: bytes
    extents: list[tuple[int, int, int, int]]


class ListNode(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Up to 1,024 references, to leaves, chunks, or lists below. None, for chunks only, is a chunk of zeros."""

    refs: list[bytes | None]


Node = MapLeaf[FileRecord] | MapLeaf[DirectoryRecord] | MapInner | LeafNode | ListNode

_LIST = msgspec.msgpack.Decoder(ListNode)
_DECODERS: dict[ContentKind, msgspec.msgpack.Decoder[Any]] = {
    ContentKind.DIRECTORY_MAP: msgspec.msgpack.Decoder(MapLeaf[DirectoryRecord] | MapInner),
    ContentKind.FILE_MAP: msgspec.msgpack.Decoder(MapLeaf[FileRecord] | MapInner),
    ContentKind.LEAF: msgspec.msgpack.Decoder(LeafNode),
    ContentKind.LEAF_LIST: _LIST,
    ContentKind.CHUNK_LIST: _LIST,
}


def split_ids(joined: bytes) -> Iterator[bytes]:
    """Ids that were joined, as those of a leaf's frames are."""
    return (joined[at : at + ID_BYTES] for at in range(0, len(joined), ID_BYTES))


def encode(node: Node) -> bytes:
    """The stored form of a node."""
    return msgspec.msgpack.encode(node)


def decode(kind: ContentKind, data: bytes) -> Any:
    """A node of this kind, whose bytes have been authenticated.

    Raises StoredDataCorrupt for bytes that no correct writer makes.
    """
    try:
        node = _DECODERS[kind].decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise StoredDataCorrupt(f"A {kind.name} node cannot be read.") from None
    if not _sound(node):
        raise StoredDataCorrupt(f"A {kind.name} node contradicts itself.")
    return node


def _sound(node: Node) -> bool:
    match node:
        case MapLeaf():
            names = [record.name for record in node.records]
            return len(names) <= MAP_LEAF_RECORDS and all(a < b for a, b in pairwise(names))
        case MapInner():
            return len(node.children) == MAP_FANOUT and all(
                (n > 0) == (i is not None) for n, i in node.children
            )
        case ListNode():
            return 0 < len(node.refs) <= LIST_FANOUT
        case LeafNode():
            return len(node.frames) % ID_BYTES == 0 and _sound_extents(node)


def _sound_extents(leaf: LeafNode) -> bool:
    """Gapless from page 0, within one leaf, each inside of a frame that is listed."""
    position, frames = 0, len(leaf.frames) // ID_BYTES
    for first, count, frame, index in leaf.extents:
        inside = index == 0 if frame == ZERO else index + count <= FRAME_BLOCKS
        if first != position or count < 1 or frame > frames or index < 0 or frame < 0 or not inside:
            return False
        position += count
    return 0 < position <= LEAF_BLOCKS

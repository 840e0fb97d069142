"""What trees reach, and a memory of it from one sweep to the next.

A node is addressed by what is in it, so what it refers to never changes: once read, it need not be read again, by
this sweep or a later one of the same process. A sweep after one new snapshot reads the nodes that are new.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from stillframe.errors import StoredDataCorrupt
from stillframe.repository.content import ContentReader
from stillframe.repository.extents import blocks_of, leaf_count
from stillframe.repository.format import CHUNK_BYTES, ContentKind
from stillframe.repository.nodes import (
    DirectoryRecord,
    FileKind,
    FileRecord,
    MapInner,
    MapLeaf,
    decode,
    split_ids,
)
from stillframe.repository.reflist import load_refs
from stillframe.repository.rows import KEY_OF_ID, Keys

_LARGEST = 64 << 20
_OVERHEAD = 400
"""Bytes that an entry takes beside what it holds, about."""
_LISTS = {ContentKind.LEAF_LIST: ContentKind.LEAF, ContentKind.CHUNK_LIST: ContentKind.CHUNK}


class _Node(NamedTuple):
    """A node to be read. `length` is how many leaves or chunks a list is of."""

    kind: ContentKind
    content_id: bytes
    length: int = 0


class Reached(NamedTuple):
    """What a node refers to: the keys of content that is no node, and of the lists that were read for this.

    `below` are the joined ids of nodes of one kind, `lists` nodes that are lists.
    """

    keys: bytes
    kind: ContentKind = ContentKind.LEAF
    below: bytes = b""
    lists: tuple[_Node, ...] = ()

    def nodes(self) -> Iterator[_Node]:
        """The nodes it refers to."""
        yield from self.lists
        for node_id in split_ids(self.below):
            yield _Node(self.kind, node_id)


class NodeMemory:
    """What nodes refer to, up to some number of bytes; what has no room is read again."""

    def __init__(self, limit: int = _LARGEST) -> None:
        self._limit = limit
        self._held = 0
        self._known: dict[bytes, Reached] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, node_id: bytes) -> Reached | None:
        """What the node of this id refers to, if that is known."""
        return self._known.get(node_id)

    def put(self, node_id: bytes, reached: Reached) -> None:
        """Remember it if there is room."""
        size = _size(reached)
        if self._held + size <= self._limit:
            self._known[node_id] = reached
            self._held += size

    def keep(self, nodes: Collection[bytes]) -> None:
        """Forget all other nodes: no tree has them any more."""
        self._known = {node_id: one for node_id, one in self._known.items() if node_id in nodes}
        self._held = sum(map(_size, self._known.values()))


class TreeWalk:
    """Collects the content of trees of one data key; parts that trees share are walked once."""

    def __init__(self, content: ContentReader, memory: NodeMemory) -> None:
        self._content = content
        self._memory = memory
        self._seen: set[bytes] = set()
        self._found: list[bytes] = []
        self._needed: Keys = np.empty(0, np.uint64)

    def walk(self, root: bytes | None) -> None:
        """Take in a tree. Raises ObjectMissing and StoredDataCorrupt when a node of it cannot be read."""
        todo = [] if root is None else [_Node(ContentKind.DIRECTORY_MAP, root)]
        # Noted only when the whole tree was walked: what is below a node that was seen counts as seen.
        seen: set[bytes] = set()
        found: list[bytes] = []
        while todo:
            node = todo.pop()
            if node.content_id not in self._seen and node.content_id not in seen:
                seen.add(node.content_id)
                reached = self._reached(node)
                found += (node.content_id[:KEY_OF_ID], reached.keys)
                todo += reached.nodes()
        self._seen |= seen
        self._found += found

    def needed(self) -> Keys:
        """The keys of what has been found, sorted, each once."""
        if self._found:
            fresh = np.frombuffer(b"".join(self._found), ">u8").astype(np.uint64)
            self._needed = np.unique(np.concatenate((self._needed, fresh)))
            self._found = []
        return self._needed

    def remember(self) -> None:
        """Let the memory have what these trees have, and nothing else."""
        self._memory.keep(self._seen)

    def _reached(self, node: _Node) -> Reached:
        known = self._memory.get(node.content_id)
        if known is None:
            known = self._of_list(node) if node.kind in _LISTS else self._of_node(node)
            self._memory.put(node.content_id, known)
        return known

    def _of_node(self, node: _Node) -> Reached:
        found = decode(node.kind, self._content.load(node.kind, node.content_id))
        match found:
            case MapInner():
                children = (child for _, child in found.children if child is not None)
                return Reached(b"", node.kind, b"".join(children))
            case MapLeaf() if node.kind is ContentKind.DIRECTORY_MAP:
                return _of_directories(found.records)
            case MapLeaf():
                return _of_files(found.records)
            case _:
                frames: bytes = found.frames
                return Reached(_keys(frames))

    def _of_list(self, node: _Node) -> Reached:
        source = _Noting(self._content)
        refs = list(load_refs(source, node.kind, node.content_id, count=node.length))
        if node.kind is ContentKind.CHUNK_LIST:
            chunks = (ref[:KEY_OF_ID] for ref in refs if ref is not None)
            return Reached(b"".join((*source.keys, *chunks)))
        if None in refs:
            raise StoredDataCorrupt(f"A leaf in the list {node.content_id.hex()} is not named.")
        return Reached(b"".join(source.keys), ContentKind.LEAF, b"".join(ref for ref in refs if ref))


class _Noting:
    """Reads nodes, and notes the keys of their ids."""

    def __init__(self, content: ContentReader) -> None:
        self._content = content
        self.keys: list[bytes] = []

    def load(self, kind: ContentKind, content_id: bytes) -> bytes:
        """A node, which is reached by that."""
        self.keys.append(content_id[:KEY_OF_ID])
        return self._content.load(kind, content_id)


def _of_directories(records: list[DirectoryRecord]) -> Reached:
    maps = (record.files for record in records if record.files is not None)
    return Reached(b"", ContentKind.FILE_MAP, b"".join(maps))


def _of_files(records: list[FileRecord]) -> Reached:
    keys: list[bytes] = []
    leaves: list[bytes] = []
    lists: list[_Node] = []
    for record in records:
        relation = record.kind is FileKind.RELATION
        count = leaf_count(blocks_of(record.size)) if relation else -(-record.size // CHUNK_BYTES)
        if record.ref is None:
            continue
        if count > 1:
            kind = ContentKind.LEAF_LIST if relation else ContentKind.CHUNK_LIST
            lists.append(_Node(kind, record.ref, count))
        elif relation:
            leaves.append(record.ref)
        else:
            keys.append(record.ref[:KEY_OF_ID])
    return Reached(b"".join(keys), ContentKind.LEAF, b"".join(leaves), tuple(lists))


def _keys(ids: bytes) -> bytes:
    return b"".join(content_id[:KEY_OF_ID] for content_id in split_ids(ids))


def _size(reached: Reached) -> int:
    return len(reached.keys) + len(reached.below) + _OVERHEAD * (1 + len(reached.lists))

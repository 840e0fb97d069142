"""A persistent map from names to records: equal content gives equal nodes, and a change costs one path.

The shape depends on the set of names alone: where at most 32 records share a prefix of their names' hashes they
are one leaf; where more do, there is an inner node with a child for each value of the next four bits. So
100,000 relations with one change cost about five small nodes, whatever was inserted in which order.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, Protocol

from blake3 import blake3

from stillframe.repository.crypto import ContentBytes
from stillframe.repository.format import MAP_FANOUT, MAP_LEAF_RECORDS, ContentKind
from stillframe.repository.nodes import MapInner, MapLeaf, Record, decode, encode


class NodeSource(Protocol):
    """Where nodes are read."""

    def load(self, kind: ContentKind, content_id: bytes) -> bytes:
        """The bytes of a node, authenticated; raises ObjectMissing or StoredDataCorrupt."""
        ...


class NodeSink(NodeSource, Protocol):
    """Where nodes are read and stored."""

    def save(self, kind: ContentKind, plain: ContentBytes) -> bytes:
        """Store content unless it is there; returns its id."""
        ...


_MOST_DECODED = 512
"""Nodes of some kilobytes each."""

_Built = dict[str, Record] | tuple[int, bytes]
"""A subtree: its records while they are few enough for one leaf, else how many there are and its node."""


class NameMap(Generic[Record]):
    """The maps of one kind, over a place that keeps nodes."""

    def __init__(self, nodes: NodeSource, kind: ContentKind) -> None:
        self._nodes = nodes
        self._kind = kind
        self._decoded: dict[bytes, MapLeaf[Record] | MapInner] = {}

    def find(self, root: bytes | None, name: str) -> Record | None:
        """The record of this name, or None."""
        digest, depth = _digest(name), 0
        while root is not None:
            node = self._recent(root)
            if isinstance(node, MapLeaf):
                return next((record for record in node.records if record.name == name), None)
            root = node.children[_digit(digest, depth)][1]
            depth += 1
        return None

    def records(self, root: bytes | None) -> Iterator[Record]:
        """Every record, in the order of the hashes of the names: the same for equal maps."""
        if root is None:
            return
        node = self.node(root)
        if isinstance(node, MapLeaf):
            yield from node.records
            return
        for _, child in node.children:
            yield from self.records(child)

    def nodes(self, root: bytes | None, *, skip: set[bytes]) -> Iterator[MapLeaf[Record]]:
        """Every leaf that is not below a node in `skip`; the nodes walked are added to it."""
        if root is None or root in skip:
            return
        node = self.node(root)
        if isinstance(node, MapLeaf):
            yield node
        else:
            for _, child in node.children:
                yield from self.nodes(child, skip=skip)
        skip.add(root)

    def _recent(self, node_id: bytes) -> MapLeaf[Record] | MapInner:
        """A node that is asked for again and again, name after name: decoding it takes longer than looking in it."""
        node = self._decoded.get(node_id)
        if node is None:
            if len(self._decoded) >= _MOST_DECODED:
                self._decoded.clear()
            node = self._decoded[node_id] = self.node(node_id)
        return node

    def node(self, node_id: bytes) -> MapLeaf[Record] | MapInner:
        """One node of a map, decoded."""
        node: MapLeaf[Record] | MapInner = decode(self._kind, self._nodes.load(self._kind, node_id))
        return node


class NameMapEditor(NameMap[Record]):
    """Makes maps out of maps."""

    def __init__(self, nodes: NodeSink, kind: ContentKind) -> None:
        super().__init__(nodes, kind)
        self._sink = nodes

    def build(self, records: Iterable[Record]) -> bytes | None:
        """The root of a map of these records; None when there is none."""
        return self.edit(None, {record.name: record for record in records})

    def edit(self, root: bytes | None, changes: Mapping[str, Record | None]) -> bytes | None:
        """The root of the map with these records put in, and those that are None taken out."""
        if not changes:
            return root
        built = self._edited(root, {_digest(name): (name, new) for name, new in changes.items()}, 0)
        return self._saved(built)[1]

    def _edited(
        self, root: bytes | None, changes: Mapping[bytes, tuple[str, Record | None]], depth: int
    ) -> _Built[Record]:
        node = MapLeaf[Record]([]) if root is None else self.node(root)
        if isinstance(node, MapInner):
            return self._edited_inner(node, changes, depth)
        records = {record.name: record for record in node.records}
        for name, new in changes.values():
            if new is None:
                records.pop(name, None)
            else:
                records[name] = new
        return self._built(records, depth)

    def _edited_inner(
        self, node: MapInner, changes: Mapping[bytes, tuple[str, Record | None]], depth: int
    ) -> _Built[Record]:
        groups: dict[int, dict[bytes, tuple[str, Record | None]]] = defaultdict(dict)
        for digest, change in changes.items():
            groups[_digit(digest, depth)][digest] = change
        children: list[_Built[Record] | None] = [
            None if child is None else (count, child) for count, child in node.children
        ]
        for digit, group in groups.items():
            children[digit] = self._edited(node.children[digit][1], group, depth + 1)
        return self._joined(children)

    def _joined(self, children: list[_Built[Record] | None]) -> _Built[Record]:
        """One inner node, or the records alone when too few are left for one: the shape must not remember."""
        if sum(_count(child) for child in children) > MAP_LEAF_RECORDS:
            inner = MapInner([(0, None) if not child else self._saved(child) for child in children])
            return inner.total, self._sink.save(self._kind, encode(inner))
        records: dict[str, Record] = {}
        for child in children:
            if isinstance(child, dict):
                records |= child
            elif child is not None:
                records |= {record.name: record for record in self.records(child[1])}
        return records

    def _built(self, records: dict[str, Record], depth: int) -> _Built[Record]:
        if len(records) <= MAP_LEAF_RECORDS:
            return records
        groups: list[dict[str, Record]] = [{} for _ in range(MAP_FANOUT)]
        for name, record in records.items():
            groups[_digit(_digest(name), depth)][name] = record
        return self._joined([self._built(group, depth + 1) for group in groups])

    def _saved(self, built: _Built[Record]) -> tuple[int, bytes | None]:
        if isinstance(built, tuple):
            return built
        if not built:
            return 0, None
        leaf = MapLeaf([built[name] for name in sorted(built)])
        return len(built), self._sink.save(self._kind, encode(leaf))


def _count(built: "_Built[Record] | None") -> int:
    if built is None:
        return 0
    return len(built) if isinstance(built, dict) else built[0]


def _digest(name: str) -> bytes:
    return bytes(blake3(name.encode()).digest(16))


def _digit(digest: bytes, depth: int) -> int:
    byte = digest[depth // 2]
    return byte >> 4 if depth % 2 == 0 else byte & 15

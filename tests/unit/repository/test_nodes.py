"""Nodes as they are stored: there and back, and nothing that no correct writer makes."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.errors import StoredDataCorrupt
from stillframe.repository.extents import Extent, from_leaf, joined, to_leaf
from stillframe.repository.format import LIST_FANOUT, ContentKind
from stillframe.repository.nodes import (
    DirectoryRecord,
    FileKind,
    FileRecord,
    LeafNode,
    ListNode,
    MapInner,
    MapLeaf,
    decode,
    encode,
)
from stillframe.repository.places import Places
from stillframe.repository.reflist import load_refs, save_refs
from support.repository_nodes import Nodes

pytestmark = pytest.mark.unit

ID, OTHER = b"\1" * 32, b"\2" * 32
FILE = FileRecord("16384", FileKind.RELATION, 0o600, 8192, ID, None)
INLINE = FileRecord("PG_VERSION", FileKind.PLAIN, 0o600, 3, None, b"18\n")
CHILDREN: list[tuple[int, bytes | None]] = [(40, ID), *[(0, None)] * 14, (2, OTHER)]


@pytest.mark.parametrize(
    ("kind", "node"),
    [
        (ContentKind.FILE_MAP, MapLeaf([FILE, INLINE])),
        (ContentKind.DIRECTORY_MAP, MapLeaf([DirectoryRecord("base/5", 0o700, ID, 3, 24576)])),
        (ContentKind.FILE_MAP, MapInner(CHILDREN)),
        (ContentKind.DIRECTORY_MAP, MapInner(CHILDREN)),
        (ContentKind.LEAF, LeafNode(ID + OTHER, [(0, 3, 1, 29), (3, 1000, 0, 0), (1003, 1, 2, 0)])),
        (ContentKind.LEAF_LIST, ListNode([ID, OTHER])),
        (ContentKind.CHUNK_LIST, ListNode([ID, None])),
    ],
)
def test_every_node_comes_back_as_it_was(kind: ContentKind, node: Any) -> None:
    assert decode(kind, encode(node)) == node


@pytest.mark.parametrize(
    ("kind", "node"),
    [
        (ContentKind.FILE_MAP, MapLeaf([INLINE, FILE])),
        (ContentKind.FILE_MAP, MapLeaf([FILE, FILE])),
        (ContentKind.FILE_MAP, MapInner(CHILDREN[:15])),
        (ContentKind.FILE_MAP, MapInner([(1, None), *CHILDREN[1:]])),
        (ContentKind.FILE_MAP, MapInner([(0, ID), *CHILDREN[1:]])),
        (ContentKind.FILE_MAP, ListNode([ID])),
        (ContentKind.LEAF, LeafNode(b"", [])),
        (ContentKind.LEAF, LeafNode(b"short", [(0, 1, 0, 0)])),
        (ContentKind.LEAF, LeafNode(ID, [(1, 1, 1, 0)])),
        (ContentKind.LEAF, LeafNode(ID, [(0, 2, 1, 0), (1, 1, 1, 2)])),
        (ContentKind.LEAF, LeafNode(ID, [(0, 2, 1, 0), (3, 1, 1, 2)])),
        (ContentKind.LEAF, LeafNode(ID, [(0, 1, 2, 0)])),
        (ContentKind.LEAF, LeafNode(ID, [(0, 2, 1, 31)])),
        (ContentKind.LEAF, LeafNode(ID, [(0, 1, 1, -1)])),
        (ContentKind.LEAF, LeafNode(ID, [(0, 1, 0, 1)])),
        (ContentKind.LEAF, LeafNode(ID, [(0, 0, 0, 0)])),
        (ContentKind.LEAF, LeafNode(ID, [(0, 1025, 0, 0)])),
        (ContentKind.LEAF_LIST, ListNode([])),
    ],
)
def test_a_node_that_contradicts_itself_is_damage(kind: ContentKind, node: Any) -> None:
    with pytest.raises(StoredDataCorrupt):
        decode(kind, encode(node))


@pytest.mark.parametrize("kind", [kind for kind in ContentKind if kind.is_node])
@pytest.mark.parametrize("data", [b"", b"\xc0", b"\xc1", b"\x90", b"\x94\1\2\3\4", b"{}", b"\xff" * 50])
def test_other_bytes_are_damage(kind: ContentKind, data: bytes) -> None:
    with pytest.raises(StoredDataCorrupt):
        decode(kind, data)


def test_a_node_with_a_field_too_many_is_damage() -> None:
    with pytest.raises(StoredDataCorrupt):
        decode(ContentKind.LEAF_LIST, msgspec.msgpack.encode([[ID, OTHER], "more"]))


@pytest.mark.parametrize(
    "count",
    [0, 1, 2, LIST_FANOUT - 1, LIST_FANOUT, LIST_FANOUT + 1, 2 * LIST_FANOUT + 1, LIST_FANOUT**2 // 8],
)
def test_lists_of_any_length_come_back(count: int) -> None:
    nodes = Nodes()
    refs: list[bytes | None] = [number.to_bytes(32, "big") for number in range(count)]
    root = save_refs(nodes, ContentKind.CHUNK_LIST, refs)
    assert list(load_refs(nodes, ContentKind.CHUNK_LIST, root, count=count)) == refs
    for first in {0, 1, count // 2, max(0, count - 1), count}:
        assert list(load_refs(nodes, ContentKind.CHUNK_LIST, root, count=count, first=first)) == refs[first:]


def test_a_list_is_read_only_where_it_is_asked_for() -> None:
    nodes = Nodes()
    refs: list[bytes | None] = [number.to_bytes(32, "big") for number in range(10 * LIST_FANOUT)]
    root = save_refs(nodes, ContentKind.LEAF_LIST, refs)
    found = load_refs(nodes, ContentKind.LEAF_LIST, root, count=len(refs), first=9 * LIST_FANOUT + 7)
    assert next(found) == refs[9 * LIST_FANOUT + 7]
    assert nodes.loads == 2


@pytest.mark.parametrize("wrong", [2, 1023, 1025, 3000])
def test_a_list_of_another_length_than_its_file_is_damage(wrong: int) -> None:
    nodes = Nodes()
    root = save_refs(nodes, ContentKind.CHUNK_LIST, [ID] * 1024)
    with pytest.raises(StoredDataCorrupt):
        list(load_refs(nodes, ContentKind.CHUNK_LIST, root, count=wrong))


EXTENT_PARTS = st.lists(
    st.tuples(st.integers(1, 8), st.sampled_from([None, ID, OTHER]), st.integers(0, 24)),
    min_size=1,
    max_size=100,
)


@settings(max_examples=100, deadline=None)
@given(parts=EXTENT_PARTS, start=st.integers(0, 10**6))
def test_extents_survive_their_leaf(parts: list[tuple[int, bytes | None, int]], start: int) -> None:
    extents = extents_of(parts, start)
    leaf = to_leaf(extents, start)
    assert decode(ContentKind.LEAF, encode(leaf)) == leaf
    back = list(from_leaf(leaf, start))
    assert back == joined(extents)
    assert pages_of(back) == pages_of(extents)


@settings(max_examples=200, deadline=None)
@given(parts=EXTENT_PARTS, page=st.integers(0, 900))
def test_extents_from_a_page_on_are_the_last_of_all(
    parts: list[tuple[int, bytes | None, int]], page: int
) -> None:
    extents = joined(extents_of(parts, 7))
    page %= extents[-1].end - 7
    expected = [extent for extent in extents if extent.end > 7 + page]
    assert list(from_leaf(to_leaf(extents, 7), 7, page=page)) == expected


@settings(max_examples=300, deadline=None)
@given(parts=EXTENT_PARTS, new=EXTENT_PARTS, blocks=st.integers(1, 1024), data=st.data())
def test_a_changed_leaf_is_the_one_that_its_extents_make(
    parts: list[tuple[int, bytes | None, int]],
    new: list[tuple[int, bytes | None, int]],
    blocks: int,
    data: st.DataObject,
) -> None:
    inherited = extents_of(parts, 0)
    assert Places.of_leaf(to_leaf(inherited, 0)).leaf() == to_leaf(inherited, 0)
    written = [one for one in extents_of(new, 2048) if data.draw(st.booleans()) and one.end <= 2048 + blocks]
    places = Places.of_leaf(to_leaf(inherited, 0)).changed(written, start=2048, blocks=blocks)
    expected: list[tuple[bytes | None, int]] = [(None, 0)] * blocks
    for start, extents in ((0, inherited), (2048, written)):
        for first, frame, index in pages_of(extents):
            if first - start < blocks:
                expected[first - start] = frame, index
    singles = [Extent(page, 1, frame, index) for page, (frame, index) in enumerate(expected)]
    assert places.leaf() == to_leaf(singles, 0)
    assert decode(ContentKind.LEAF, encode(places.leaf())) == places.leaf()


def extents_of(parts: list[tuple[int, bytes | None, int]], start: int) -> list[Extent]:
    """Extents of so many pages each, in that frame from that index on, one after the other."""
    extents = []
    for count, frame, index in parts:
        extents.append(Extent(start, count, frame, index if frame else 0))
        start += count
    return extents


def pages_of(extents: list[Extent]) -> list[tuple[int, bytes | None, int]]:
    """Page by page, where it is."""
    return [
        (one.first + at, one.frame, one.index + at if one.frame else 0)
        for one in extents
        for at in range(one.count)
    ]

"""The persistent map: what it holds, and that its nodes depend on nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.repository.format import MAP_LEAF_RECORDS, ContentKind
from stillframe.repository.nodes import FileKind, FileRecord
from stillframe.repository.trie import NameMapEditor
from support.repository_nodes import Nodes

pytestmark = pytest.mark.unit

NAMES = st.integers(0, 200).map(lambda number: f"{number}_fsm" if number % 7 == 0 else str(number))


def record(name: str, size: int = 0) -> FileRecord:
    return FileRecord(name, FileKind.PLAIN, 0o600, size, None, None)


def editor(nodes: Nodes) -> NameMapEditor[FileRecord]:
    return NameMapEditor(nodes, ContentKind.FILE_MAP)


@settings(max_examples=60, deadline=None)
@given(
    wanted=st.dictionaries(NAMES, st.integers(0, 3), max_size=150),
    detours=st.lists(st.dictionaries(NAMES, st.none() | st.integers(0, 3), max_size=60), max_size=5),
)
def test_equal_maps_are_equal_nodes_whatever_their_history(
    wanted: dict[str, int], detours: list[dict[str, int | None]]
) -> None:
    nodes = Nodes()
    maps = editor(nodes)
    straight = maps.build(record(name, size) for name, size in wanted.items())
    root = None
    for detour in detours:
        root = maps.edit(root, {n: None if size is None else record(n, size) for n, size in detour.items()})
    present = {one.name for one in maps.records(root)}
    changes = {
        name: record(name, wanted[name]) if name in wanted else None for name in present | wanted.keys()
    }
    assert maps.edit(root, changes) == straight
    assert {one.name: one.size for one in maps.records(straight)} == wanted
    assert all(maps.find(straight, name) == record(name, size) for name, size in wanted.items())


@settings(max_examples=40, deadline=None)
@given(edits=st.lists(st.dictionaries(NAMES, st.none() | st.integers(0, 3), max_size=80), max_size=6))
def test_a_map_holds_what_a_dictionary_would(edits: list[dict[str, int | None]]) -> None:
    nodes = Nodes()
    maps = editor(nodes)
    root, model = None, dict[str, int]()
    for edit in edits:
        root = maps.edit(root, {n: None if size is None else record(n, size) for n, size in edit.items()})
        for name, size in edit.items():
            if size is None:
                model.pop(name, None)
            else:
                model[name] = size
        assert {one.name: one.size for one in maps.records(root)} == model
    assert (root is None) == (not model)
    assert maps.find(root, "never") is None


@pytest.mark.parametrize("count", [MAP_LEAF_RECORDS, MAP_LEAF_RECORDS + 1])
def test_a_map_splits_exactly_when_a_leaf_is_full(count: int) -> None:
    nodes = Nodes()
    editor(nodes).build(record(str(number)) for number in range(count))
    assert (len(nodes.stored) == 1) == (count == MAP_LEAF_RECORDS)


def test_one_change_among_100_000_files_costs_a_handful_of_small_nodes() -> None:
    nodes = Nodes()
    maps = editor(nodes)
    root = maps.build(record(str(number)) for number in range(100_000))
    before = dict(nodes.stored)
    nodes.loads = 0
    changed = maps.edit(root, {"77777": record("77777", 8192)})
    new = [data for key, data in nodes.stored.items() if key not in before]
    assert changed != root
    assert len(new) <= 6
    assert sum(map(len, new)) < 6000
    assert nodes.loads <= 6


def test_an_edit_without_effect_stores_nothing_new() -> None:
    nodes = Nodes()
    maps = editor(nodes)
    root = maps.build(record(str(number)) for number in range(1000))
    before = len(nodes.stored)
    assert maps.edit(root, {"5": record("5"), "absent": None}) == root
    assert maps.edit(root, {}) == root
    assert len(nodes.stored) == before


def test_nodes_that_were_walked_are_not_walked_again() -> None:
    nodes = Nodes()
    maps = editor(nodes)
    root = maps.build(record(str(number)) for number in range(1000))
    changed = maps.edit(root, {"5": record("5", 8192)})
    seen: set[bytes] = set()
    assert sum(len(leaf.records) for leaf in maps.nodes(root, skip=seen)) == 1000
    assert sum(len(leaf.records) for leaf in maps.nodes(changed, skip=seen)) <= MAP_LEAF_RECORDS
    assert list(maps.nodes(root, skip=seen)) == []

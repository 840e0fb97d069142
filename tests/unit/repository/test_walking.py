"""A sweep reads the nodes that are new, and comes to the same as one that reads all."""

import random
from pathlib import Path

import pytest

from stillframe.domain.identifiers import SnapshotId
from stillframe.repository import Repository
from stillframe.repository.format import NODES
from stillframe.repository.rows import KEY_OF_ID
from stillframe.repository.walking import NodeMemory, Reached, TreeWalk
from support.objectstore import FaultyStore, MemoryObjectStore
from support.repository import BLOCK, KEY, contents, facts, keys_in, page, store_files
from support.repository_index import reads

pytestmark = pytest.mark.unit

RELATIONS = 200
LARGE = random.Random(1).randbytes(3 << 20)


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryObjectStore())


@pytest.fixture
def repository(tmp_path: Path, store: FaultyStore) -> Repository:
    return Repository.create_or_open(store, keys_in(tmp_path))


def many_files() -> dict[str, bytes]:
    """Every kind of node: inner ones of maps, lists of leaves and of chunks."""
    files = {f"base/5/{number}": page(number) for number in range(RELATIONS)}
    return files | {
        "base/5/large": b"".join(page(number) for number in range(3)) * 400,
        "pg_xact/0000": LARGE,
    }


def changed(repository: Repository, parent: SnapshotId, number: int) -> SnapshotId:
    """Another snapshot, with one page changed."""
    with repository.begin_snapshot(key_id=KEY, parent=parent) as writer:
        for path in ("", "base", "base/5", "pg_xact"):
            if writer.parent_file_count(path) is not None:
                writer.inherit_directory(path)
        relation = writer.relation(f"base/5/{number}", mode=0o600, blocks=1)
        relation.write_run(0, page(1000 + number))
        relation.close()
        return writer.commit(facts()).snapshot_id


def test_a_sweep_reads_the_nodes_that_are_new_since_the_last_one(
    repository: Repository, store: FaultyStore
) -> None:
    first = store_files(repository, many_files()).snapshot_id
    store.calls.clear()
    repository.sweep()
    everything = reads(store, NODES)
    assert everything > RELATIONS
    last = first
    for number in range(5):
        last = changed(repository, last, number)
    store.calls.clear()
    repository.sweep()
    # Of each snapshot its root, the path to one file, and that file's leaf.
    assert 0 < reads(store, NODES) <= 5 * 6
    changed(repository, last, 7)
    repository.delete_snapshot(first)
    store.calls.clear()
    repository.sweep()
    assert 0 < reads(store, NODES) <= 6


def test_what_only_a_deleted_snapshot_had_goes_although_its_nodes_were_remembered(
    repository: Repository, store: FaultyStore, tmp_path: Path
) -> None:
    kept = store_files(repository, {"base/5/1": page(1)})
    repository.sweep()
    alone = store_files(repository, many_files())
    repository.sweep()
    repository.delete_snapshot(alone.snapshot_id)
    for _ in range(3):
        repository.sweep()
    assert contents(repository, kept.snapshot_id) == {"base/5/1": page(1)}
    assert repository.usage().dead_bytes < 5_000
    fresh = Repository.create_or_open(store, keys_in(tmp_path))
    assert fresh.sweep(dry_run=True).packs_removed == 0


@pytest.mark.parametrize("limit", [0, 3_000, 1 << 20])
def test_the_same_is_needed_whatever_was_remembered(repository: Repository, limit: int) -> None:
    first = store_files(repository, many_files())
    second = repository.document(changed(repository, first.snapshot_id, 3))
    _, content = repository.content_of(first.key_reference)
    memory = NodeMemory(limit)
    found = []
    for remembered in (memory, memory, NodeMemory()):
        walk = TreeWalk(content, remembered)
        for document in (first, second, first):
            walk.walk(document.root)
        found.append(walk.needed().tolist())
        walk.remember()
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) == len(found[0])
    assert sum(_size(memory, node) for node in memory._known) <= limit


def _size(memory: NodeMemory, node: bytes) -> int:
    reached = memory.get(node)
    assert reached is not None
    return len(reached.keys) + len(reached.below)


def test_needed_is_exactly_what_the_packs_of_one_snapshot_hold(repository: Repository) -> None:
    document = store_files(repository, many_files())
    library, content = repository.content_of(document.key_reference)
    walk = TreeWalk(content, NodeMemory())
    walk.walk(document.root)
    stored = {
        int.from_bytes(entry.content_id[:KEY_OF_ID], "big")
        for pack in library.sizes
        for entry in library.entries(pack)
    }
    assert set(walk.needed().tolist()) == stored


def test_a_memory_forgets_what_no_tree_has_any_more() -> None:
    memory = NodeMemory(2_000)
    for number in range(100):
        memory.put(bytes([number]), Reached(bytes(BLOCK // 64)))
    held = len(memory)
    assert 0 < held < 100
    memory.keep({bytes([0])})
    assert len(memory) == 1
    memory.put(b"x", Reached(b""))
    assert memory.get(b"x") == Reached(b"")

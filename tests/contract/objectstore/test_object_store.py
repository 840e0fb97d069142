"""What every object store promises."""

import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillframe.errors import Conflict, InvalidRequest, ObjectMissing, StoredDataCorrupt
from stillframe.objectstore import LocalObjectStore, ObjectStore, StoredObject
from support.objectstore import MemoryObjectStore
from support.s3 import S3Server

pytestmark = pytest.mark.contract


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        return server.new_store(tmp_path / "claims")
    return LocalObjectStore(tmp_path / "store") if request.param == "local" else MemoryObjectStore()


def test_what_is_put_is_got_back(store: ObjectStore) -> None:
    store.put("packs/a", b"content")
    assert store.get("packs/a") == b"content"
    assert store.size("packs/a") == 7


@pytest.mark.parametrize("data", [b"bytes", bytearray(b"bytes"), memoryview(b"a bytes b")[2:7]])
def test_any_contiguous_bytes_can_be_put(store: ObjectStore, data: bytes | bytearray | memoryview) -> None:
    store.put("a", data)
    assert store.get("a") == b"bytes"


def test_an_empty_object_is_not_a_missing_one(store: ObjectStore) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert store.size("empty") == 0
    assert store.get_range("empty", 0, 0) == b""


@pytest.mark.parametrize("name", ["absent", "directory/absent", "directory"])
def test_a_missing_object_says_so_in_every_reading_method(store: ObjectStore, name: str) -> None:
    store.put("other/object", b"x")
    for read in (store.get, store.size, lambda it: store.get_range(it, 0, 1)):
        with pytest.raises(ObjectMissing):
            read(name)


def test_an_object_is_replaced_whole(store: ObjectStore) -> None:
    store.put("a", b"a longer first text")
    store.put("a", b"second")
    assert store.get("a") == b"second"


def test_create_only_does_not_replace(store: ObjectStore) -> None:
    store.put("a", b"first", if_absent=True)
    with pytest.raises(Conflict):
        store.put("a", b"second", if_absent=True)
    assert store.get("a") == b"first"


def test_of_many_creators_at_once_exactly_one_wins(store: ObjectStore) -> None:
    start = threading.Barrier(8)
    won: list[bytes] = []

    def create(mine: bytes) -> None:
        start.wait(10)
        try:
            store.put("contested", mine, if_absent=True)
        except Conflict:
            return
        won.append(mine)

    threads = [threading.Thread(target=create, args=(b"%d" % number * 10_000,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert won == [store.get("contested")]


def test_a_reader_never_sees_half_of_a_replacement(store: ObjectStore) -> None:
    versions = [bytes([number]) * 100_000 for number in range(20)]
    store.put("a", versions[0])
    seen: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(store.get("a"))

    reader = threading.Thread(target=read)
    reader.start()
    for version in versions:
        store.put("a", version)
    done.set()
    reader.join(10)
    assert seen
    assert set(seen) <= set(versions)


@pytest.mark.parametrize(("offset", "length"), [(0, 10), (3, 4), (9, 1), (10, 0)])
def test_a_range_is_exactly_what_was_asked_for(store: ObjectStore, offset: int, length: int) -> None:
    store.put("a", b"0123456789")
    assert store.get_range("a", offset, length) == b"0123456789"[offset : offset + length]


@pytest.mark.parametrize(("offset", "length"), [(0, 11), (9, 2), (20, 1)])
def test_a_range_beyond_the_end_is_damage(store: ObjectStore, offset: int, length: int) -> None:
    store.put("a", b"0123456789")
    with pytest.raises(StoredDataCorrupt):
        store.get_range("a", offset, length)


def test_deleting_makes_it_missing_and_may_be_repeated(store: ObjectStore) -> None:
    store.put("packs/a", b"x")
    store.delete("packs/a")
    store.delete("packs/a")
    store.delete("never/there")
    with pytest.raises(ObjectMissing):
        store.get("packs/a")


def test_a_listing_is_by_prefix_of_the_whole_name_and_in_order(store: ObjectStore) -> None:
    for name in ("packs/b/2", "packs/a/1", "packs/b/1", "packs-old", "nodes/1", "packs/b.x"):
        store.put(name, b"x" * len(name))
    assert [one.name for one in store.list("packs/b")] == ["packs/b.x", "packs/b/1", "packs/b/2"]
    assert list(store.list("packs/b/")) == [StoredObject("packs/b/1", 9), StoredObject("packs/b/2", 9)]
    assert len(list(store.list(""))) == 6
    assert list(store.list("absent/")) == []


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    prefix=st.text("ab/.-", max_size=5),
    names=st.sets(st.from_regex(r"[ab][ab.-]?(/[ab][ab.-]?){0,2}", fullmatch=True)),
)
def test_a_listing_lists_what_begins_with_the_prefix(prefix: str, names: set[str]) -> None:
    memory = MemoryObjectStore()
    for name in names:
        memory.put(name, b"")
    assert [one.name for one in memory.list(prefix)] == sorted(
        name for name in names if name.startswith(prefix)
    )


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "../a", "a/../b", ".tmp/a", "A", "a b", "a\0", "a" * 513, "ä"]
)
def test_names_that_not_every_store_can_keep_are_refused(store: ObjectStore, name: str) -> None:
    with pytest.raises(InvalidRequest):
        store.put(name, b"x")


def test_one_holder_excludes_everybody(store: ObjectStore) -> None:
    with store.claim("content"):
        for shared in (False, True):
            with pytest.raises(Conflict):
                store.claim("content", shared=shared)
    store.claim("content").release()


def test_many_may_share_and_together_exclude_one(store: ObjectStore) -> None:
    one, other = store.claim("content", shared=True), store.claim("content", shared=True)
    one.release()
    with pytest.raises(Conflict):
        store.claim("content")
    other.release()
    store.claim("content").release()


def test_releasing_twice_does_not_release_somebody_elses_claim(store: ObjectStore) -> None:
    first = store.claim("content")
    first.release()
    with store.claim("content"):
        first.release()
        with pytest.raises(Conflict):
            store.claim("content")


def test_who_holds_which_claims_is_told(store: ObjectStore) -> None:
    with (
        store.claim("epoch-2"),
        store.claim("epoch-1", shared=True),
        store.claim("a/b"),
        store.claim("epochs"),
    ):
        assert list(store.held_claims("epoch-")) == ["epoch-1", "epoch-2"]
        assert list(store.held_claims("a/")) == ["a/b"]
        with pytest.raises(Conflict):
            store.claim("epoch-2")
    assert list(store.held_claims("")) == []
    store.claim("epoch-1").release()


def test_claims_are_no_objects_and_do_not_meet_each_other(store: ObjectStore) -> None:
    with store.claim("content"), store.claim("epoch-1"), store.claim("a/b"):
        assert list(store.list("")) == []

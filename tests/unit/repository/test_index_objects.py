"""Index objects: they save reading trailers, and nothing else depends on them."""

import os
import random
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.errors import Conflict, DataError, StoredDataCorrupt, StoreUnavailable
from stillframe.repository.crypto import DataKey
from stillframe.repository.format import INDEXER_CLAIM, PACKS, ContentKind
from stillframe.repository.index import Index
from stillframe.repository.indexform import is_index_name
from stillframe.repository.library import PackLibrary
from stillframe.repository.pack import PackName, list_pack
from stillframe.repository.parts import MemoryPart
from support.objectstore import FaultyStore, MemoryObjectStore, disk_full, unavailable
from support.repository_index import (
    INDEX_OF_KEY,
    KEY,
    index_names,
    keeper,
    opened,
    reads,
    refreshed,
    sealed_index,
    store_pack,
    store_packs,
)

pytestmark = pytest.mark.unit

Told = dict[PackName, list[bytes]]
MANY = 20


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
def told(store: MemoryObjectStore) -> Told:
    """Many packs with an index object that tells of them."""
    made = store_packs(store, MANY, 30)
    keeper(store).after_commit(refreshed(store))
    assert len(index_names(store)) == 1
    return made


def require_all(library: PackLibrary, told: Told) -> None:
    """Every piece is found where it is, alone and with all others, and nothing else is."""
    every = [content_id for ids in told.values() for content_id in ids]
    located = library.index.located(ContentKind.PAGES, [*every, os.urandom(32)])
    assert located.keys() == set(every)
    for pack, ids in told.items():
        for content_id in ids:
            found = library.index.find(content_id)
            assert found is not None
            assert found.pack == pack
            assert located[content_id] == found
    assert library.index.find(os.urandom(32)) is None
    assert len(library.index) == sum(map(len, told.values()))


def test_an_index_object_saves_reading_trailers(store: MemoryObjectStore, told: Told) -> None:
    counted = FaultyStore(store)
    library = refreshed(counted)
    require_all(library, told)
    assert reads(counted, PACKS) == 0
    assert reads(counted, INDEX_OF_KEY) == 1
    assert library.uncovered == frozenset()
    assert {library.writer_of(pack) for pack in told} == {b"w" * 16}


def test_only_packs_that_are_new_are_read_when_it_is_looked_again(
    store: MemoryObjectStore, told: Told
) -> None:
    counted = FaultyStore(store)
    library = refreshed(counted)
    told |= store_packs(store, 3, 30, first=100)
    counted.calls.clear()
    library.look()
    require_all(library, told)
    assert reads(counted, PACKS) == 2 * 3
    assert reads(counted, INDEX_OF_KEY) == 0


def test_losing_every_index_object_loses_nothing_and_it_is_made_again(
    store: MemoryObjectStore, told: Told
) -> None:
    for name in index_names(store):
        store.delete(name)
    library = refreshed(store)
    require_all(library, told)
    keeper(store).after_commit(library)
    assert len(index_names(store)) == 1
    require_all(refreshed(store), told)


def test_no_changed_byte_of_an_index_object_is_believed(store: MemoryObjectStore) -> None:
    store_packs(store, 3, 2)
    keeper(store).after_commit(refreshed(store))
    (name,) = index_names(store)
    data = store.objects[name]
    assert opened(name, data).rows == 6
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        with pytest.raises(DataError):
            opened(name, bytes(changed))


@pytest.mark.parametrize("kept", [0, 63, 64, 500, -1])
def test_an_index_object_that_is_cut_off_is_replaced_by_trailers(
    store: MemoryObjectStore, told: Told, kept: int
) -> None:
    (name,) = index_names(store)
    store.objects[name] = store.objects[name][:kept]
    counted = FaultyStore(store)
    library = refreshed(counted)
    require_all(library, told)
    assert reads(counted, PACKS) == 2 * MANY
    keeper(store).after_commit(library)
    assert name not in store.objects
    require_all(refreshed(store), told)


def test_an_index_object_under_another_name_or_key_does_not_open(
    store: MemoryObjectStore, told: Told
) -> None:
    (name,) = index_names(store)
    for other, key in (
        (f"{INDEX_OF_KEY}{'0' * 32}", KEY),
        (name, DataKey(b"l" * 32, reference=KEY.reference)),
        (name, DataKey(b"k" * 32, reference="cd" * 16)),
    ):
        with pytest.raises(DataError):
            opened(other, store.objects[name], key)


def test_packs_that_are_gone_are_not_believed_in_whatever_the_index_says(
    store: MemoryObjectStore, told: Told
) -> None:
    gone = next(iter(told))
    store.delete(str(gone))
    library = refreshed(store)
    for content_id in told.pop(gone):
        assert library.index.find(content_id) is None
    require_all(library, told)


def test_a_pack_of_another_length_than_the_index_says_is_read_itself(
    store: MemoryObjectStore, told: Told
) -> None:
    pack = next(iter(told))
    store.objects[str(pack)] += b"more"
    library = refreshed(store)
    assert set(library.damaged) == {pack}
    for content_id in told.pop(pack):
        assert library.index.find(content_id) is None
    require_all(library, told)


def test_a_pack_is_not_relied_on_while_its_writer_is_open_though_the_index_tells_of_it(
    store: MemoryObjectStore,
) -> None:
    made = store_packs(store, MANY, 5)
    keeper(store).after_commit(refreshed(store))
    writer = b"w" * 16
    epoch = str(uuid.UUID(bytes=writer))
    store.put(f"epochs/{epoch}", b"{}")
    with store.claim(f"epoch-{epoch}"):
        library = refreshed(store)
        require_all(library, made)
        pieces = [content_id for ids in made.values() for content_id in ids]
        assert not any(library.adopt(content_id, own=()) for content_id in pieces)
    library.refresh()
    assert all(library.adopt(content_id, own=()) for content_id in pieces)


def test_a_pack_that_goes_after_it_was_listed_is_not_relied_on_though_the_index_tells_of_it(
    store: MemoryObjectStore,
) -> None:
    made = store_packs(store, MANY, 5)
    keeper(store).after_commit(refreshed(store))
    going = next(iter(made))

    class Going(FaultyStore):
        def held_claims(self, prefix: str) -> Sequence[str]:
            store.delete(str(going))
            return super().held_claims(prefix)

    library = refreshed(Going(store))
    assert not any(library.adopt(content_id, own=()) for content_id in made.pop(going))
    require_all(library, made)


def big(store: MemoryObjectStore) -> Told:
    """Packs of which the index object has many blocks."""
    made = store_packs(store, 10, 4_000)
    keeper(store).after_commit(refreshed(store))
    return made


def test_a_reader_of_little_opens_few_blocks_and_a_reader_of_much_opens_all_at_once(
    store: MemoryObjectStore,
) -> None:
    made = big(store)
    counted = FaultyStore(store)
    library = PackLibrary(counted, KEY)
    library.look()
    pieces = [content_id for ids in made.values() for content_id in ids]
    assert reads(counted, INDEX_OF_KEY) == 1
    assert library.index.find(pieces[0]) is not None
    assert library.index.find(pieces[0]) is not None
    assert reads(counted, INDEX_OF_KEY) == 2
    require_all(library, made)
    assert reads(counted, INDEX_OF_KEY) < 15


def test_an_index_object_that_is_consolidated_away_is_followed_to_what_took_its_place(
    store: MemoryObjectStore,
) -> None:
    made = big(store)
    counted = FaultyStore(store)
    library = PackLibrary(counted, KEY)
    library.look()
    (before,) = index_names(store)
    more = store_packs(store, 3, 4_000, first=50)
    keeper(store).after_sweep(refreshed(store))
    assert before not in store.objects
    require_all(library, made)
    assert reads(counted, PACKS) == 0
    library.look()
    require_all(library, made | more)


def test_a_damaged_block_is_noticed_when_it_is_reached_and_trailers_take_its_place(
    store: MemoryObjectStore,
) -> None:
    made = big(store)
    library = PackLibrary(store, KEY)
    library.look()
    (name,) = index_names(store)
    data = bytearray(store.objects[name])
    data[-1_000] ^= 1
    store.objects[name] = bytes(data)
    require_all(library, made)
    assert set(library.objects.damaged) == {name}


def test_a_store_that_does_not_answer_is_not_taken_for_content_that_is_not_there(
    store: MemoryObjectStore,
) -> None:
    made = big(store)
    faulty = FaultyStore(store)
    library = PackLibrary(faulty, KEY)
    library.look()
    faulty._position, faulty._fault = len(faulty.calls), unavailable
    content_id = next(iter(made.values()))[0]
    with pytest.raises(StoreUnavailable):
        library.index.find(content_id)
    assert library.index.find(content_id) is not None
    # Nor is it while what has to take an index object's place cannot be read.
    store.delete(index_names(store)[0])
    other = next(iter(made.values()))[1]
    faulty._position = len(faulty.calls) + 1
    with pytest.raises(StoreUnavailable):
        library.index.find(other)
    assert library.index.find(other) is not None


def find_until(done: threading.Event, library: PackLibrary, pieces: list[bytes]) -> int:
    """Look for pieces that are there, by chance; how often one was not found."""
    lost = 0
    while not done.is_set():
        lost += library.index.find(random.choice(pieces)) is None
    return lost


def hand_about(store: MemoryObjectStore, library: PackLibrary) -> None:
    """Let packs be told of by memory and by index objects in turn."""
    kept = keeper(store)
    kept.after_commit(library)
    for name in index_names(store):
        store.delete(name)
    kept.after_sweep(library)
    for part in library.index.stored:
        library.replace(part, StoredDataCorrupt("It shall be learnt from elsewhere."))


def test_many_threads_find_everything_while_packs_go_from_hand_to_hand(store: MemoryObjectStore) -> None:
    made = store_packs(store, MANY, 40)
    library = refreshed(store)
    pieces = [content_id for ids in made.values() for content_id in ids]
    done = threading.Event()
    with ThreadPoolExecutor(3) as threads:
        looking = [threads.submit(find_until, done, library, pieces) for _ in range(3)]
        for _ in range(30):
            hand_about(store, library)
        done.set()
        assert [one.result(30) for one in looking] == [0, 0, 0]


def test_few_objects_come_of_many_commits_and_none_is_larger_than_it_may_be(store: MemoryObjectStore) -> None:
    kept = keeper(store, packs=2, rows=400)
    written = 0
    counted = FaultyStore(store)
    kept = keeper(counted, packs=2, rows=400)
    made: Told = {}
    for number in range(60):
        made |= store_packs(store, 2, 10, first=2 * number)
        kept.after_commit(refreshed(counted))
        assert len(index_names(store)) <= 8
    written = sum(method == "put" for method, _ in counted.calls)
    assert written == 60
    kept.after_sweep(refreshed(counted))
    library = refreshed(store)
    require_all(library, made)
    rows = [one.stored.rows for one in library.objects.opened()]
    assert sum(rows) == 1200
    assert max(rows) <= 400
    assert len(rows) <= 5


def test_objects_that_tell_mostly_of_packs_that_are_gone_are_written_again_and_empty_ones_go(
    store: MemoryObjectStore, told: Told
) -> None:
    (before,) = index_names(store)
    for pack in list(told)[:15]:
        store.delete(str(pack))
        del told[pack]
    keeper(store).after_sweep(refreshed(store))
    (after,) = index_names(store)
    assert after != before
    require_all(refreshed(store), told)
    for pack in told:
        store.delete(str(pack))
    keeper(store).after_sweep(refreshed(store))
    assert index_names(store) == []


def test_an_object_of_old_that_comes_back_goes_again_and_harms_nobody(
    store: MemoryObjectStore, told: Told
) -> None:
    (name,) = index_names(store)
    replayed = store.objects[name]
    told |= store_packs(store, MANY, 30, first=200)
    gone = next(iter(told))
    del told[gone]
    store.delete(str(gone))
    keeper(store).after_sweep(refreshed(store))
    assert name not in store.objects
    store.objects[name] = replayed
    library = refreshed(store)
    require_all(library, told)
    keeper(store).after_sweep(library)
    assert name not in store.objects


def test_index_objects_of_a_key_without_packs_go(store: MemoryObjectStore, told: Told) -> None:
    store.put(f"index/{'0' * 32}/{'1' * 32}", b"whatever")
    store.put("index/stray", b"not ours")
    keeper(store).remove_lost()
    assert f"index/{'0' * 32}/{'1' * 32}" not in store.objects
    assert "index/stray" in store.objects
    assert len(index_names(store)) == 2


@pytest.mark.parametrize("fault", [unavailable, disk_full])
@pytest.mark.parametrize("position", range(3))
def test_what_keeps_an_index_object_from_being_written_keeps_nobody_from_anything(
    store: MemoryObjectStore, fault: object, position: int
) -> None:
    made = store_packs(store, MANY, 3)
    library = refreshed(store)
    faulty = FaultyStore(store, position=position, fault=fault, only="put list delete")  # type: ignore[arg-type]
    keeper(faulty).after_commit(library)
    keeper(faulty).after_sweep(library)
    require_all(refreshed(store), made)


def test_one_writes_index_objects_at_a_time_and_the_others_go_on(store: MemoryObjectStore) -> None:
    store_packs(store, MANY, 3)
    with store.claim(INDEXER_CLAIM):
        keeper(store).after_commit(refreshed(store))
        keeper(store).after_sweep(refreshed(store))
        assert index_names(store) == []
        with pytest.raises(Conflict):
            keeper(store).rebuild(PackLibrary(store, KEY, believe_index=False))


def test_rebuilding_believes_no_index_object_and_replaces_all(store: MemoryObjectStore, told: Told) -> None:
    (name,) = index_names(store)
    of_a_later_release = bytearray(store.objects[name])
    of_a_later_release[8] = 2
    store.objects[f"{INDEX_OF_KEY}{'2' * 32}"] = bytes(of_a_later_release)
    library = refreshed(store)
    lies = {pack: [os.urandom(32) for _ in ids] for pack, ids in told.items()}
    liar, data = sealed_index(library, lies, b"l" * 16)
    store.delete(name)
    store.put(liar, data)
    keeper(store).rebuild(PackLibrary(store, KEY, believe_index=False))
    (made,) = index_names(store)
    assert made not in {name, liar}
    require_all(refreshed(store), told)


def test_an_examination_finds_index_objects_that_say_something_else_than_trailers(
    store: MemoryObjectStore, told: Told
) -> None:
    library = refreshed(store)
    assert library.examine().damaged == []
    lies = {pack: [*ids[1:], os.urandom(32)] for pack, ids in told.items()}
    liar, data = sealed_index(library, lies, b"l" * 16)
    (name,) = index_names(store)
    store.delete(name)
    store.put(liar, data)
    library = refreshed(store)
    ((found, error),) = library.examine().damaged
    assert found == liar
    assert "something else" in error.message
    require_all(library, told)
    keeper(store).after_commit(library)
    assert liar not in store.objects


def test_an_examination_finds_a_trailer_that_is_damaged_though_the_index_tells_of_it(
    store: MemoryObjectStore, told: Told
) -> None:
    pack = next(iter(told))
    data = bytearray(store.objects[str(pack)])
    data[-50] ^= 1
    store.objects[str(pack)] = bytes(data)
    library = refreshed(store)
    assert [name for name, _ in library.examine().damaged] == [str(pack)]
    assert set(library.damaged) == {pack}
    assert not any(library.index.find(content_id) for content_id in told[pack])


def test_what_a_pack_with_a_damaged_trailer_holds_is_taken_from_the_index(
    store: MemoryObjectStore, told: Told
) -> None:
    library = refreshed(store)
    pack = next(iter(told))
    before = library.entries(pack)
    store.objects[str(pack)] = store.objects[str(pack)][:-1] + b"x"
    assert library.entries(pack) == before
    assert {entry.content_id for entry in before} == set(told[pack])


PACKS_OF_FEW_IDS = st.lists(
    st.lists(st.integers(0, 40), min_size=1, max_size=20, unique=True), min_size=1, max_size=12
)


@given(PACKS_OF_FEW_IDS, st.sets(st.integers(0, 40)), st.integers(0, 12), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_what_is_needed_of_each_pack_is_the_same_from_memory_and_from_index_objects(
    packs: list[list[int]], needed: set[int], covered: int, rows: int
) -> None:
    store = MemoryObjectStore()
    ids = [random.Random(number).randbytes(32) for number in range(41)]
    for number, pieces in enumerate(packs):
        store_pack(store, number, [ids[piece] for piece in pieces])
        if number == covered:
            keeper(store, rows=rows).after_commit(refreshed(store))
    keys = np.sort(np.array([int.from_bytes(ids[piece][:8], "big") for piece in needed], np.uint64))
    plain = Index()
    library = PackLibrary(store, KEY)
    library.look()
    for pack, size in library.sizes.items():
        plain.add_table(pack, list_pack(store, pack, KEY, size=size).table)
    uses, expected = library.index.uses(keys, spared=()), plain.uses(keys, spared=())
    assert {pack: use.needed for pack, use in uses.items()} == {
        pack: use.needed for pack, use in expected.items()
    }
    for found in (uses, expected):
        assert sum(use.pieces for use in found.values()) == len(
            needed & {piece for pack in packs for piece in pack}
        )
    for pack in library.sizes:
        assert library.index.entries(pack) == plain.entries(pack) == library.entries(pack)


def test_memory_of_packs_that_index_objects_tell_of_is_given_back(store: MemoryObjectStore) -> None:
    made = store_packs(store, MANY, 50)
    library = PackLibrary(store, KEY, believe_index=False)
    library.refresh()
    memory = library.index.parts[0]
    assert isinstance(memory, MemoryPart)
    assert len(memory) == MANY * 50
    keeper(store).after_commit(library)
    assert [len(part) for part in library.index.parts if isinstance(part, MemoryPart)] == [0]
    require_all(library, made)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (f"index/{'a' * 32}/{'b' * 32}", True),
        (f"index/{'a' * 32}/{'b' * 31}", False),
        (f"index/{'a' * 32}/{'B' * 32}", False),
        (f"index/{'a' * 32}", False),
        (f"packs/{'a' * 32}/{'b' * 32}", False),
    ],
)
def test_only_names_of_one_form_are_index_objects(name: str, ours: bool) -> None:
    assert is_index_name(name) is ours

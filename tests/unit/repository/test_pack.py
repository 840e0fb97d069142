"""Packs: listed from themselves alone, and no changed byte goes unnoticed."""

import os
from collections.abc import Iterator

import pytest

from stillframe.errors import DataError, ObjectMissing, StoredDataCorrupt
from stillframe.repository.codec import ContentCodec, authenticated, nonce_at, sealed_length
from stillframe.repository.crypto import DataKey
from stillframe.repository.format import PACKS, Codec, ContentKind
from stillframe.repository.index import Index, Location
from stillframe.repository.pack import HEADER_BYTES, Entry, Pack, PackName, list_pack
from support.objectstore import FaultyStore, MemoryObjectStore
from support.repository import page

pytestmark = pytest.mark.unit

KEY = DataKey(b"k" * 32, reference="ab" * 16)
WRITER = b"w" * 16
PLAINS = [(ContentKind.PAGES, page(1)), (ContentKind.CHUNK, os.urandom(300)), (ContentKind.LEAF, b"x" * 200)]


def name(number: int) -> PackName:
    return PackName(prefix=PACKS, key_reference=KEY.reference, pack_id=bytes([number]) * 16)


def fill(pack: Pack, key: DataKey = KEY) -> None:
    codec = ContentCodec(key)
    for kind, plain in PLAINS:
        content_id = key.content_id(kind, plain)
        how, packed = codec.compress(plain)
        place = pack.reserve(
            content_id, stored=sealed_length(len(packed)), plain=len(plain), kind=kind, codec=how
        )
        assert place is not None
        pack.cipher.encrypt_into(
            nonce_at(place.offset), packed, authenticated(content_id, place), pack.view(place)
        )
        assert not pack.done()
    assert pack.retire()


def stored(number: int = 1, key: DataKey = KEY) -> tuple[MemoryObjectStore, str]:
    store = MemoryObjectStore()
    pack = Pack(name(number), key, writer=WRITER, capacity=1 << 16)
    fill(pack, key)
    store.put(str(pack.name), pack.seal())
    return store, str(pack.name)


def read_all(
    store: MemoryObjectStore, number: int = 1, key: DataKey = KEY
) -> list[tuple[ContentKind, bytes]]:
    pack = name(number)
    codec = ContentCodec(key)
    cipher = key.pack_cipher(pack.pack_id)
    return [
        (
            place.kind,
            codec.open(cipher, store.get_range(str(pack), place.offset, place.stored), content_id, place),
        )
        for content_id, place in list_pack(store, pack, key, size=store.size(str(pack))).entries
    ]


def test_a_pack_is_listed_and_read_from_itself_alone() -> None:
    store, _ = stored()
    assert read_all(store) == PLAINS


def test_what_does_not_shrink_is_stored_as_it_is() -> None:
    store, pack = stored()
    entries = list_pack(store, name(1), KEY, size=store.size(pack)).entries
    assert [entry.place.codec for entry in entries] == [Codec.ZSTD, Codec.RAW, Codec.ZSTD]
    assert entries[1].place.stored == 300 + 16


def changed_everywhere(data: bytes) -> Iterator[bytes]:
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        yield bytes(changed)


def test_every_flipped_byte_of_a_pack_is_detected() -> None:
    store, pack = stored()
    for changed in changed_everywhere(store.get(pack)):
        store.put(pack, changed)
        with pytest.raises(DataError):
            read_all(store)


def test_every_truncation_and_extension_of_a_pack_is_detected() -> None:
    store, pack = stored()
    whole = store.get(pack)
    for data in [whole[:length] for length in range(len(whole))] + [
        whole + b"\0",
        b"\0" + whole,
        whole + whole,
    ]:
        store.put(pack, data)
        with pytest.raises(DataError):
            read_all(store)


@pytest.mark.parametrize("position", [0, 1])
def test_a_store_that_answers_with_too_few_bytes_is_noticed(position: int) -> None:
    """Of the header and of the tail of a pack: any number of them."""
    store, stored_name = stored()
    size = store.size(stored_name)
    for length in range(HEADER_BYTES):
        short = FaultyStore(store, position=position, fault=lambda call, end=length: call()[:end])  # type: ignore[misc]
        with pytest.raises(StoredDataCorrupt):
            list_pack(short, name(1), KEY, size=size)


def test_a_pack_under_another_name_is_detected() -> None:
    store, pack = stored(1)
    store.put(str(name(2)), store.get(pack))
    with pytest.raises(StoredDataCorrupt):
        read_all(store, 2)


def test_a_renamed_pack_does_not_open_even_with_its_header_corrected() -> None:
    store, pack = stored(1)
    data = store.get(pack)
    store.put(str(name(2)), data.replace(name(1).pack_id, name(2).pack_id, 1))
    with pytest.raises(StoredDataCorrupt):
        read_all(store, 2)


def test_a_pack_of_another_data_key_is_detected() -> None:
    other = DataKey(b"o" * 32, reference=KEY.reference)
    store, _ = stored(1, other)
    with pytest.raises(StoredDataCorrupt):
        read_all(store)
    assert read_all(store, 1, other) == PLAINS


def test_a_frame_moved_within_its_pack_does_not_open() -> None:
    store, pack = stored()
    first, second = list_pack(store, name(1), KEY, size=store.size(pack)).entries[:2]
    sealed = store.get_range(pack, first.place.offset, first.place.stored)
    moved = first.place._replace(offset=second.place.offset)
    with pytest.raises(StoredDataCorrupt):
        ContentCodec(KEY).open(KEY.pack_cipher(name(1).pack_id), sealed, first.content_id, moved)


@pytest.mark.parametrize("change", ["kind", "codec", "plain", "id"])
def test_content_opens_only_as_what_it_was_sealed_as(change: str) -> None:
    store, pack = stored()
    entry = list_pack(store, name(1), KEY, size=store.size(pack)).entries[0]
    other = {
        "kind": entry._replace(place=entry.place._replace(kind=ContentKind.CHUNK)),
        "codec": entry._replace(place=entry.place._replace(codec=Codec.RAW)),
        "plain": entry._replace(place=entry.place._replace(plain=entry.place.plain + 1)),
        "id": entry._replace(content_id=b"\0" * 32),
    }[change]
    sealed = store.get_range(pack, entry.place.offset, entry.place.stored)
    with pytest.raises(StoredDataCorrupt):
        ContentCodec(KEY).open(KEY.pack_cipher(name(1).pack_id), sealed, other.content_id, other.place)


def test_equal_bytes_of_two_kinds_or_two_keys_have_different_ids() -> None:
    other = DataKey(b"o" * 32, reference="cd" * 16)
    ids = {key.content_id(kind, b"same") for key in (KEY, other) for kind in ContentKind}
    assert len(ids) == 2 * len(ContentKind)


def test_a_data_key_does_not_show_itself() -> None:
    assert b"k" * 8 not in repr(KEY).encode()
    assert repr(KEY) == f"DataKey('{'ab' * 16}')"


def test_a_pack_takes_no_more_than_fits_with_its_trailer() -> None:
    pack = Pack(name(1), KEY, writer=WRITER, capacity=1000)
    taken = 0
    while pack.reserve(bytes(32), stored=50, plain=34, kind=ContentKind.CHUNK, codec=Codec.RAW):
        taken += 1
        pack.done()
    assert taken > 0
    assert 1000 - 50 - 64 < len(pack.seal()) <= 1000


def test_a_retired_pack_waits_for_its_open_reservations() -> None:
    pack = Pack(name(1), KEY, writer=WRITER, capacity=1000)
    for _ in range(2):
        pack.reserve(bytes(32), stored=50, plain=34, kind=ContentKind.CHUNK, codec=Codec.RAW)
    assert [pack.retire(), pack.done(), pack.retire(), pack.done()] == [False, False, False, True]
    assert pack.reserve(bytes(32), stored=50, plain=34, kind=ContentKind.CHUNK, codec=Codec.RAW) is None


@pytest.mark.parametrize(
    "text", ["packs/x", "packs/" + "ab" * 16, "packs/" + "ab" * 16 + "/zz", "snapshots/1", ""]
)
def test_what_is_not_a_packs_name_is_not_read_as_one(text: str) -> None:
    with pytest.raises(StoredDataCorrupt):
        PackName.parse(text)
    assert PackName.parse(str(name(1))) == name(1)


def entries_of(*ids: int) -> list[Entry]:
    store, pack = stored()
    place = list_pack(store, name(1), KEY, size=store.size(pack)).entries[0].place
    return [
        Entry(number.to_bytes(32, "big"), place._replace(offset=64 + at)) for at, number in enumerate(ids)
    ]


def test_an_index_finds_every_copy_and_forgets_packs() -> None:
    index = Index()
    index.add(name(1), entries_of(1, 2, 3))
    index.add(name(2), entries_of(3, 4))
    three = (3).to_bytes(32, "big")
    assert {location.pack for location in index.find_all(three)} == {name(1), name(2)}
    index.forget([name(1)])
    assert index.find(three) == Location(name(2), entries_of(3)[0].place)
    assert index.find((1).to_bytes(32, "big")) is None
    assert index.packs == {name(2)}


def test_many_are_located_at_once_as_content_of_their_kind_in_packs_that_are_known() -> None:
    index = Index()
    place = entries_of(1)[0].place
    ids = [bytes([number]) * 32 for number in range(6)]
    entries = [Entry(content_id, place._replace(offset=64 + at)) for at, content_id in enumerate(ids)]
    index.add(name(1), entries[1:3])
    index.add(name(2), entries[3:5])
    index.forget([name(1)])
    assert index.located(place.kind, ids) == {
        content_id: Location(name(2), place) for content_id, place in entries[3:5]
    }
    assert index.not_held(place.kind, ids) == [*ids[:3], ids[5]]
    assert index.located(ContentKind.CHUNK, ids) == {}


def test_what_is_overlooked_among_many_is_found_alone() -> None:
    index = Index()
    alike = entries_of(1, 2)
    index.add(name(1), alike)
    ids = [content_id for content_id, _ in alike]
    (kind,) = {place.kind for _, place in alike}
    assert len(index.located(kind, ids)) == 1
    assert all(index.find(content_id) == Location(name(1), place) for content_id, place in alike)


def test_an_index_tells_ids_apart_that_begin_alike() -> None:
    index = Index()
    place = entries_of(1)[0].place
    entries = [
        Entry(b"\7" * 8 + number.to_bytes(24, "little"), place._replace(offset=number))
        for number in range(300)
    ]
    for number in range(100):
        index.add(name(number), entries[number::100])
    for number, entry in enumerate(entries):
        assert index.find(entry.content_id) == Location(name(number % 100), entry.place)


def test_an_index_of_many_packs_needs_little_memory_for_each_entry() -> None:
    index = Index()
    place = entries_of(1)[0].place
    for number in range(200):
        entries = [Entry(os.urandom(32), place._replace(offset=64 + at)) for at in range(100)]
        index.add(PackName(prefix=PACKS, key_reference="", pack_id=number.to_bytes(16, "big")), entries)
    assert len(index) == 20_000
    held = sum(run.keys.nbytes + run.rows.nbytes for run in index._memory._runs)
    assert held / len(index) <= 64
    assert len(index._memory._runs) <= 16


def test_a_missing_pack_is_missing() -> None:
    with pytest.raises(ObjectMissing):
        list_pack(MemoryObjectStore(), name(1), KEY, size=1000)

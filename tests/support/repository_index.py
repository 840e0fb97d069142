"""Packs made by the hundred, an index of them, and a store that tells what was read of what."""

import os
import random
from collections.abc import Iterable

from stillframe.objectstore import ObjectStore
from stillframe.repository.codec import authenticated, nonce_at
from stillframe.repository.crypto import DataKey
from stillframe.repository.format import INDEX, PACKS, Codec, ContentKind
from stillframe.repository.indexform import IndexBuilder, IndexObject, PackFacts, index_name, open_head
from stillframe.repository.indexing import IndexKeeper, IndexPolicy
from stillframe.repository.library import PackLibrary
from stillframe.repository.pack import Pack, PackName
from stillframe.repository.rows import checksum, joined, keys_of, rows_of_entries, run_of
from support.objectstore import FaultyStore, MemoryObjectStore

KEY = DataKey(b"k" * 32, reference="ab" * 16)
WRITER = b"w" * 16
PLAIN = b"sixteen bytes..."
INDEX_OF_KEY = f"{INDEX}{KEY.reference}/"


def store_pack(store: ObjectStore, number: int, ids: Iterable[bytes], *, writer: bytes = WRITER) -> PackName:
    """A sealed pack with a small piece of content under each of these ids, as no hash would give them."""
    name = PackName(prefix=PACKS, key_reference=KEY.reference, pack_id=number.to_bytes(16, "big"))
    pack = Pack(name, KEY, writer=writer, capacity=1 << 22)
    for content_id in ids:
        place = pack.reserve(
            content_id, stored=len(PLAIN) + 16, plain=len(PLAIN), kind=ContentKind.PAGES, codec=Codec.RAW
        )
        assert place is not None
        pack.view(place)[:] = pack.cipher.encrypt(
            nonce_at(place.offset), PLAIN, authenticated(content_id, place)
        )
        pack.done()
    pack.retire()
    store.put(str(name), pack.seal())
    return name


def store_packs(
    store: ObjectStore, packs: int, pieces: int, *, first: int = 0
) -> dict[PackName, list[bytes]]:
    """So many packs with so many pieces each; the ids of the pieces."""
    rnd = random.Random(first)
    made = {}
    for number in range(first, first + packs):
        ids = [rnd.randbytes(32) for _ in range(pieces)]
        made[store_pack(store, number, ids)] = ids
    return made


def keeper(store: ObjectStore, *, packs: int = 1, rows: int = 1 << 20) -> IndexKeeper:
    """What writes index objects, soon."""
    return IndexKeeper(store, policy=IndexPolicy(packs=packs, rows=rows), entropy=os.urandom)


def refreshed(store: ObjectStore) -> PackLibrary:
    """The packs as a process of its own sees them."""
    library = PackLibrary(store, KEY)
    library.refresh()
    return library


def index_names(store: MemoryObjectStore) -> list[str]:
    """The index objects there are."""
    return sorted(name for name in store.objects if name.startswith(INDEX))


def reads(store: FaultyStore, prefix: str) -> int:
    """How many reads of objects of these names there have been."""
    return sum(method in {"get", "get_range"} and name.startswith(prefix) for method, name in store.calls)


def sealed_index(
    library: PackLibrary, told: dict[PackName, list[bytes]], token: bytes
) -> tuple[str, bytearray]:
    """An index object that tells what it is told to tell, true or not."""
    name = index_name(KEY.reference, token)
    tables, facts = [], []
    for number, (pack, ids) in enumerate(told.items()):
        entries = [
            entry._replace(content_id=content_id)
            for entry, content_id in zip(library.entries(pack), ids, strict=True)
        ]
        rows = rows_of_entries(entries)
        rows["pack"] = number
        tables.append(rows)
        facts.append(PackFacts(pack, library.sizes[pack], WRITER, len(rows), checksum(keys_of(rows))))
    builder = IndexBuilder(name, key=KEY, packs=facts)
    builder.add(run_of(joined(tables)).rows)
    return name, builder.finish()


def opened(name: str, data: bytes, key: DataKey = KEY) -> IndexObject:
    """All of an index object, opened."""
    found = open_head(name, data, key=key, size=len(data))
    found.open_directory(memoryview(data)[len(found.header) : found.first_block])
    offset, length = found.span(0, found.blocks)
    found.open_blocks(0, found.blocks, memoryview(data)[offset : offset + length])
    return found

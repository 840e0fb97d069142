"""Content by its id: reading it wherever it lies, and storing what is not there yet."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from stillframe.errors import DataError, InternalError, ObjectMissing, StoredDataCorrupt, StoreUnavailable
from stillframe.objectstore import ObjectStore
from stillframe.repository.codec import (
    ContentCodec,
    Place,
    authenticated,
    nonce_at,
    same_bytes,
    sealed_length,
)
from stillframe.repository.crypto import ContentBytes
from stillframe.repository.documents import create_object
from stillframe.repository.format import (
    NODE_PACK_TARGET,
    NODES,
    PACK_TARGET,
    PACKS,
    REF_BYTES,
    Codec,
    ContentKind,
)
from stillframe.repository.index import Location
from stillframe.repository.library import PackLibrary
from stillframe.repository.pack import Pack, PackName

_CACHE_BYTES = 32 << 20
_PACKS_IN_MEMORY = 3
_LONGEST_FLUSH = 600.0


class ContentReader:
    """Reads and authenticates content of one data key. Safe to use from several threads."""

    def __init__(self, store: ObjectStore, library: PackLibrary, codec: ContentCodec) -> None:
        self._store = store
        self._library = library
        self._codec = codec
        self._cache = _Cache(_CACHE_BYTES)

    def load(self, kind: ContentKind, content_id: bytes) -> bytes:
        """The bytes of this content. Recently read ones are answered from memory.

        Raises ObjectMissing when no pack has it, StoredDataCorrupt, and what the store raises.
        """
        known = self._cache.get(content_id)
        if known is None:
            known = self._read(kind, content_id)
            self._cache.put(content_id, known)
        return known

    def locate(self, kind: ContentKind, content_id: bytes) -> Location:
        """Where this content lies. Raises ObjectMissing, or StoredDataCorrupt when it is of another kind."""
        return self._places(kind, content_id)[0]

    def locate_all(self, kind: ContentKind, content_ids: Iterable[bytes]) -> dict[bytes, Location]:
        """As `locate`, for very many at once. Raises the same if that is true of any."""
        asked = set(content_ids)
        found = self._library.index.located(kind, asked)
        return found | {content_id: self.locate(kind, content_id) for content_id in asked - found.keys()}

    def vouches(self, kind: ContentKind, content_id: bytes, plain: ContentBytes) -> bool:
        """Whether these bytes, wherever they come from, are this content: its id is their keyed hash."""
        return self._library.key.content_id(kind, plain) == content_id

    def open(self, location: Location, content_id: bytes, sealed: ContentBytes) -> bytes:
        """The plain bytes of content whose sealed bytes were read; raises StoredDataCorrupt."""
        cipher = self._library.key.pack_cipher(location.pack.pack_id)
        return self._codec.open(cipher, sealed, content_id, location.place)

    def verify(self, location: Location, content_id: bytes, sealed: ContentBytes) -> None:
        """See that sealed bytes open to this content. Nodes are kept: who verifies them walks them next.

        Raises StoredDataCorrupt.
        """
        plain = self.open(location, content_id, sealed)
        if location.place.kind.is_node:
            self._cache.put(content_id, plain)

    def _read(self, kind: ContentKind, content_id: bytes) -> bytes:
        *spare, last = reversed(self._places(kind, content_id))
        for location in reversed(spare):
            try:
                return self._read_at(location, content_id)
            except DataError:
                # Another pack has the same content; only if all copies are bad is it lost.
                continue
        return self._read_at(last, content_id)

    def _read_at(self, location: Location, content_id: bytes) -> bytes:
        sealed = self._store.get_range(str(location.pack), location.place.offset, location.place.stored)
        return self.open(location, content_id, sealed)

    def _places(self, kind: ContentKind, content_id: bytes) -> list[Location]:
        places = list(self._library.index.find_all(content_id))
        if not places:
            raise ObjectMissing(
                f"The {kind.name} {content_id.hex()} is in no readable pack.", content=content_id.hex()
            )
        if any(location.place.kind is not kind for location in places):
            raise StoredDataCorrupt(f"The content {content_id.hex()} is not of the kind {kind.name}.")
        return places


class _Cache:
    """The most recently used contents, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()

    def get(self, content_id: bytes) -> bytes | None:
        with self._lock:
            data = self._entries.get(content_id)
            if data is not None:
                self._entries.move_to_end(content_id)
            return data

    def put(self, content_id: bytes, data: bytes) -> None:
        with self._lock:
            if content_id not in self._entries:
                self._held += len(data)
            self._entries[content_id] = data
            while self._held > self._limit:
                self._held -= len(self._entries.popitem(last=False)[1])


@dataclass(slots=True)
class ContentCounters:
    """What a writer has stored and found; bytes and pieces."""

    new_plain_bytes: int = 0
    new_stored_bytes: int = 0
    new_frames: int = 0
    new_nodes: int = 0
    known_frames: int = 0
    known_plain_bytes: int = 0


class ContentWriter:
    """Stores content of one snapshot, each piece once. Safe to use from several threads, which do the work.

    Compressing, sealing and checking happen in the calling thread, at a place of its own in the pack; finished
    packs are published by background threads, and at most three data packs are in memory. After a failure every
    further call raises it, and only `abort` remains.
    """

    def __init__(self, library: PackLibrary, codec: ContentCodec, publisher: "PackPublisher") -> None:
        self.counters = ContentCounters()
        self._library = library
        self._codec = codec
        self._publisher = publisher
        self._lock = threading.Lock()
        self._pending: set[bytes] = set()
        self._frames = _PackStream(publisher, prefix=PACKS, capacity=PACK_TARGET, sealed=self._sealed)
        self._nodes = _PackStream(publisher, prefix=NODES, capacity=NODE_PACK_TARGET, sealed=self._sealed)

    def save(self, kind: ContentKind, plain: ContentBytes) -> bytes:
        """Store content unless it is stored; returns its id.

        Raises StoredDataCorrupt when what was sealed does not open to the same bytes, and what publishing an
        earlier pack raised.
        """
        self._publisher.raise_failure()
        content_id = self._library.key.content_id(kind, plain)
        if self._is_new(kind, content_id, len(plain)):
            with self._publisher.failing():
                self._seal(kind, content_id, plain)
        return content_id

    def flush(self) -> None:
        """Publish what there is and wait until it is durable, so that it can be read; more may be stored after.

        Raises what publishing raised.
        """
        self._frames.finish()
        self._nodes.finish()
        self._publisher.wait()

    def finish(self) -> Mapping[PackName, int]:
        """Publish what is left and wait until all is durable; the new packs with their lengths in bytes.

        Raises what publishing raised.
        """
        self._frames.finish()
        self._nodes.finish()
        packs = self._publisher.finish()
        self.counters.new_stored_bytes = sum(packs.values())
        return packs

    def _is_new(self, kind: ContentKind, content_id: bytes, length: int) -> bool:
        """Whether the caller, and no other thread, has to store this content."""
        with self._lock:
            if content_id in self._pending:
                known = True
            else:
                found = self._library.adopt(content_id, own=self._publisher.names)
                known = found is not None
                if found is not None:
                    self._publisher.adopted.add(found.pack)
                else:
                    self._pending.add(content_id)
            self._count(kind, length, known=known)
        return not known

    def _count(self, kind: ContentKind, length: int, *, known: bool) -> None:
        counters = self.counters
        if known:
            counters.known_frames += not kind.is_node
            counters.known_plain_bytes += 0 if kind.is_node else length
        else:
            counters.new_frames += not kind.is_node
            counters.new_nodes += kind.is_node
            counters.new_plain_bytes += 0 if kind.is_node else length

    def _seal(self, kind: ContentKind, content_id: bytes, plain: ContentBytes) -> None:
        codec, packed = self._codec.compress(plain)
        stream = self._nodes if kind.is_node else self._frames
        stored = sealed_length(len(packed))
        pack, place = stream.reserve(content_id, stored=stored, plain=len(plain), kind=kind, codec=codec)
        with memoryview(pack.view(place)) as sealed:
            pack.cipher.encrypt_into(nonce_at(place.offset), packed, authenticated(content_id, place), sealed)
            # Nothing counts as written until it was decoded again: libraries have corrupted data before.
            if not same_bytes(self._codec.unsealed(pack.cipher, sealed, content_id, place), plain):
                raise StoredDataCorrupt(f"The {kind.name} {content_id.hex()} did not survive being sealed.")
        if pack.done():
            stream.hand_over(pack)

    def _sealed(self, pack: Pack) -> None:
        """A pack is complete: its content is found in the index from now on."""
        self._library.index.add(pack.name, pack.entries)
        with self._lock:
            self._pending.difference_update(entry.content_id for entry in pack.entries)


class _PackStream:
    """Packs of one sort, one after the other."""

    def __init__(
        self, publisher: "PackPublisher", *, prefix: str, capacity: int, sealed: Callable[[Pack], None]
    ) -> None:
        self._publisher = publisher
        self._prefix = prefix
        self._capacity = capacity
        self._sealed = sealed
        self._lock = threading.Lock()
        self._pack: Pack | None = None
        self._room = threading.BoundedSemaphore(_PACKS_IN_MEMORY)

    def reserve(
        self, content_id: bytes, *, stored: int, plain: int, kind: ContentKind, codec: Codec
    ) -> tuple[Pack, Place]:
        """A place of that length in a pack that has room for it."""
        while True:
            pack = self._current()
            place = pack.reserve(content_id, stored=stored, plain=plain, kind=kind, codec=codec)
            if place is not None:
                return pack, place
            self._retire(pack)

    def finish(self) -> None:
        """Hand over the last pack."""
        if self._pack is not None:
            self._retire(self._pack)

    def hand_over(self, pack: Pack) -> None:
        """Give a complete pack to the background."""
        self._sealed(pack)
        self._publisher.publish(pack, release=self._room.release)

    def _current(self) -> Pack:
        with self._lock:
            if self._pack is None:
                self._wait_for_room()
                self._pack = self._publisher.new_pack(self._prefix, capacity=self._capacity)
            return self._pack

    def _wait_for_room(self) -> None:
        if not self._room.acquire(timeout=_LONGEST_FLUSH):
            raise StoreUnavailable(f"The object store took no pack within {_LONGEST_FLUSH:g} s.")
        self._publisher.raise_failure()

    def _retire(self, pack: Pack) -> None:
        with self._lock:
            if self._pack is pack:
                self._pack = None
        if pack.retire():
            self.hand_over(pack)


class PackPublisher:
    """Names packs, publishes them in the background, and can take all of them away again."""

    def __init__(
        self, store: ObjectStore, library: PackLibrary, *, writer: bytes, entropy: Callable[[int], bytes]
    ) -> None:
        self.names: set[PackName] = set()
        self.adopted: set[PackName] = set()
        self._store = store
        self._library = library
        self._writer = writer
        self._entropy = entropy
        self._lock = threading.Lock()
        self._published: dict[PackName, int] = {}
        self._failure: BaseException | None = None
        self._under_way: set[Future[None]] = set()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="stillframe-pack")

    def new_pack(self, prefix: str, *, capacity: int) -> Pack:
        """An empty pack under a fresh random name."""
        key = self._library.key
        name = PackName(prefix=prefix, key_reference=key.reference, pack_id=self._entropy(REF_BYTES))
        self.names.add(name)
        return Pack(name, key, writer=self._writer, capacity=capacity)

    def publish(self, pack: Pack, *, release: Callable[[], None]) -> None:
        """Publish a complete pack soon; `release` is called when its memory is free again."""
        self.raise_failure()
        published = self._threads.submit(self._publish, pack, release)
        with self._lock:
            self._under_way = {published, *(one for one in self._under_way if not one.done())}

    def wait(self) -> None:
        """Return when every pack so far is durable; raises what went wrong."""
        with self._lock:
            under_way = set(self._under_way)
        wait(under_way)
        self.raise_failure()

    def finish(self) -> Mapping[PackName, int]:
        """Wait until everything is durable, and see that what was relied on is still there.

        Returns the new packs with their lengths; raises what went wrong, ObjectMissing for a vanished pack.
        """
        self._threads.shutdown(wait=True)
        self.raise_failure()
        self._require_adopted()
        return self._published

    def settle(self) -> None:
        """The snapshot is made: later writers of this process may rely on its packs."""
        self._library.settle(self._published, writer=self._writer)

    def stop(self) -> None:
        """Begin no further pack, and wait for those that are under way."""
        self.fail(InternalError("The snapshot was aborted."))
        self._threads.shutdown(wait=True)

    def take_away(self) -> None:
        """After `stop`: remove every pack that may have reached the store."""
        self._library.discard(self.names)
        for name in list(self.names):
            self._store.delete(str(name))

    def fail(self, error: BaseException) -> None:
        """Let every further step raise this; the first failure is kept."""
        with self._lock:
            self._failure = self._failure or error

    def raise_failure(self) -> None:
        """Raise what went wrong, if something did."""
        if self._failure is not None:
            raise self._failure

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """Whatever is raised inside ends the whole snapshot: a place in a pack would stay without its bytes."""
        try:
            yield
        except BaseException as error:
            self.fail(error)
            raise

    def _publish(self, pack: Pack, release: Callable[[], None]) -> None:
        try:
            if self._failure is None:
                data = pack.seal()
                create_object(self._store, str(pack.name), data)
                with self._lock:
                    self._published[pack.name] = len(data)
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread, which raises it
            self.fail(error)
        finally:
            release()

    def _require_adopted(self) -> None:
        relied_on = {str(name) for name in self.adopted - self.names}
        for prefix in (PACKS, NODES) if relied_on else ():
            relied_on -= {
                stored.name for stored in self._store.list(f"{prefix}{self._library.key.reference}/")
            }
        for name in relied_on:
            raise ObjectMissing(f"{name} vanished while a snapshot relied on it.", object=name)

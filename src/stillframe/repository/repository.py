"""The front door: one repository of snapshots in one object store.

The commit protocol is on the first page of docs/spec/repository-v1.md. In short: everything a snapshot refers
to is durable before its document is created, and nothing is removed while anybody may rely on it.
"""

import contextlib
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Self

import msgspec
from blake3 import blake3

from stillframe.domain.clock import Clock, IdSource, SystemClock
from stillframe.domain.identifiers import KmsKeyId, SnapshotId
from stillframe.errors import DataError, InvalidRequest, KeyUnavailable, ObjectMissing
from stillframe.kms import KeyManagement
from stillframe.objectstore import ObjectStore
from stillframe.repository import check
from stillframe.repository.accounting import RepositoryUsage, account
from stillframe.repository.census import unmark_pin
from stillframe.repository.check import CheckProgress, CheckReport, Level
from stillframe.repository.codec import ContentCodec
from stillframe.repository.collecting import Sweep, SweepPolicy, SweepReport
from stillframe.repository.config import DataKeys, open_config
from stillframe.repository.content import ContentReader
from stillframe.repository.crypto import DataKey
from stillframe.repository.documents import replace_object
from stillframe.repository.epochs import Epoch
from stillframe.repository.facts import (
    AttributesDocument,
    PinDocument,
    SnapshotAttributes,
    SnapshotDocument,
    SnapshotFacts,
    SnapshotStatistics,
)
from stillframe.repository.format import ATTRIBUTES, EPOCHS, PINS, SNAPSHOTS
from stillframe.repository.indexing import IndexKeeper, IndexPolicy, IndexState
from stillframe.repository.library import PackLibrary, exists, present_packs
from stillframe.repository.measure import RepositoryStatistics, measure
from stillframe.repository.pins import create_pin
from stillframe.repository.reader import SnapshotReader
from stillframe.repository.retired import retire
from stillframe.repository.session import WriteSession
from stillframe.repository.tree import Tree
from stillframe.repository.vault import Vault
from stillframe.repository.verified import CheckMemory
from stillframe.repository.walking import NodeMemory
from stillframe.repository.writer import Commit, End, SnapshotWriter


class Repository:
    """Snapshots in an object store. Safe to use from several threads, and several processes on one store.

    Any method may raise what the store raises (StoreUnavailable, DiskFull, PermissionMissing), and KeyUnavailable
    when the key of a snapshot is missing or disabled.
    """

    def __init__(
        self,
        store: ObjectStore,
        data_keys: DataKeys,
        *,
        repository_id: uuid.UUID,
        clock: Clock,
        entropy: Callable[[int], bytes],
        index_policy: IndexPolicy | None = None,
    ) -> None:
        self._store = store
        self._keys = data_keys
        self._id = repository_id
        self._clock = clock
        self._entropy = entropy
        self._vault = Vault(store, data_keys, repository_id=repository_id, entropy=entropy)
        self._indexes = IndexKeeper(store, policy=index_policy or IndexPolicy(), entropy=entropy)
        self._lock = threading.Lock()
        self._libraries: dict[str, PackLibrary] = {}
        self._nodes: dict[str, NodeMemory] = {}
        self._swept: tuple[bytes, SweepReport] | None = None
        """What was listed when a sweep last found nothing to do."""

    @classmethod
    def create_or_open(
        cls,
        store: ObjectStore,
        keys: KeyManagement,
        *,
        clock: Clock | None = None,
        ids: IdSource = uuid.uuid4,
        entropy: Callable[[int], bytes] = os.urandom,
        index_policy: IndexPolicy | None = None,
    ) -> Self:
        """The repository in this store, made if the store is empty. `entropy` gives that many random bytes.

        Raises FormatUnknown for a repository of a later release, StoredDataCorrupt when it lost its identity.
        """
        clock = clock or SystemClock()
        config = open_config(store, ids=ids)
        data_keys = DataKeys(store, keys, config=config, entropy=entropy)
        return cls(
            store,
            data_keys,
            repository_id=config.id,
            clock=clock,
            entropy=entropy,
            index_policy=index_policy,
        )

    @property
    def id(self) -> uuid.UUID:
        """The repository's identity; every document and key in it is bound to it."""
        return self._id

    def begin_snapshot(
        self,
        *,
        key_id: KmsKeyId,
        snapshot_id: SnapshotId | None = None,
        parent: SnapshotId | None = None,
        level: int = 1,
    ) -> SnapshotWriter:
        """Begin a snapshot under this KMS key; `level` is zstd's. Without an id it gets a random one.

        Raises Conflict when a snapshot of this id exists or is being written, ObjectMissing when there is no such
        parent; InvalidRequest when the parent is under another key (nothing is ever shared across keys: begin
        without a parent then).
        """
        snapshot_id = snapshot_id or SnapshotId(self._random_id())
        key = self._keys.ensure(key_id)
        session = WriteSession(self._store, snapshot_id=snapshot_id, clock=self._clock)
        try:
            # Before the packs are listed: what the parent refers to has been stored by then.
            document = self._parent_document(parent, key_reference=key.reference)
            # Packs that carry our id are those of an attempt that died: we hold its claim, and have none yet.
            library = self._library(key.reference)
            library.refresh(finished=frozenset({snapshot_id.bytes}), at_least=session.generation)
            reader = ContentReader(self._store, library, ContentCodec(key))
            content = session.content(library, level=level, entropy=self._entropy)
        except BaseException:
            session.end(committed=False)
            raise
        return SnapshotWriter(
            content=content,
            reader=reader,
            parent=Tree(reader, document.root) if document is not None else None,
            parent_document=document,
            commit=self._committer(session, key, snapshot_id=snapshot_id, parent_id=parent),
            end=self._ender(session, library),
        )

    def open_snapshot(self, snapshot_id: SnapshotId) -> SnapshotReader:
        """A reader of a snapshot; close it, for what it may read is kept until then.

        The attributes in its document are those of the moment of creation if the present ones are damaged: an
        auxiliary document must not stand in the way of a restore. Raises ObjectMissing when there is no such
        snapshot, StoredDataCorrupt and FormatUnknown for a damaged or newer document.
        """
        return self._reader(lambda: self._vault.snapshot(snapshot_id))

    def pin_snapshot(self, snapshot_id: SnapshotId, *, pin_id: uuid.UUID) -> None:
        """Keep a snapshot's content until `unpin`, through deletion of the snapshot and any end of this process.

        Durable when this returns; doing it again does nothing. Raises ObjectMissing when there is no such
        snapshot, Conflict when the pin is one of another snapshot, StoredDataCorrupt and FormatUnknown.
        """
        with self._epoch():
            create_pin(
                self._store, self._vault, self._keys, self._clock, snapshot_id=snapshot_id, pin_id=pin_id
            )

    def open_pinned(self, pin_id: uuid.UUID) -> SnapshotReader:
        """A reader of a pinned snapshot, whether or not it has been deleted; close it.

        The attributes are those of the moment of creation once the snapshot is deleted. Raises ObjectMissing when
        there is no such pin, and else as `open_snapshot`.
        """
        return self._reader(lambda: self._vault.pin(pin_id).snapshot)

    def unpin(self, pin_id: uuid.UUID) -> None:
        """Let go of what a pin keeps; one that is not there is no error. Open readers go on reading."""
        with self._epoch():
            retire(self._store, f"{PINS}{pin_id}", token=self._random_id())
            unmark_pin(self._store, pin_id)

    def pin_ids(self) -> Iterator[uuid.UUID]:
        """The ids of all pins, in their order. Raises StoredDataCorrupt for one that has no UUID for a name."""
        return self._vault.pin_ids()

    def snapshot_ids(self) -> Iterator[SnapshotId]:
        """The ids of all snapshots, in their order, without opening any.

        Raises StoredDataCorrupt for an object among the documents that has no UUID for a name.
        """
        return self._vault.snapshot_ids()

    def documents(self) -> Iterator[SnapshotDocument]:
        """Every snapshot's document, with its present attributes. One deleted meanwhile is left out.

        Raises, at the first one that cannot be read, what `document` raises; to get past it, go through
        `snapshot_ids` and `document`.
        """
        for snapshot_id in self.snapshot_ids():
            try:
                yield self.document(snapshot_id)
            except ObjectMissing:
                if self._exists(snapshot_id):
                    raise

    def document(self, snapshot_id: SnapshotId) -> SnapshotDocument:
        """A snapshot's document, with its present attributes.

        Raises ObjectMissing when there is no such snapshot (or its attributes are lost: `object` in the facts
        tells), StoredDataCorrupt and FormatUnknown.
        """
        return self._with_attributes(self.stored_document(snapshot_id))

    def replace_attributes(self, snapshot_id: SnapshotId, attributes: SnapshotAttributes) -> SnapshotDocument:
        """Change what the API shows of a snapshot, in one atomic overwrite; returns the new document.

        Of two changes at once the last one stays: the catalog orders them. Raises as `document`.
        """
        document = self.stored_document(snapshot_id)
        present = self.stored_attributes(document)
        changed = msgspec.structs.replace(
            present,
            generation=present.generation + 1,
            changed_at=self._clock.now(),
            attributes=attributes,
        )
        name = f"{ATTRIBUTES}{snapshot_id}"
        seal = self._vault.sealer(self._keys.cached(document.key_reference))
        replace_object(self._store, name, seal(changed, name))
        return _replaced(document, attributes)

    def delete_snapshot(self, snapshot_id: SnapshotId) -> None:
        """Remove a snapshot; no other one is affected, and deleting one that is not there does nothing.

        Its content stays until a sweep; open readers go on reading.
        """
        # Somebody else may delete it at the same time, and the copy must not outlive what it refers to.
        with self._epoch():
            retire(self._store, f"{SNAPSHOTS}{snapshot_id}", token=self._random_id())
        self._store.delete(f"{ATTRIBUTES}{snapshot_id}")

    def sweep(self, *, dry_run: bool = False, policy: SweepPolicy | None = None) -> SweepReport:
        """Remove what no snapshot and no pin refers to; with `dry_run` only say what that would be.

        Nobody waits for it, and it waits for nobody: what open writers and readers may rely on is left to a later
        sweep. Raises Conflict while another sweep runs, and, without having removed anything, whatever keeps it
        from knowing what is needed: an unreadable document, a missing node.
        """
        before = _listing(self._store)
        if self._swept is not None and self._swept[0] == before and not dry_run and policy is None:
            return self._swept[1]
        sweep = Sweep(self._store, self._vault, self, policy=policy or SweepPolicy(), entropy=self._entropy)
        if dry_run:
            return sweep.plan()
        report = sweep.run()
        after = _listing(self._store)
        # Nothing to do is remembered, so that a sweep every minute does not walk all trees every minute; but not
        # while somebody is open, for nothing that is listed tells when they die.
        quiet = after == before and not any(self._store.list(EPOCHS))
        self._swept = (after, report) if quiet else None
        return report

    def check(
        self,
        *,
        level: Level = Level.STRUCTURE,
        remembered_for: timedelta | None = None,
        on_progress: Callable[[CheckProgress], None] | None = None,
    ) -> CheckReport:
        """Look for damage; see `Level`. Snapshots, restores and sweeps may run meanwhile.

        At level BYTES every stored byte is read, but for packs that a check has read within `remembered_for` and
        found in order; None believes none. Damage is reported, not raised; a store that does not answer is
        raised, because it says nothing about the data.
        """
        with self._epoch():
            return check.check(
                self._store,
                self,
                level=level,
                memory=lambda key: CheckMemory(
                    self._store, self._vault, key=key, clock=self._clock, remembered_for=remembered_for
                ),
                on_progress=on_progress,
            )

    def usage(self) -> RepositoryUsage:
        """What each snapshot refers to, and what it alone: the bytes that come back when it is deleted.

        Walks every tree. Raises what reading documents and nodes raises.
        """
        with self._epoch():
            documents = [self._vault.snapshot(snapshot_id) for snapshot_id in self.snapshot_ids()]
            pinned = [self._vault.pin(pin_id).snapshot for pin_id in self.pin_ids()]
            stored = sum(present_packs(self._store).values())
            return account(documents, pinned, self, stored_bytes=stored)

    def statistics(self) -> RepositoryStatistics:
        """What is stored, from the listing alone."""
        return measure(self._store)

    def stored_document(self, snapshot_id: SnapshotId) -> SnapshotDocument:
        """The document as it was created, with the attributes of that moment. Raises as `document`."""
        return self._vault.snapshot(snapshot_id)

    def stored_pin(self, pin_id: uuid.UUID) -> PinDocument:
        """A pin, as it was created."""
        return self._vault.pin(pin_id)

    def stored_attributes(self, document: SnapshotDocument) -> AttributesDocument:
        """The stored form of a snapshot's present attributes; ObjectMissing when they are lost."""
        return self._vault.attributes(document)

    def content_of(self, reference: str) -> tuple[PackLibrary, ContentReader]:
        """The packs of a data key, freshly listed, and their content; for this package's own use."""
        library = self._looked_into(reference)
        return library, ContentReader(self._store, library, ContentCodec(library.key))

    def nodes_of(self, reference: str) -> NodeMemory:
        """What sweeps of this process have read of the nodes of a data key; for this package's own use."""
        with self._lock:
            return self._nodes.setdefault(reference, NodeMemory())

    def keep_index(self, libraries: Iterable[PackLibrary]) -> None:
        """See to the index objects of these packs, after a sweep; for this package's own use. Never raises."""
        for library in libraries:
            self._indexes.after_sweep(library)
        self._indexes.remove_lost()

    def rebuild_index(self) -> IndexState:
        """Make all index objects anew from the packs' own trailers, beside writers and readers.

        Raises Conflict while somebody else writes some, and KeyUnavailable when a data key cannot be had.
        """
        for reference in self.data_key_references():
            key = self._keys.cached(reference)
            self._indexes.rebuild(PackLibrary(self._store, key, believe_index=False))
        return self.index_state()

    def index_state(self) -> IndexState:
        """How many packs the index objects tell of, for the data keys that can be had."""
        states = [self._indexes.state(library) for library in self._readable_libraries()]
        return IndexState(
            objects=sum(state.objects for state in states),
            bytes=sum(state.bytes for state in states),
            packs=sum(state.packs for state in states),
            covered=sum(state.covered for state in states),
        )

    def rewrap(self, kms_key_id: KmsKeyId) -> bool:
        """Wrap what is encrypted under this KMS key under its newest material; False when nothing is.

        Nothing but the wrapped data key changes: no content is written again, and every snapshot stays as it is.
        """
        return self._keys.rewrap(kms_key_id)

    def data_key_references(self) -> list[str]:
        """The references of all data keys."""
        return self._keys.references()

    def test_data_key(self, reference: str) -> None:
        """Raise what keeps a data key from being used, if anything does."""
        self._keys.unwrap(reference)

    def _reader(self, find: Callable[[], SnapshotDocument]) -> SnapshotReader:
        epoch = self._opened_epoch()
        try:
            document = find()
            with contextlib.suppress(DataError):
                document = self._with_attributes(document)
            key = self._keys.unwrap(document.key_reference)
            library = self._looked_into(key.reference)
        except BaseException:
            epoch.end()
            raise
        content = ContentReader(self._store, library, ContentCodec(key))
        return SnapshotReader(document, store=self._store, content=content, release=epoch.end)

    def _opened_epoch(self) -> Epoch:
        return Epoch.opened(self._store, self._random_id(), clock=self._clock)

    @contextlib.contextmanager
    def _epoch(self) -> Iterator[None]:
        epoch = self._opened_epoch()
        try:
            yield
        finally:
            epoch.end()

    def _random_id(self) -> uuid.UUID:
        return uuid.UUID(bytes=self._entropy(16), version=4)

    def _library(self, reference: str) -> PackLibrary:
        key = self._keys.cached(reference)
        with self._lock:
            return self._libraries.setdefault(reference, PackLibrary(self._store, key))

    def _readable_libraries(self) -> Iterator[PackLibrary]:
        for reference in self.data_key_references():
            try:
                library = self._library(reference)
            except (DataError, KeyUnavailable):
                continue
            yield library

    def _looked_into(self, reference: str) -> PackLibrary:
        library = self._library(reference)
        library.look()
        return library

    def _ender(self, session: WriteSession, library: PackLibrary) -> End:
        def end(*, committed: bool) -> None:
            session.end(committed=committed)
            if committed:
                self._indexes.after_commit(library)

        return end

    def _parent_document(self, parent: SnapshotId | None, *, key_reference: str) -> SnapshotDocument | None:
        if parent is None:
            return None
        document = self.stored_document(parent)
        if document.key_reference != key_reference:
            raise InvalidRequest("The parent snapshot is encrypted under another key.")
        return document

    def _committer(
        self, session: WriteSession, key: DataKey, *, snapshot_id: SnapshotId, parent_id: SnapshotId | None
    ) -> Commit:
        def commit(
            facts: SnapshotFacts, statistics: SnapshotStatistics, root: bytes | None, *, visible: bool
        ) -> SnapshotDocument:
            document = SnapshotDocument(
                repository_id=self._id,
                snapshot_id=snapshot_id,
                parent_id=parent_id,
                key_reference=key.reference,
                committed_at=self._clock.now(),
                root=root,
                facts=facts,
                statistics=statistics,
            )
            if visible:
                session.commit(document, self._vault.sealer(key))
            return document

        return commit

    def _with_attributes(self, document: SnapshotDocument) -> SnapshotDocument:
        return _replaced(document, self.stored_attributes(document).attributes)

    def _exists(self, snapshot_id: SnapshotId) -> bool:
        return exists(self._store, f"{SNAPSHOTS}{snapshot_id}")


def _replaced(document: SnapshotDocument, attributes: SnapshotAttributes) -> SnapshotDocument:
    facts = msgspec.structs.replace(document.facts, attributes=attributes)
    return msgspec.structs.replace(document, facts=facts)


def _listing(store: ObjectStore) -> bytes:
    """A digest of the names and lengths of all objects."""
    digest = blake3()
    for stored in store.list(""):
        digest.update(f"{stored.name} {stored.size}\n".encode())
    return bytes(digest.digest())

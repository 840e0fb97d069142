"""The front door: one repository of snapshots in one object store.

The commit protocol is on the first page of docs/spec/repository-v1.md. In short: everything a snapshot refers
to is durable before its document is created, and nothing is removed while anybody may rely on it.
"""

import contextlib
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Self

import msgspec

from stillframe.domain.clock import Clock, IdSource, SystemClock
from stillframe.domain.identifiers import KmsKeyId, SnapshotId
from stillframe.errors import Conflict, DataError, InvalidRequest, ObjectMissing, StoredDataCorrupt
from stillframe.kms import KeyManagement
from stillframe.objectstore import Claim, ObjectStore
from stillframe.repository import check, sweep
from stillframe.repository.check import CheckProgress, CheckReport, Level
from stillframe.repository.codec import ContentCodec
from stillframe.repository.config import DataKeys, open_config
from stillframe.repository.content import ContentReader
from stillframe.repository.crypto import NONCE_BYTES, DataKey
from stillframe.repository.documents import (
    Document,
    document_key_reference,
    open_document,
    replace_object,
    seal_document,
)
from stillframe.repository.facts import (
    AttributesDocument,
    SnapshotAttributes,
    SnapshotDocument,
    SnapshotFacts,
    SnapshotStatistics,
)
from stillframe.repository.format import ATTRIBUTES, CONTENT_CLAIM, SNAPSHOTS, WAITING_CLAIM
from stillframe.repository.library import PackLibrary, exists
from stillframe.repository.measure import RepositoryStatistics, measure
from stillframe.repository.reader import SnapshotReader
from stillframe.repository.session import Seal, WriteSession
from stillframe.repository.sweep import SweepReport
from stillframe.repository.tree import Tree
from stillframe.repository.writer import Commit, SnapshotWriter

_SWEEP_PATIENCE = 120.0
_SWEEP_POLL = 0.02


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
    ) -> None:
        self._store = store
        self._keys = data_keys
        self._id = repository_id
        self._clock = clock
        self._entropy = entropy
        self._lock = threading.Lock()
        self._libraries: dict[str, PackLibrary] = {}

    @classmethod
    def create_or_open(
        cls,
        store: ObjectStore,
        keys: KeyManagement,
        *,
        clock: Clock | None = None,
        ids: IdSource = uuid.uuid4,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> Self:
        """The repository in this store, made if the store is empty. `entropy` gives that many random bytes.

        Raises FormatUnknown for a repository of a later release, StoredDataCorrupt when it lost its identity.
        """
        clock = clock or SystemClock()
        config = open_config(store, ids=ids)
        data_keys = DataKeys(store, keys, config=config, entropy=entropy)
        return cls(store, data_keys, repository_id=config.id, clock=clock, entropy=entropy)

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

        Raises Conflict when a snapshot of this id exists or is being written, or a sweep does not end;
        ObjectMissing when there is no such parent; InvalidRequest when the parent is under another key (nothing
        is ever shared across keys: begin without a parent then).
        """
        snapshot_id = snapshot_id or SnapshotId(uuid.UUID(bytes=self._entropy(16), version=4))
        key = self._keys.ensure(key_id)
        session = WriteSession(
            self._store, snapshot_id=snapshot_id, content_claim=self.hold_content(), clock=self._clock
        )
        try:
            # Packs that carry our id are those of an attempt that died: we hold its claim, and have none yet.
            library = self._refreshed_library(key.reference, finished=frozenset({snapshot_id.bytes}))
            reader = ContentReader(self._store, library, ContentCodec(key))
            document = self._parent_document(parent, key_reference=key.reference)
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
            end=session.end,
        )

    def open_snapshot(self, snapshot_id: SnapshotId) -> SnapshotReader:
        """A reader of a snapshot; close it, for it keeps sweeps out.

        The attributes in its document are those of the moment of creation if the present ones are damaged: an
        auxiliary document must not stand in the way of a restore. Raises ObjectMissing when there is no such
        snapshot, StoredDataCorrupt and FormatUnknown for a damaged or newer document.
        """
        claim = self.hold_content()
        try:
            document = self.stored_document(snapshot_id)
            with contextlib.suppress(DataError):
                document = self._with_attributes(document)
            key = self._keys.unwrap(document.key_reference)
            library = self._refreshed_library(key.reference)
        except BaseException:
            claim.release()
            raise
        content = ContentReader(self._store, library, ContentCodec(key))
        return SnapshotReader(document, store=self._store, content=content, release=claim.release)

    def snapshot_ids(self) -> Iterator[SnapshotId]:
        """The ids of all snapshots, in their order, without opening any.

        Raises StoredDataCorrupt for an object among the documents that has no UUID for a name.
        """
        for stored in self._store.list(SNAPSHOTS):
            yield _snapshot_id(stored.name)

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
        seal = self._sealer(self._keys.cached(document.key_reference))
        replace_object(self._store, name, seal(changed, name))
        return _replaced(document, attributes)

    def delete_snapshot(self, snapshot_id: SnapshotId) -> None:
        """Remove a snapshot; no other one is affected, and deleting one that is not there does nothing.

        Its content stays until a sweep; open readers go on reading.
        """
        self._store.delete(f"{SNAPSHOTS}{snapshot_id}")
        self._store.delete(f"{ATTRIBUTES}{snapshot_id}")

    def sweep(self, *, dry_run: bool = False) -> SweepReport:
        """Remove what no snapshot refers to; with `dry_run` only say what that would be.

        Raises Conflict while a writer or reader is open in any process, and, without having removed anything,
        whatever keeps it from knowing what is needed: an unreadable document, a missing node or key.
        """
        with self._claim_content_alone():
            return sweep.sweep(self._store, self, dry_run=dry_run)

    def check(
        self, *, level: Level = Level.STRUCTURE, on_progress: Callable[[CheckProgress], None] | None = None
    ) -> CheckReport:
        """Look for damage; see `Level`. Sweeps are kept out meanwhile, snapshots are not.

        Damage is reported, not raised; a store that does not answer is raised, because it says nothing about
        the data.
        """
        with self.hold_content():
            return check.check(self._store, self, level=level, on_progress=on_progress)

    def statistics(self) -> RepositoryStatistics:
        """What is stored, from the listing alone."""
        return measure(self._store)

    def hold_content(self) -> Claim:
        """A claim that keeps sweeps out; waits for a sweep that is running.

        Raises Conflict when it does not end within two minutes.
        """
        with contextlib.suppress(Conflict):
            return self._store.claim(CONTENT_CLAIM, shared=True)
        with contextlib.ExitStack() as waiting:
            return self._awaited_content(waiting)

    def stored_document(self, snapshot_id: SnapshotId) -> SnapshotDocument:
        """The document as it was created, with the attributes of that moment. Raises as `document`."""
        name = f"{SNAPSHOTS}{snapshot_id}"
        document = self._opened(SnapshotDocument, name)
        if document.snapshot_id != snapshot_id or document.repository_id != self._id:
            raise StoredDataCorrupt(f"{name} describes another snapshot.", object=name)
        return document

    def stored_attributes(self, document: SnapshotDocument) -> AttributesDocument:
        """The stored form of a snapshot's present attributes; ObjectMissing when they are lost."""
        name = f"{ATTRIBUTES}{document.snapshot_id}"
        attributes = self._opened(AttributesDocument, name)
        if attributes.snapshot_id != document.snapshot_id:
            raise StoredDataCorrupt(f"{name} describes another snapshot.", object=name)
        return attributes

    def content_of(self, reference: str) -> tuple[PackLibrary, ContentReader]:
        """The packs of a data key, freshly listed, and their content; for this package's own use."""
        library = self._refreshed_library(reference)
        return library, ContentReader(self._store, library, ContentCodec(library.key))

    def data_key_references(self) -> list[str]:
        """The references of all data keys."""
        return self._keys.references()

    def test_data_key(self, reference: str) -> None:
        """Raise what keeps a data key from being used, if anything does."""
        self._keys.unwrap(reference)

    def _awaited_content(self, waiting: contextlib.ExitStack) -> Claim:
        """The content claim, after the sweep that holds it; the next sweep is kept from beginning meanwhile."""
        deadline = self._clock.monotonic() + _SWEEP_PATIENCE
        announced = False
        while self._clock.monotonic() < deadline:
            if not announced:
                with contextlib.suppress(Conflict):
                    waiting.enter_context(self._store.claim(WAITING_CLAIM, shared=True))
                    announced = True
            with contextlib.suppress(Conflict):
                return self._store.claim(CONTENT_CLAIM, shared=True)
            self._clock.sleep(_SWEEP_POLL)
        raise Conflict(f"A sweep has not ended within {_SWEEP_PATIENCE:g} s.")

    def _claim_content_alone(self) -> Claim:
        try:
            with self._store.claim(WAITING_CLAIM):
                return self._store.claim(CONTENT_CLAIM)
        except Conflict:
            raise Conflict(
                "A sweep cannot begin while a snapshot is being written or read.",
                hint="Repeat it when captures and restores have ended.",
            ) from None

    def _refreshed_library(self, reference: str, *, finished: frozenset[bytes] = frozenset()) -> PackLibrary:
        key = self._keys.cached(reference)
        with self._lock:
            library = self._libraries.setdefault(reference, PackLibrary(self._store, key))
        library.refresh(finished=finished)
        return library

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
            facts: SnapshotFacts, statistics: SnapshotStatistics, root: bytes | None
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
            session.commit(document, self._sealer(key))
            return document

        return commit

    def _sealer(self, key: DataKey) -> Seal:
        def seal(document: msgspec.Struct, name: str) -> bytes:
            nonce = self._entropy(NONCE_BYTES)
            return seal_document(document, name=name, key=key, repository_id=self._id, nonce=nonce)

        return seal

    def _opened(self, kind: type[Document], name: str) -> Document:
        data = self._store.get(name)
        key = self._keys.cached(document_key_reference(data, name=name))
        return open_document(kind, data, name=name, key=key, repository_id=self._id)

    def _with_attributes(self, document: SnapshotDocument) -> SnapshotDocument:
        return _replaced(document, self.stored_attributes(document).attributes)

    def _exists(self, snapshot_id: SnapshotId) -> bool:
        return exists(self._store, f"{SNAPSHOTS}{snapshot_id}")


def _replaced(document: SnapshotDocument, attributes: SnapshotAttributes) -> SnapshotDocument:
    facts = msgspec.structs.replace(document.facts, attributes=attributes)
    return msgspec.structs.replace(document, facts=facts)


def _snapshot_id(name: str) -> SnapshotId:
    text = name.removeprefix(SNAPSHOTS)
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != text:
        raise StoredDataCorrupt(f"{name} is not the name of a snapshot's document.", object=name)
    return SnapshotId(parsed)

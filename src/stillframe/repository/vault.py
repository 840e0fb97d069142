"""Every sealed document of one repository by its name: which key it is under, and whether it is the right one."""

import uuid
from collections.abc import Callable, Iterator

import msgspec

from stillframe.domain.identifiers import SnapshotId
from stillframe.errors import StoredDataCorrupt
from stillframe.objectstore import ObjectStore
from stillframe.repository.config import DataKeys
from stillframe.repository.crypto import NONCE_BYTES, DataKey
from stillframe.repository.documents import Document, document_key_reference, open_document, seal_document
from stillframe.repository.facts import AttributesDocument, PinDocument, SnapshotDocument
from stillframe.repository.format import ATTRIBUTES, PINS, SNAPSHOTS

Seal = Callable[[msgspec.Struct, str], bytes]
"""Seals a document for its name."""


class Vault:
    """Opens and seals. Methods that open raise ObjectMissing, StoredDataCorrupt, FormatUnknown, KeyUnavailable."""

    def __init__(
        self,
        store: ObjectStore,
        keys: DataKeys,
        *,
        repository_id: uuid.UUID,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._keys = keys
        self._id = repository_id
        self._entropy = entropy

    def snapshot(self, snapshot_id: SnapshotId) -> SnapshotDocument:
        """A snapshot's document as it was created, with the attributes of that moment."""
        name = f"{SNAPSHOTS}{snapshot_id}"
        return self.snapshot_from(self._store.get(name), name=name)

    def snapshot_from(self, data: bytes, *, name: str) -> SnapshotDocument:
        """The same from bytes that were stored under this name."""
        document = self.opened(SnapshotDocument, data, name)
        if name != f"{SNAPSHOTS}{document.snapshot_id}" or document.repository_id != self._id:
            raise StoredDataCorrupt(f"{name} describes another snapshot.", object=name)
        return document

    def attributes(self, document: SnapshotDocument) -> AttributesDocument:
        """The stored form of a snapshot's present attributes; ObjectMissing when they are lost."""
        name = f"{ATTRIBUTES}{document.snapshot_id}"
        attributes = self.opened(AttributesDocument, self._store.get(name), name)
        if attributes.snapshot_id != document.snapshot_id:
            raise StoredDataCorrupt(f"{name} describes another snapshot.", object=name)
        return attributes

    def pin(self, pin_id: uuid.UUID) -> PinDocument:
        """A pin."""
        name = f"{PINS}{pin_id}"
        return self.pin_from(self._store.get(name), name=name)

    def pin_from(self, data: bytes, *, name: str) -> PinDocument:
        """The same from bytes that were stored under this name."""
        pin = self.opened(PinDocument, data, name)
        if name != f"{PINS}{pin.pin_id}" or pin.snapshot.repository_id != self._id:
            raise StoredDataCorrupt(f"{name} is another pin.", object=name)
        return pin

    def snapshot_behind(self, data: bytes, *, name: str) -> SnapshotDocument:
        """The snapshot's document that an object stored under this name is, or has in it."""
        if name.startswith(PINS):
            return self.pin_from(data, name=name).snapshot
        return self.snapshot_from(data, name=name)

    def snapshot_ids(self) -> Iterator[SnapshotId]:
        """The ids of all snapshots in their order. Raises StoredDataCorrupt for a name that is no id."""
        for stored in self._store.list(SNAPSHOTS):
            yield SnapshotId(_identifier(stored.name, SNAPSHOTS))

    def pin_ids(self) -> Iterator[uuid.UUID]:
        """The ids of all pins in their order. Raises StoredDataCorrupt for a name that is no id."""
        for stored in self._store.list(PINS):
            yield _identifier(stored.name, PINS)

    def sealer(self, key: DataKey) -> Seal:
        """What seals documents under this key."""

        def seal(document: msgspec.Struct, name: str) -> bytes:
            nonce = self._entropy(NONCE_BYTES)
            return seal_document(document, name=name, key=key, repository_id=self._id, nonce=nonce)

        return seal

    def opened(self, kind: type[Document], data: bytes, name: str) -> Document:
        """A document of this kind from bytes that were stored under this name."""
        key = self._keys.cached(document_key_reference(data, name=name))
        return open_document(kind, data, name=name, key=key, repository_id=self._id)


def _identifier(name: str, prefix: str) -> uuid.UUID:
    text = name.removeprefix(prefix)
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != text:
        raise StoredDataCorrupt(f"{name} is not the name of a document.", object=name)
    return parsed

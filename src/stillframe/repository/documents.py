"""Sealing and opening of the small named documents, and creating objects through lost replies.

    envelope (64 bytes): magic, version, kind, key reference, repository id, nonce | sealed msgpack

The cipher is derived from the document's name, so a document that was copied to another name does not open.
"""

import struct
import uuid
from typing import Any, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag

from stillframe.domain.lsn import Lsn
from stillframe.errors import Conflict, FormatUnknown, ObjectMissing, StoredDataCorrupt, StoreUnavailable
from stillframe.objectstore import ObjectStore
from stillframe.repository.crypto import NONCE_BYTES, ContentBytes, DataKey
from stillframe.repository.format import FORMAT_VERSION, TAG_BYTES

_ENVELOPE = struct.Struct("<8sHH4x16s16s12s4x")
_MAGIC = b"SFDOC\r\n\0"

Document = TypeVar("Document", bound=msgspec.Struct)


def _plain(value: object) -> object:
    if isinstance(value, Lsn):
        return int(value)
    raise NotImplementedError(type(value))


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_plain)


def _typed(kind: type, value: Any) -> object:
    if kind is Lsn and isinstance(value, int):
        return Lsn(value)
    raise NotImplementedError(kind)


def seal_document(
    document: msgspec.Struct, *, name: str, key: DataKey, repository_id: uuid.UUID, nonce: bytes
) -> bytes:
    """The bytes to store under this name. `nonce` is 12 fresh random bytes."""
    assert len(nonce) == NONCE_BYTES
    envelope = _ENVELOPE.pack(
        _MAGIC, FORMAT_VERSION, 0, bytes.fromhex(key.reference), repository_id.bytes, nonce
    )
    cipher = key.document_cipher(name)
    return envelope + cipher.encrypt(nonce, _ENCODER.encode(document), envelope + name.encode())


def document_key_reference(data: bytes, *, name: str) -> str:
    """Under which data key a document says it is sealed; believed only once it opens under it."""
    _check_envelope(data, name)
    reference: bytes = _ENVELOPE.unpack_from(data)[3]
    return reference.hex()


def open_document(
    kind: type[Document], data: bytes, *, name: str, key: DataKey, repository_id: uuid.UUID
) -> Document:
    """The document stored under this name. Raises StoredDataCorrupt or FormatUnknown."""
    _check_envelope(data, name)
    envelope = data[: _ENVELOPE.size]
    *_, repository, nonce = _ENVELOPE.unpack(envelope)
    if repository != repository_id.bytes:
        raise StoredDataCorrupt(f"{name} belongs to another repository.", object=name)
    try:
        plain = key.document_cipher(name).decrypt(nonce, data[len(envelope) :], envelope + name.encode())
        return msgspec.msgpack.decode(plain, type=kind, dec_hook=_typed)
    except InvalidTag:
        raise StoredDataCorrupt(
            f"{name} fails its authentication: its stored bytes were changed.", object=name
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise FormatUnknown(f"{name} has a form that this release does not know.", object=name) from None


def _check_envelope(data: bytes, name: str) -> None:
    if len(data) < _ENVELOPE.size + TAG_BYTES or data[:8] != _MAGIC:
        raise StoredDataCorrupt(f"{name} does not begin like a document.", object=name)
    version, reserved = _ENVELOPE.unpack_from(data)[1:3]
    if version != FORMAT_VERSION or reserved:
        raise FormatUnknown(f"{name} has version {version}, which this release does not know.", object=name)


def create_object(store: ObjectStore, name: str, data: ContentBytes) -> None:
    """Create an object that nobody else may have created; a lost reply is settled by reading it back.

    Raises Conflict when another object has the name, StoreUnavailable when the outcome stays unknown or the
    object was not created, DiskFull and PermissionMissing when it was not.
    """
    try:
        store.put(name, data, if_absent=True)
    except (Conflict, StoreUnavailable):
        # Our own first attempt may have succeeded with its reply lost; a retrying store then says Conflict.
        if not _holds(store, name, data):
            raise


def replace_object(store: ObjectStore, name: str, data: ContentBytes) -> None:
    """Overwrite an object in one atomic step; a lost reply is settled by reading it back.

    Raises StoreUnavailable when the outcome stays unknown, DiskFull and PermissionMissing when nothing changed.
    """
    try:
        store.put(name, data)
    except StoreUnavailable:
        if not _holds(store, name, data):
            raise


def _holds(store: ObjectStore, name: str, data: ContentBytes) -> bool:
    try:
        return store.get(name) == data
    except ObjectMissing:
        return False

"""Keys of one data key, addresses of content, and the sealing of single bytes strings.

Everything hangs on one random 32-byte data key per repository and KMS key. Each use has a key of its own,
derived by BLAKE3 with a context text, so that no two uses can be confused and nothing is shared across keys.
"""

from collections.abc import Mapping
from functools import lru_cache

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stillframe.errors import StoredDataCorrupt
from stillframe.repository.format import REF_BYTES, ContentKind

ContentBytes = bytes | bytearray | memoryview

_CONTEXT = "stillframe repository v1 2026-11 "
NONCE_BYTES = 12
_RECENT_PACKS = 64
"""Ciphers that are kept: making one for each frame costs as much as opening a small one."""


def derive(key: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose only."""
    return bytes(blake3(key, derive_key_context=_CONTEXT + purpose).digest())


def key_reference(repository_id: bytes, kms_key_id: str) -> str:
    """The name a KMS key's data key has in this repository: 32 hexadecimal digits.

    A function of both ids alone, so that all who mint at once meet at the same name.
    """
    digest = blake3(
        repository_id + kms_key_id.encode(), derive_key_context=_CONTEXT + "key reference"
    ).digest()
    return bytes(digest[:REF_BYTES]).hex()


class DataKey:
    """A data key and what is derived from it. Its repr names it and shows nothing of it."""

    __slots__ = ("_documents", "_ids", "_packs", "pack_cipher", "reference")

    def __init__(self, material: bytes, *, reference: str) -> None:
        self.reference = reference
        self._ids: Mapping[ContentKind, bytes] = {
            kind: derive(material, f"content id {kind.value}") for kind in ContentKind
        }
        self._packs = derive(material, "packs")
        self._documents = derive(material, "documents")
        self.pack_cipher = lru_cache(_RECENT_PACKS)(self._pack_cipher)
        """The cipher of one pack, by its id. A renamed or swapped pack has another one, and so fails to open."""

    def __repr__(self) -> str:
        return f"DataKey({self.reference!r})"

    def content_id(self, kind: ContentKind, plain: ContentBytes) -> bytes:
        """The address of content: keyed BLAKE3 of exactly its bytes, 32 bytes."""
        return bytes(blake3(plain, key=self._ids[kind]).digest())

    def _pack_cipher(self, pack_id: bytes) -> AESGCM:
        return AESGCM(bytes(blake3(pack_id, key=self._packs).digest()))

    def document_cipher(self, name: str) -> AESGCM:
        """The cipher of one named document, for the same reason."""
        return AESGCM(bytes(blake3(name.encode(), key=self._documents).digest()))


def opened(cipher: AESGCM, nonce: bytes, sealed: ContentBytes, authenticated: bytes, *, what: str) -> bytes:
    """What was sealed, or StoredDataCorrupt naming `what`."""
    try:
        return cipher.decrypt(nonce, sealed, authenticated)
    except InvalidTag:
        raise StoredDataCorrupt(f"{what} fails its authentication: its stored bytes were changed.") from None

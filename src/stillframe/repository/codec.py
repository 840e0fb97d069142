"""Content to sealed bytes and back: compress, seal, and open again with nothing believed.

One way in and one way out. Verifying, restoring and the writer's own check of what it sealed all go through
`ContentCodec.open`.
"""

import threading
from typing import NamedTuple

import numpy as np
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stillframe.errors import StoredDataCorrupt
from stillframe.repository.crypto import NONCE_BYTES, ContentBytes, DataKey
from stillframe.repository.format import LARGEST_PLAIN, TAG_BYTES, Codec, ContentKind


class Place(NamedTuple):
    """Where and how content is stored inside its pack; lengths and offset in bytes."""

    offset: int
    stored: int
    plain: int
    kind: ContentKind
    codec: Codec


class _Local(threading.local):
    """zstd contexts are not to be shared between threads, and are dear to make."""

    def __init__(self, level: int) -> None:
        self.compressor = zstandard.ZstdCompressor(level=level, write_content_size=False)
        self.decompressor = zstandard.ZstdDecompressor()


class ContentCodec:
    """Codec of one data key; safe to use from several threads."""

    def __init__(self, key: DataKey, *, level: int = 1) -> None:
        self.key = key
        self._local = _Local(level)

    def compress(self, plain: ContentBytes) -> tuple[Codec, ContentBytes]:
        """The shorter of the compressed and the plain bytes, and which one it is."""
        packed = self._local.compressor.compress(plain)
        if len(packed) < len(plain):
            return Codec.ZSTD, packed
        return Codec.RAW, plain

    def open(self, cipher: AESGCM, sealed: ContentBytes, content_id: bytes, place: Place) -> bytes:
        """The plain bytes, authenticated as this content at this place, and hashed again.

        Raises StoredDataCorrupt, whatever is wrong with them.
        """
        return self.opened(cipher, sealed, content_id, place)[1]

    def opened(
        self, cipher: AESGCM, sealed: ContentBytes, content_id: bytes, place: Place
    ) -> tuple[bytes, bytes]:
        """As `open`, and before the plain bytes what they were packed as, to be sealed at another place."""
        packed, plain = self._unsealed(cipher, sealed, content_id, place)
        if self.key.content_id(place.kind, plain) != content_id:
            raise StoredDataCorrupt(f"The {place.kind.name} {content_id.hex()} decodes to other bytes.")
        return packed, plain

    def unsealed(self, cipher: AESGCM, sealed: ContentBytes, content_id: bytes, place: Place) -> bytes:
        """As `open`, for a caller that compares the bytes with the original instead of by their hash."""
        return self._unsealed(cipher, sealed, content_id, place)[1]

    def _unsealed(
        self, cipher: AESGCM, sealed: ContentBytes, content_id: bytes, place: Place
    ) -> tuple[bytes, bytes]:
        try:
            packed = cipher.decrypt(nonce_at(place.offset), sealed, authenticated(content_id, place))
            plain = self._unpacked(packed, place)
        except (InvalidTag, zstandard.ZstdError, MemoryError):
            raise StoredDataCorrupt(
                f"The {place.kind.name} {content_id.hex()} fails its authentication: stored bytes were changed."
            ) from None
        if len(plain) != place.plain:
            raise StoredDataCorrupt(f"The {place.kind.name} {content_id.hex()} has another length.")
        return packed, plain

    def _unpacked(self, packed: bytes, place: Place) -> bytes:
        if place.codec is Codec.RAW:
            return packed
        return self._local.decompressor.decompress(packed, max_output_size=min(place.plain, LARGEST_PLAIN))


def nonce_at(offset: int) -> bytes:
    """The nonce of what lies at this offset of a pack: unique there, and moving it makes it fail."""
    return offset.to_bytes(NONCE_BYTES, "little")


def authenticated(content_id: bytes, place: Place) -> bytes:
    """What sealed content is bound to beside its position: what it is, whose address, how long, how packed."""
    return b"".join(
        (
            bytes((place.kind, place.codec)),
            content_id,
            place.plain.to_bytes(4, "little"),
            place.stored.to_bytes(4, "little"),
        )
    )


def sealed_length(packed: int) -> int:
    """Bytes that content of this many (compressed) bytes takes in a pack."""
    return packed + TAG_BYTES


def same_bytes(left: ContentBytes, right: ContentBytes) -> bool:
    """Compare without copying, at memory speed, for any length."""
    one, other = np.frombuffer(left, np.uint8), np.frombuffer(right, np.uint8)
    return one.size == other.size and bool(np.array_equal(one, other))


def is_zero(data: ContentBytes) -> bool:
    """Whether every byte is 0. The first ones nearly always tell."""
    return not any(data[:32]) and not np.frombuffer(data, np.uint8).any()

"""Nodes kept in a dictionary, by a digest: what trees need of a repository, and nothing else."""

import hashlib

from stillframe.errors import ObjectMissing
from stillframe.repository.crypto import ContentBytes
from stillframe.repository.format import ContentKind


class Nodes:
    """Counts what is loaded; `stored` grows only by what is new."""

    def __init__(self) -> None:
        self.stored: dict[tuple[ContentKind, bytes], bytes] = {}
        self.loads = 0

    def load(self, kind: ContentKind, content_id: bytes) -> bytes:
        """The bytes of a node."""
        self.loads += 1
        try:
            return self.stored[kind, content_id]
        except KeyError:
            raise ObjectMissing("no such node") from None

    def save(self, kind: ContentKind, plain: ContentBytes) -> bytes:
        """Keep a node; its id."""
        content_id = hashlib.blake2b(bytes(plain), digest_size=32).digest()
        self.stored[kind, content_id] = bytes(plain)
        return content_id

"""Writing files that have no pages, and what every kind of file ends as."""

from collections.abc import Callable
from dataclasses import dataclass

from stillframe.errors import InvalidRequest
from stillframe.repository.codec import is_zero
from stillframe.repository.crypto import ContentBytes
from stillframe.repository.format import CHUNK_BYTES, INLINE_BYTES, ContentKind
from stillframe.repository.nodes import FileKind
from stillframe.repository.reflist import save_refs
from stillframe.repository.trie import NodeSink


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """What a complete file's entry says about its bytes."""

    kind: FileKind
    size: int
    ref: bytes | None = None
    inline: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCount:
    """Pages that were given to a writer, and how many of them were zero."""

    given: int = 0
    zero: int = 0

    def __add__(self, other: "PageCount") -> "PageCount":
        return PageCount(given=self.given + other.given, zero=self.zero + other.zero)


FileDone = Callable[[FileContent, PageCount], None]
"""Called once, when a file is complete."""


class FileWriter:
    """A file that is written from its beginning to its end, by one thread at a time.

    At most one chunk (1 MiB) of it is in memory.
    """

    def __init__(self, nodes: NodeSink, *, done: FileDone) -> None:
        self._nodes = nodes
        self._done = done
        self._buffer = bytearray()
        self._chunks: list[bytes | None] = []
        self._closed = False

    def write(self, data: ContentBytes) -> None:
        """The next bytes, as many as there are. Raises what storing them raised."""
        self._require_open()
        rest = memoryview(data).cast("B")
        while rest:
            if not self._buffer and len(rest) >= CHUNK_BYTES:
                self._store(rest[:CHUNK_BYTES])
                rest = rest[CHUNK_BYTES:]
                continue
            taken = rest[: CHUNK_BYTES - len(self._buffer)]
            self._buffer += taken
            rest = rest[len(taken) :]
            self._store_full_buffer()

    def write_zeros(self, length: int) -> None:
        """So many zero bytes next, without giving them."""
        while length > 0:
            if not self._buffer and length >= CHUNK_BYTES:
                self._require_open()
                self._chunks.append(None)
                length -= CHUNK_BYTES
                continue
            part = min(length, CHUNK_BYTES - len(self._buffer))
            self.write(bytes(part))
            length -= part

    def close(self) -> None:
        """The file is complete."""
        self._require_open()
        self._closed = True
        self._done(self._content(), PageCount())

    def _content(self) -> FileContent:
        size = len(self._chunks) * CHUNK_BYTES + len(self._buffer)
        if size <= INLINE_BYTES:
            return FileContent(kind=FileKind.PLAIN, size=size, inline=bytes(self._buffer))
        if self._buffer:
            self._store(self._buffer)
        return FileContent(
            kind=FileKind.PLAIN, size=size, ref=save_refs(self._nodes, ContentKind.CHUNK_LIST, self._chunks)
        )

    def _store_full_buffer(self) -> None:
        if len(self._buffer) == CHUNK_BYTES:
            self._store(self._buffer)
            self._buffer = bytearray()

    def _store(self, chunk: ContentBytes) -> None:
        self._chunks.append(None if is_zero(chunk) else self._nodes.save(ContentKind.CHUNK, chunk))

    def _require_open(self) -> None:
        if self._closed:
            raise InvalidRequest("The file has been closed.")

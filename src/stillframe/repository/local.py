"""Content that files on this machine may have: never believed, only recognised by its id, the hash of its bytes."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from stillframe.repository.content import ContentReader
from stillframe.repository.extents import Extent
from stillframe.repository.format import BLOCK, FRAME_BLOCKS, ContentKind


class Span(NamedTuple):
    """Bytes of a file; `path` as the snapshot has it."""

    path: str
    offset: int
    length: int


class LocalFiles(Protocol):
    """Files that may have what a snapshot's files of the same paths had. Safe to use from several threads."""

    def read(self, spans: Sequence[Span]) -> bytes | None:
        """These bytes, one span after the other; None when they are not all there, or not worth a look."""
        ...

    def judged(self, path: str, *, right: bool) -> None:
        """Whether what was read of this file turned out to be the snapshot's."""
        ...

    def took(self, size: int) -> None:
        """So many bytes need not be fetched."""
        ...


class Part(Protocol):
    """Bytes of a frame that belong at `offset` of a file: `length` of them, from byte `start` of the frame."""

    @property
    def path(self) -> str:
        """Of the file."""
        ...

    @property
    def offset(self) -> int:
        """In the file."""
        ...

    @property
    def start(self) -> int:
        """In the frame."""
        ...

    @property
    def length(self) -> int:
        """In bytes."""
        ...


def frame_of_parts(
    content: ContentReader, content_id: bytes, parts: Iterable[Part], *, length: int, local: LocalFiles
) -> bytes | None:
    """A frame of pages, put together of the places that it is needed for; None unless these are its very bytes.

    A frame of which the snapshot no longer needs every page can not be recognised: its id is that of all of them.
    """
    spans = _covering(parts, length)
    return None if spans is None else _recognised(content, content_id, spans, local)


def frame_around(content: ContentReader, path: str, extent: Extent, *, local: LocalFiles) -> bytes | None:
    """The frame of an extent, if it is a run of pages that the local file has in the same place.

    A frame of scattered pages is not looked for: they would have to be sought all over the file.
    """
    first = extent.first - extent.index
    if extent.frame is None or first % FRAME_BLOCKS:
        return None
    length = content.locate(ContentKind.PAGES, extent.frame).place.plain
    return _recognised(content, extent.frame, [Span(path, first * BLOCK, length)], local)


def _recognised(
    content: ContentReader, content_id: bytes, spans: Sequence[Span], local: LocalFiles
) -> bytes | None:
    data = local.read(spans)
    if data is None:
        return None
    right = content.vouches(ContentKind.PAGES, content_id, data)
    local.judged(spans[0].path, right=right)
    return data if right else None


def _covering(parts: Iterable[Part], length: int) -> list[Span] | None:
    """Where all bytes of a frame are, each once; None when some are needed nowhere."""
    spans: list[Span] = []
    end = 0
    for part in sorted(parts, key=lambda part: part.start):
        if part.start > end:
            return None
        known = end - part.start
        if known < part.length:
            spans.append(Span(part.path, part.offset + known, part.length - known))
            end = part.start + part.length
    return spans if end == length else None

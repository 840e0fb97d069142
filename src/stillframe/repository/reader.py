"""Reading one snapshot."""

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from stillframe.errors import InvalidRequest, StoredDataCorrupt
from stillframe.objectstore import ObjectStore
from stillframe.repository import fetch
from stillframe.repository.content import ContentReader
from stillframe.repository.extents import Extent
from stillframe.repository.facts import SnapshotDocument
from stillframe.repository.fetch import FetchGroup, IsWanted, Piece
from stillframe.repository.format import BLOCK, CHUNK_BYTES, FRAME_BLOCKS, ContentKind
from stillframe.repository.local import LocalFiles, frame_around
from stillframe.repository.tree import DirectoryEntry, FileEntry, Tree


class SnapshotReader:
    """A snapshot's files and bytes. Safe to use from several threads; every byte is authenticated.

    Holds its content against sweeps until it is closed, even if the snapshot is deleted meanwhile. Methods
    raise ObjectMissing and StoredDataCorrupt for content that is lost or damaged, and what the store raises.
    """

    def __init__(
        self,
        document: SnapshotDocument,
        *,
        store: ObjectStore,
        content: ContentReader,
        release: Callable[[], None],
        local: LocalFiles | None = None,
    ) -> None:
        self._document = document
        self._store = store
        self._content = content
        self._release = release
        self._local = local
        self._tree = Tree(content, document.root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the content. Closing twice does nothing."""
        self._release()

    def beside(self, local: LocalFiles | None) -> "SnapshotReader":
        """The same snapshot, read with the help of local files: pages of relation files that they have are not
        fetched. It is open for as long as this one is.
        """
        return SnapshotReader(
            self._document, store=self._store, content=self._content, release=self._release, local=local
        )

    @property
    def document(self) -> SnapshotDocument:
        """The snapshot's document."""
        return self._document

    @property
    def tree(self) -> Tree:
        """The tree behind it, for this package's own use."""
        return self._tree

    def directories(self) -> Iterator[DirectoryEntry]:
        """Every directory, a parent before what is in it; "" is the data directory itself."""
        return self._tree.directories()

    def files(self) -> Iterator[FileEntry]:
        """Every file, directory by directory."""
        return self._tree.files()

    def entry(self, path: str) -> FileEntry | None:
        """The file of this path, or None."""
        return self._tree.file(path)

    def extents(self, entry: FileEntry, *, first: int = 0, end: int | None = None) -> Iterator[Extent]:
        """Where the pages [first, end) of a relation file are: in order, without gaps, zeros included."""
        _require_relation(entry)
        return self._tree.extents(entry.record, first=first, end=end)

    def read_blocks(self, entry: FileEntry, first: int, count: int) -> bytes:
        """These pages of a relation file. Raises InvalidRequest for pages it does not have."""
        parts = []
        for extent in self.extents(entry, first=first, end=first + count):
            if extent.frame is None:
                parts.append(bytes(extent.count * BLOCK))
                continue
            frame = self._frame(entry, extent, extent.frame)
            part = frame[extent.index * BLOCK : (extent.index + extent.count) * BLOCK]
            if len(part) != extent.count * BLOCK:
                raise StoredDataCorrupt(f"The frame {extent.frame.hex()} is shorter than its extent.")
            parts.append(part)
        return b"".join(parts)

    def read_file(self, entry: FileEntry, offset: int, length: int) -> bytes:
        """Bytes of any file from `offset` on; fewer than `length` only where the file ends."""
        if offset < 0 or length < 0:
            raise InvalidRequest("Offset and length of a read are not negative.")
        end = min(entry.size, offset + length)
        if offset >= end:
            return b""
        if entry.is_relation:
            first = offset // BLOCK
            pages = self.read_blocks(entry, first, -(-end // BLOCK) - first)
            return pages[offset - first * BLOCK : end - first * BLOCK]
        if entry.record.inline is not None:
            return entry.record.inline[offset:end]
        return self._read_chunks(entry, offset, end)

    def fetch_plan(self, entries: Iterable[FileEntry] | None = None) -> Iterator[FetchGroup]:
        """What to fetch for all files, or for these, to have every byte that is not zero.

        Give each group to `fetch`; order between groups does not matter. Create the files with their final
        length first: holes are the zeros. The plan is made by one thread as it is iterated.
        """
        return fetch.plan(self._tree, self._content, self.files() if entries is None else entries)

    def fetch(self, group: FetchGroup, *, is_wanted: IsWanted | None = None) -> Iterator[Piece]:
        """The pieces of a group: bytes and where they belong. Call it from as many threads as you like.

        A frame is left out when `is_wanted` says no to everything it is for: it is asked at the last moment.
        """
        return fetch.fetch(self._store, self._content, group, local=self._local, is_wanted=is_wanted)

    def stretch_around(self, entry: FileEntry, offset: int, length: int) -> tuple[int, int]:
        """Offset and length, in bytes, of the pages around these that lie in the same frames or are zero.

        Not more than a frame's length to either side. `offset` and `length` are within the file.
        """
        first, end = offset // BLOCK, -(-(offset + length) // BLOCK)
        outer = first // FRAME_BLOCKS * FRAME_BLOCKS
        last = min(-(-end // FRAME_BLOCKS) * FRAME_BLOCKS, entry.size // BLOCK)
        extents = list(self.extents(entry, first=outer, end=max(end, last)))
        frames = {extent.frame for extent in extents if extent.first < end and extent.end > first} | {None}
        low = _reach(first, [(one.end, one.first, one.frame in frames) for one in reversed(extents)], -1)
        high = _reach(end, [(one.first, one.end, one.frame in frames) for one in extents], 1)
        return low * BLOCK, (high - low) * BLOCK

    def _frame(self, entry: FileEntry, extent: Extent, frame: bytes) -> bytes:
        if self._local is not None:
            found = frame_around(self._content, entry.path, extent, local=self._local)
            if found is not None:
                self._local.took(extent.count * BLOCK)
                return found
        return self._content.load(ContentKind.PAGES, frame)

    def _read_chunks(self, entry: FileEntry, offset: int, end: int) -> bytes:
        parts = []
        first = offset // CHUNK_BYTES
        for chunk in self._tree.chunks(entry.record, first=first):
            if chunk.offset >= end:
                break
            parts.append(self._chunk(chunk.content_id, chunk.length))
        start = first * CHUNK_BYTES
        return b"".join(parts)[offset - start : end - start]

    def _chunk(self, content_id: bytes | None, length: int) -> bytes:
        if content_id is None:
            return bytes(length)
        data = self._content.load(ContentKind.CHUNK, content_id)
        if len(data) != length:
            raise StoredDataCorrupt(f"The chunk {content_id.hex()} has another length than its file says.")
        return data


def _reach(end: int, stretches: Iterable[tuple[int, int, bool]], towards: int) -> int:
    """How far one gets from page `end`, in that direction, along stretches (near, far, may be entered) that touch."""
    for near, far, enterable in stretches:
        if (far - end) * towards <= 0:
            continue
        if not enterable or (near - end) * towards > 0:
            break
        end = far
    return end


def _require_relation(entry: FileEntry) -> None:
    if not entry.is_relation:
        raise InvalidRequest(f"{entry.path!r} is not a relation file.")

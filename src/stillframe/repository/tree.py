"""Reading a snapshot's tree: directories, files, and where a file's bytes are."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from stillframe.errors import InvalidRequest, StoredDataCorrupt
from stillframe.repository.extents import Extent, blocks_of, from_leaf, leaf_count, leaf_span
from stillframe.repository.format import BLOCK, CHUNK_BYTES, INLINE_BYTES, LEAF_BLOCKS, ContentKind
from stillframe.repository.nodes import DirectoryRecord, FileKind, FileRecord, LeafNode, decode
from stillframe.repository.paths import checked_path, join, split
from stillframe.repository.places import Places
from stillframe.repository.reflist import load_refs
from stillframe.repository.trie import NameMap, NodeSource


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryEntry:
    """A directory of a snapshot. `mode` holds the permission bits only."""

    path: str
    mode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file of a snapshot. `size` in bytes, `mode` the permission bits only."""

    path: str
    mode: int
    size: int
    kind: FileKind
    record: FileRecord = field(repr=False)

    @property
    def is_relation(self) -> bool:
        """Whether its pages can be read one by one."""
        return self.kind is FileKind.RELATION

    @property
    def blocks(self) -> int:
        """Pages of a relation file; 0 for any other file."""
        return blocks_of(self.size) if self.is_relation else 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a plain file: `length` bytes at `offset`, the content of `content_id`, or zeros if it is None."""

    offset: int
    length: int
    content_id: bytes | None


class Tree:
    """One snapshot's tree. Raises ObjectMissing and StoredDataCorrupt wherever it reads."""

    def __init__(self, nodes: NodeSource, root: bytes | None) -> None:
        self._nodes = nodes
        self._root = root
        self.directory_map: NameMap[DirectoryRecord] = NameMap(nodes, ContentKind.DIRECTORY_MAP)
        self.file_map: NameMap[FileRecord] = NameMap(nodes, ContentKind.FILE_MAP)

    def directories(self) -> Iterator[DirectoryEntry]:
        """Every directory, a parent before what is in it."""
        for record in self.directory_records():
            yield DirectoryEntry(path=record.name, mode=record.mode)

    def directory_records(self) -> list[DirectoryRecord]:
        """The stored form of every directory, by path."""
        return sorted(self.directory_map.records(self._root), key=lambda record: record.name)

    def directory(self, path: str) -> DirectoryRecord | None:
        """The stored form of one directory, or None."""
        return self.directory_map.find(self._root, path)

    def files(self) -> Iterator[FileEntry]:
        """Every file, directory by directory."""
        for directory in self.directory_records():
            for record in self.file_map.records(directory.files):
                yield file_entry(directory.name, record)

    def file(self, path: str) -> FileEntry | None:
        """One file, or None."""
        directory_path, name = split(path)
        directory = self.directory(directory_path)
        record = self.file_map.find(directory.files, name) if directory is not None else None
        return None if record is None else file_entry(directory_path, record)

    def leaf_ids(self, record: FileRecord, *, first_leaf: int = 0) -> Iterator[bytes]:
        """The leaves of a relation file, from that number on."""
        count = leaf_count(blocks_of(record.size))
        for leaf in load_refs(self._nodes, ContentKind.LEAF_LIST, record.ref, count=count, first=first_leaf):
            if leaf is None:
                raise StoredDataCorrupt(f"A leaf of {record.name} is not named.")
            yield leaf

    def leaf(self, leaf_id: bytes, *, blocks: int) -> LeafNode:
        """The leaf that covers exactly so many pages of its file."""
        leaf: LeafNode = decode(ContentKind.LEAF, self._nodes.load(ContentKind.LEAF, leaf_id))
        if sum(extent[1] for extent in leaf.extents) != blocks:
            raise StoredDataCorrupt(f"The leaf {leaf_id.hex()} does not cover its pages.")
        return leaf

    def places(self, record: FileRecord, number: int) -> Places:
        """Where the pages of one leaf of a relation file are; it has that leaf."""
        blocks = blocks_of(record.size)
        start, end = leaf_span(number, blocks)
        leaf_id = next(self.leaf_ids(record, first_leaf=number))
        return Places.of_leaf(self.leaf(leaf_id, blocks=end - start))

    def extents(self, record: FileRecord, *, first: int = 0, end: int | None = None) -> Iterator[Extent]:
        """Where the pages [first, end) of a relation file are; without gaps, in order."""
        blocks = blocks_of(record.size)
        end = blocks if end is None else end
        if not 0 <= first <= end <= blocks:
            raise InvalidRequest(f"{record.name} has {blocks} pages; [{first}, {end}) are not among them.")
        if first == end:
            return
        for number, leaf_id in enumerate(
            self.leaf_ids(record, first_leaf=first // LEAF_BLOCKS), first // LEAF_BLOCKS
        ):
            start, stop = leaf_span(number, blocks)
            if start >= end:
                return
            leaf = self.leaf(leaf_id, blocks=stop - start)
            for extent in from_leaf(leaf, start, page=max(0, first - start)):
                if extent.first >= end:
                    return
                yield extent.clipped(first, end)

    def chunks(self, record: FileRecord, *, first: int = 0) -> Iterator[Chunk]:
        """The chunks of a plain file that is not kept in its entry, from number `first` on."""
        count = -(-record.size // CHUNK_BYTES)
        refs = load_refs(self._nodes, ContentKind.CHUNK_LIST, record.ref, count=count, first=first)
        for number, content_id in enumerate(refs, first):
            offset = number * CHUNK_BYTES
            yield Chunk(offset, min(CHUNK_BYTES, record.size - offset), content_id)


def file_entry(directory: str, record: FileRecord) -> FileEntry:
    """The public form of a stored record. Raises StoredDataCorrupt for one that contradicts itself."""
    path = join(directory, record.name)
    try:
        checked_path(path)
    except InvalidRequest as error:
        raise StoredDataCorrupt(error.message) from None
    if not _sound(record):
        raise StoredDataCorrupt(f"The entry of {path} contradicts itself.", path=path)
    return FileEntry(path=path, mode=record.mode, size=record.size, kind=record.kind, record=record)


def _sound(record: FileRecord) -> bool:
    if record.size < 0 or "/" in record.name or not record.name:
        return False
    if record.kind is FileKind.RELATION:
        return (
            record.size % BLOCK == 0 and record.inline is None and (record.ref is None) == (record.size == 0)
        )
    if record.inline is not None:
        return record.ref is None and len(record.inline) == record.size <= INLINE_BYTES
    return record.size > INLINE_BYTES

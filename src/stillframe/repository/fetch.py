"""What to read, in which order, to have the bytes of many files: the plan of a fast full restore.

Neighbours are read in one request, and requests come in turns from several places of the store: files lie there one
after the other, and of all threads that write into the same file, only one can. A plan is made for some pieces at a
time, at most 64,000, so its memory does not grow with the snapshot; few at first, so that reading begins at once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from stillframe.errors import DataError, StoredDataCorrupt
from stillframe.objectstore import ObjectStore
from stillframe.repository.content import ContentReader
from stillframe.repository.format import BLOCK, ContentKind
from stillframe.repository.index import Location
from stillframe.repository.local import LocalFiles, frame_of_parts
from stillframe.repository.tree import FileEntry, Tree

_FIRST_BATCH = 1 << 9
_LARGEST_BATCH = 1 << 16
_LARGEST_REQUEST = 4 << 20
_LARGEST_PLAIN = 16 << 20
_WIDEST_GAP = 32 << 10
"""Bytes that are cheaper to read along than to ask again behind them."""
_PLACES = 4
"""From so many parts of a plan requests come in turns."""


IsWanted = Callable[[str, int, int], bool]
"""Whether bytes of a file are wanted, given its path, offset and length."""


@dataclass(frozen=True, slots=True)
class Target:
    """Bytes of a frame that belong at `offset` of a file: `length` of them, from byte `start` of the frame."""

    entry: FileEntry
    offset: int
    start: int
    length: int

    @property
    def path(self) -> str:
        """Of its file."""
        return self.entry.path


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that belong at `offset` of a file."""

    entry: FileEntry
    offset: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A frame and everything it is needed for."""

    content_id: bytes
    location: Location
    targets: list[Target]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchGroup:
    """One request's worth: frames that lie side by side in one pack, or files kept in their entries.

    `stored_bytes` will be read, and `plain_bytes` be delivered to files.
    """

    stored_bytes: int
    plain_bytes: int
    frames: Sequence[_Wanted] = field(repr=False)
    inline: Sequence[FileEntry] = field(default=(), repr=False)


"""Opaque to the caller; give it to `SnapshotReader.fetch`."""


def plan(tree: Tree, content: ContentReader, entries: Iterable[FileEntry]) -> Iterator[FetchGroup]:
    """Every byte of these files that is not zero, in groups. Zeros are left out: files begin as holes.

    Raises what reading nodes raises, and ObjectMissing for a frame that is nowhere.
    """
    inline: list[FileEntry] = []
    for batch in _in_batches(_wanted(tree, entries, inline)):
        yield from _in_turns(list(_grouped(_located(content, batch))))
        yield from _inline_groups(inline)
    yield from _inline_groups(inline)


def fetch(
    store: ObjectStore,
    content: ContentReader,
    group: FetchGroup,
    *,
    local: LocalFiles | None = None,
    is_wanted: IsWanted | None = None,
) -> Iterator[Piece]:
    """The bytes of a group, authenticated. Several groups may be fetched at once by several threads.

    What `local` has is not fetched, nor a frame of which nothing is wanted. Raises ObjectMissing, StoredDataCorrupt,
    and what the store raises; never yields a wrong byte.
    """
    for entry in group.inline:
        yield Piece(entry, 0, memoryview(entry.record.inline or b""))
    left: list[_Wanted] = []
    for wanted in group.frames:
        if is_wanted is not None and not _is_wanted(wanted, is_wanted):
            continue
        found = None if local is None else _found(content, wanted, local)
        if found is None:
            left.append(wanted)
        else:
            yield from _pieces(wanted, found)
    for request in _grouped(left):
        yield from _requested(store, content, request)


def _is_wanted(wanted: _Wanted, is_wanted: IsWanted) -> bool:
    return any(is_wanted(target.path, target.offset, target.length) for target in wanted.targets)


def _found(content: ContentReader, wanted: _Wanted, local: LocalFiles) -> bytes | None:
    place = wanted.location.place
    if place.kind is not ContentKind.PAGES:
        return None
    found = frame_of_parts(content, wanted.content_id, wanted.targets, length=place.plain, local=local)
    if found is not None:
        local.took(sum(target.length for target in wanted.targets))
    return found


def _requested(store: ObjectStore, content: ContentReader, group: FetchGroup) -> Iterator[Piece]:
    request = _request(store, group)
    for wanted in group.frames:
        yield from _pieces(wanted, _opened(content, wanted, group, request))


def _pieces(wanted: _Wanted, frame: bytes) -> Iterator[Piece]:
    plain = memoryview(frame)
    for target in wanted.targets:
        yield Piece(target.entry, target.offset, plain[target.start : target.start + target.length])


def _wanted(
    tree: Tree, entries: Iterable[FileEntry], inline: list[FileEntry]
) -> Iterator[tuple[ContentKind, bytes, Target]]:
    for entry in entries:
        if entry.is_relation:
            for extent in tree.extents(entry.record):
                if extent.frame is not None:
                    target = Target(entry, extent.first * BLOCK, extent.index * BLOCK, extent.count * BLOCK)
                    yield ContentKind.PAGES, extent.frame, target
        elif entry.record.inline is not None:
            inline.append(entry)
        else:
            for chunk in tree.chunks(entry.record):
                if chunk.content_id is not None:
                    yield ContentKind.CHUNK, chunk.content_id, Target(entry, chunk.offset, 0, chunk.length)


def _in_batches(
    wanted: Iterator[tuple[ContentKind, bytes, Target]],
) -> Iterator[list[tuple[ContentKind, bytes, Target]]]:
    size = _FIRST_BATCH
    while batch := list(islice(wanted, size)):
        yield batch
        size = min(2 * size, _LARGEST_BATCH)


def _located(content: ContentReader, batch: Iterable[tuple[ContentKind, bytes, Target]]) -> list[_Wanted]:
    """Each frame once, with all its targets, in the order of the store."""
    targets: dict[ContentKind, dict[bytes, list[Target]]] = {}
    for kind, content_id, target in batch:
        targets.setdefault(kind, {}).setdefault(content_id, []).append(target)
    found = [
        _Wanted(content_id, location, of_kind[content_id])
        for kind, of_kind in targets.items()
        for content_id, location in content.locate_all(kind, of_kind).items()
    ]
    for wanted in found:
        if max(target.start + target.length for target in wanted.targets) > wanted.location.place.plain:
            raise StoredDataCorrupt(
                f"The content {wanted.content_id.hex()} is shorter than what refers to it."
            )
    return sorted(found, key=lambda one: (one.location.pack.pack_id, one.location.place.offset))


def _in_turns(groups: Sequence[FetchGroup]) -> Iterator[FetchGroup]:
    """The first of each part, then the second of each, and so on."""
    length = -(-len(groups) // _PLACES)
    for at in range(length):
        yield from groups[at::length]


def _grouped(frames: Sequence[_Wanted]) -> Iterator[FetchGroup]:
    group: list[_Wanted] = []
    plain = 0
    for wanted in frames:
        if group and not _fits(group, plain, wanted):
            yield _group(group)
            group, plain = [], 0
        group.append(wanted)
        plain += wanted.location.place.plain
    if group:
        yield _group(group)


def _fits(group: Sequence[_Wanted], plain: int, wanted: _Wanted) -> bool:
    first, last, place = group[0].location, group[-1].location, wanted.location.place
    return (
        last.pack == wanted.location.pack
        and place.offset - (last.place.offset + last.place.stored) <= _WIDEST_GAP
        and place.offset + place.stored - first.place.offset <= _LARGEST_REQUEST
        and plain + place.plain <= _LARGEST_PLAIN
    )


def _group(frames: list[_Wanted]) -> FetchGroup:
    length = _span(frames)[1]
    plain = sum(target.length for wanted in frames for target in wanted.targets)
    return FetchGroup(stored_bytes=length, plain_bytes=plain, frames=tuple(frames))


def _inline_groups(entries: list[FileEntry]) -> Iterator[FetchGroup]:
    if entries:
        size = sum(entry.size for entry in entries)
        yield FetchGroup(stored_bytes=0, plain_bytes=size, frames=(), inline=tuple(entries))
        entries.clear()


def _span(frames: Sequence[_Wanted]) -> tuple[int, int]:
    """Offset and length of the request that covers these frames."""
    start, last = frames[0].location.place.offset, frames[-1].location.place
    return start, last.offset + last.stored - start


def _request(store: ObjectStore, group: FetchGroup) -> memoryview | None:
    """The stored bytes of a group; None when its pack cannot give them, to look for each frame alone."""
    start, length = _span(group.frames)
    try:
        return memoryview(store.get_range(str(group.frames[0].location.pack), start, length))
    except DataError:
        return None


def _opened(content: ContentReader, wanted: _Wanted, group: FetchGroup, request: memoryview | None) -> bytes:
    """A frame out of a request; if it is damaged there, out of any other pack that has it."""
    place = wanted.location.place
    if request is not None:
        start = place.offset - group.frames[0].location.place.offset
        try:
            return content.open(wanted.location, wanted.content_id, request[start : start + place.stored])
        except StoredDataCorrupt:
            pass
    return content.load(place.kind, wanted.content_id)

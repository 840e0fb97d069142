"""Removing packs that nothing refers to. The caller holds the content claim alone.

Because no writer and no reader is open anywhere, what the documents reach is all that is needed; every other
pack was left by a writer that died, or by a snapshot that has been deleted. Whatever cannot be read stops the
sweep before it has removed anything: unknown is not unneeded.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from stillframe.domain.identifiers import SnapshotId
from stillframe.objectstore import ObjectStore, StoredObject
from stillframe.repository.content import ContentReader
from stillframe.repository.extents import blocks_of, leaf_span
from stillframe.repository.facts import SnapshotDocument
from stillframe.repository.format import ATTRIBUTES, EPOCHS, NODES, PACKS, SNAPSHOTS, ContentKind
from stillframe.repository.library import PackLibrary
from stillframe.repository.nodes import FileKind, FileRecord
from stillframe.repository.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """What a sweep removed, or would remove. Lengths in bytes."""

    packs_removed: int
    bytes_removed: int
    packs_kept: int
    bytes_kept: int
    leftovers_removed: int
    """Announcements of writers that died, and attributes without a snapshot."""


class Snapshots(Protocol):
    """What a sweep asks of the repository."""

    def snapshot_ids(self) -> Iterator[SnapshotId]:
        """The ids of all snapshots."""
        ...

    def stored_document(self, snapshot_id: SnapshotId) -> SnapshotDocument:
        """The document of one."""
        ...

    def content_of(self, reference: str) -> tuple[PackLibrary, ContentReader]:
        """The packs and the content of a data key."""
        ...


def sweep(store: ObjectStore, snapshots: Snapshots, *, dry_run: bool) -> SweepReport:
    """Remove what no snapshot needs.

    Raises, before anything is removed, what reading documents and nodes raises.
    """
    needed = _needed(snapshots)
    packs = [stored for prefix in (PACKS, NODES) for stored in store.list(prefix)]
    unneeded = [pack for pack in packs if pack.name not in needed]
    leftovers = list(_leftovers(store))
    if not dry_run:
        # Packs first: an announcement that outlives its packs harms nothing, the reverse would hide them.
        for stored in (*unneeded, *leftovers):
            store.delete(stored.name)
    removed = sum(pack.size for pack in unneeded)
    return SweepReport(
        packs_removed=len(unneeded),
        bytes_removed=removed,
        packs_kept=len(packs) - len(unneeded),
        bytes_kept=sum(pack.size for pack in packs) - removed,
        leftovers_removed=len(leftovers),
    )


def _needed(snapshots: Snapshots) -> set[str]:
    """The names of all packs that some snapshot refers to, or that cannot be read."""
    by_key: dict[str, list[SnapshotDocument]] = defaultdict(list)
    for snapshot_id in snapshots.snapshot_ids():
        document = snapshots.stored_document(snapshot_id)
        by_key[document.key_reference].append(document)
    needed: set[str] = set()
    for reference, documents in by_key.items():
        library, content = snapshots.content_of(reference)
        needed |= {str(name) for name in library.damaged}
        needed |= PackMarker(library, content).mark(document.root for document in documents)
    return needed


def _leftovers(store: ObjectStore) -> Iterator[StoredObject]:
    snapshots = {stored.name.removeprefix(SNAPSHOTS) for stored in store.list(SNAPSHOTS)}
    yield from store.list(EPOCHS)
    for stored in store.list(ATTRIBUTES):
        if stored.name.removeprefix(ATTRIBUTES) not in snapshots:
            yield stored


class PackMarker:
    """Collects the packs that trees refer to; parts that trees share are walked once."""

    def __init__(self, library: PackLibrary, content: ContentReader) -> None:
        self._library = library
        self._content = content
        self._seen: set[bytes] = set()
        self._packs: set[str] = set()

    def mark(self, roots: Iterable[bytes | None]) -> set[str]:
        """The names of the packs that trees with these roots need.

        Raises ObjectMissing and StoredDataCorrupt when that cannot be told.
        """
        for root in roots:
            tree = Tree(self, root)
            for directory in tree.directory_records():
                for leaf in tree.file_map.nodes(directory.files, skip=self._seen):
                    for record in leaf.records:
                        self._mark_file(tree, record)
        return self._packs

    def load(self, kind: ContentKind, content_id: bytes) -> bytes:
        """A node, whose packs are needed from now on."""
        self._need(kind, content_id)
        return self._content.load(kind, content_id)

    def _need(self, kind: ContentKind, content_id: bytes) -> None:
        """Every copy is kept: which one is whole is not for a sweep to know."""
        self._content.locate(kind, content_id)
        self._packs |= {str(location.pack) for location in self._library.index.find_all(content_id)}

    def _mark_file(self, tree: Tree, record: FileRecord) -> None:
        if record.ref is None or record.ref in self._seen:
            return
        if record.kind is FileKind.RELATION:
            self._mark_relation(tree, record)
        else:
            for chunk in tree.chunks(record):
                if chunk.content_id is not None:
                    self._need(ContentKind.CHUNK, chunk.content_id)
        self._seen.add(record.ref)

    def _mark_relation(self, tree: Tree, record: FileRecord) -> None:
        for number, leaf_id in enumerate(tree.leaf_ids(record)):
            if leaf_id in self._seen:
                continue
            start, end = leaf_span(number, blocks_of(record.size))
            for extent in tree.leaf_extents(leaf_id, start=start, end=end):
                if extent.frame is not None:
                    self._need(ContentKind.PAGES, extent.frame)
            self._seen.add(leaf_id)

"""What each snapshot costs, exactly: by walking every tree, and asking of each piece who reaches it.

Every snapshot's tree is walked whole, so this takes time in proportion to all of them together; and some 100 bytes
of memory for each piece of content there is. It is for looking, not for collecting.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stillframe.domain.identifiers import SnapshotId
from stillframe.repository.content import ContentReader
from stillframe.repository.facts import SnapshotDocument
from stillframe.repository.format import BLOCK, ContentKind
from stillframe.repository.library import PackLibrary
from stillframe.repository.marking import Contents
from stillframe.repository.nodes import FileKind, FileRecord
from stillframe.repository.pack import RECORD_BYTES
from stillframe.repository.tree import Tree

_SHARED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotUsage:
    """One snapshot. Bytes as they are stored, but for `logical_bytes`, the length of its files.

    `unique_bytes` no other snapshot and no pin reaches: they come back when it is deleted.
    """

    snapshot_id: SnapshotId
    logical_bytes: int
    reached_bytes: int
    unique_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryUsage:
    """All of a repository. Bytes.

    `logical_bytes` is what all snapshots would take as plain copies, `stored_bytes` what all packs take, and
    `dead_bytes` what of that no snapshot and no pin reaches: garbage, second copies, and heads and feet of packs.
    """

    logical_bytes: int
    stored_bytes: int
    needed_bytes: int
    dead_bytes: int
    snapshots: tuple[SnapshotUsage, ...]


class Accounts:
    """Of one data key. `add` each snapshot once; then ask."""

    def __init__(self, library: PackLibrary, content: ContentReader) -> None:
        self._library = library
        self._content = content
        self._owners: dict[bytes, int] = {}
        self._documents: list[SnapshotDocument] = []
        self._reached: list[int] = []
        self._touched: set[bytes] = set()

    def add(self, document: SnapshotDocument) -> None:
        """Take in a snapshot, or what a pin keeps.

        Raises ObjectMissing and StoredDataCorrupt when its tree cannot be read.
        """
        self._documents.append(document)
        self._touched = set()
        tree = Tree(self, document.root)
        for directory in tree.directory_records():
            for record in tree.file_map.records(directory.files):
                self._add_file(tree, record)
        self._reached.append(sum(self._stored(content_id) for content_id in self._touched))

    def needed_bytes(self) -> int:
        """Stored bytes of all that any snapshot reaches, counted once."""
        return sum(map(self._stored, self._owners))

    def usages(self) -> Iterator[SnapshotUsage]:
        """One of each that was added, in that order."""
        unique = [0] * len(self._documents)
        for content_id, owner in self._owners.items():
            if owner != _SHARED:
                unique[owner] += self._stored(content_id)
        for number, document in enumerate(self._documents):
            yield SnapshotUsage(
                snapshot_id=document.snapshot_id,
                logical_bytes=document.statistics.logical_bytes,
                reached_bytes=self._reached[number],
                unique_bytes=unique[number],
            )

    def touch(self, content_id: bytes) -> None:
        """The snapshot that is being added reaches this."""
        me = len(self._documents) - 1
        self._touched.add(content_id)
        if self._owners.setdefault(content_id, me) != me:
            self._owners[content_id] = _SHARED

    def load(self, kind: ContentKind, content_id: bytes) -> bytes:
        """A node, which is reached by that."""
        self.touch(content_id)
        return self._content.load(kind, content_id)

    def _add_file(self, tree: Tree, record: FileRecord) -> None:
        if record.kind is FileKind.RELATION:
            for extent in tree.extents(record, end=record.size // BLOCK):
                if extent.frame is not None:
                    self.touch(extent.frame)
        elif record.ref is not None:
            for chunk in tree.chunks(record):
                if chunk.content_id is not None:
                    self.touch(chunk.content_id)

    def _stored(self, content_id: bytes) -> int:
        """What a piece takes: itself, and its line in the list of its pack."""
        location = self._library.index.find(content_id)
        return 0 if location is None else location.place.stored + RECORD_BYTES


def account(
    documents: Sequence[SnapshotDocument],
    pinned: Sequence[SnapshotDocument],
    contents: Contents,
    *,
    stored_bytes: int,
) -> RepositoryUsage:
    """Of a repository with these snapshots and these that pins keep, whose packs take that many bytes."""
    accounts: dict[str, Accounts] = {}
    # Snapshots first, so that the first usages are theirs.
    for document in (*documents, *pinned):
        reference = document.key_reference
        if reference not in accounts:
            accounts[reference] = Accounts(*contents.content_of(reference))
        accounts[reference].add(document)
    usages = {usage.snapshot_id: usage for one in accounts.values() for usage in reversed([*one.usages()])}
    snapshots = tuple(usages[document.snapshot_id] for document in documents)
    needed = sum(one.needed_bytes() for one in accounts.values())
    return RepositoryUsage(
        logical_bytes=sum(usage.logical_bytes for usage in snapshots),
        stored_bytes=stored_bytes,
        needed_bytes=needed,
        dead_bytes=stored_bytes - needed,
        snapshots=snapshots,
    )

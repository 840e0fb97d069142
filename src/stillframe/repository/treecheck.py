"""Whether everything that a snapshot's tree refers to can be read, and what cannot: named by file and pages."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from stillframe.domain.identifiers import SnapshotId
from stillframe.errors import DataError, StillframeError
from stillframe.repository.affected import affected_relation
from stillframe.repository.content import ContentReader
from stillframe.repository.extents import from_leaf, leaf_count, leaf_span
from stillframe.repository.facts import SnapshotDocument
from stillframe.repository.format import ContentKind
from stillframe.repository.index import Location
from stillframe.repository.library import PackLibrary
from stillframe.repository.nodes import DirectoryRecord, FileRecord, LeafNode, MapLeaf, Record, split_ids
from stillframe.repository.tree import FileEntry, Tree, file_entry
from stillframe.repository.trie import NameMap
from stillframe.repository.verified import WholeNodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    `object` names the stored object or content, when one is to blame; `snapshot_id`, `path` and the pages
    [first_block, first_block + blocks) of that file say what is affected: None where nothing (more) is, or all is.
    `relation` says what the file is a part of, and `relation_block` is the number that `first_block` has there.
    """

    problem: str
    object: str | None = None
    snapshot_id: SnapshotId | None = None
    path: str | None = None
    first_block: int | None = None
    blocks: int | None = None
    relation: str | None = None
    relation_block: int | None = None


class TreeCheck:
    """Sees that what trees refer to can be read. Parts that were found `whole` are not walked again.

    Content at the places in `bad` counts as lost.
    """

    def __init__(
        self, library: PackLibrary, content: ContentReader, *, bad: Collection[Location], whole: WholeNodes
    ) -> None:
        self.whole = whole
        self.library = library
        self._content = content
        self._bad = bad

    def snapshot(self, document: SnapshotDocument) -> list[Finding]:
        """What is wrong with a snapshot."""
        walk = _Walk(self, Tree(self._content, document.root))
        try:
            walk.directories(document.root)
        except DataError as error:
            walk.findings.append(Finding(problem=error.message))
        return [_in_snapshot(finding, document) for finding in walk.findings]

    def lost(self, kind: ContentKind, content_ids: Collection[bytes]) -> dict[bytes, str]:
        """Which of these cannot be read from anywhere, and why."""
        doubtful = content_ids if self._bad else self.library.index.not_held(kind, content_ids)
        found = ((content_id, self._why_lost(kind, content_id)) for content_id in doubtful)
        return {content_id: problem for content_id, problem in found if problem is not None}

    def _why_lost(self, kind: ContentKind, content_id: bytes) -> str | None:
        try:
            self._content.locate(kind, content_id)
        except DataError as error:
            return error.message
        places = list(self.library.index.find_all(content_id))
        if all(place in self._bad for place in places):
            return f"The {kind.name} {content_id.hex()} is damaged in {places[0].pack}."
        return None


class _ReadLeaf(NamedTuple):
    """A leaf whose first page has the number `start` in its file."""

    leaf_id: bytes
    node: LeafNode
    start: int

    def frames(self) -> Iterator[bytes]:
        """The ids of the frames that its pages are in."""
        return split_ids(self.node.frames)


class _Walk:
    """Through one tree. Each step says whether it has found nothing; what is whole is noted at once."""

    def __init__(self, check: TreeCheck, tree: Tree) -> None:
        self.findings: list[Finding] = []
        self._check = check
        self._whole = check.whole
        self._tree = tree

    def directories(self, root: bytes | None) -> None:
        """All of it. Raises DataError when a directory cannot be read."""
        self._names(self._tree.directory_map, root, self._directory)

    def _names(self, names: NameMap[Record], root: bytes | None, visit: Callable[[Record], bool]) -> bool:
        if root is None or root in self._whole:
            return True
        node = names.node(root)
        if isinstance(node, MapLeaf):
            clean = _all(visit(record) for record in node.records)
        else:
            clean = _all(self._names(names, child, visit) for _, child in node.children)
        return self._noted(root, clean=clean)

    def _directory(self, directory: DirectoryRecord) -> bool:
        def visit(record: FileRecord) -> bool:
            try:
                entry = file_entry(directory.name, record)
            except DataError as error:
                return self._found(Finding(problem=error.message, path=directory.name))
            return self._file(entry)

        try:
            return self._names(self._tree.file_map, directory.files, visit)
        except DataError as error:
            problem = f"Files are lost with a node of their map: {error.message}"
            return self._found(Finding(problem=problem, path=directory.name))

    def _file(self, entry: FileEntry) -> bool:
        root = entry.record.ref
        if root is None or root in self._whole:
            return True
        findings = self._relation(entry) if entry.is_relation else self._plain(entry)
        for finding in findings:
            self._found(replace(finding, path=entry.path))
        return self._noted(root, clean=not findings)

    def _relation(self, entry: FileEntry) -> list[Finding]:
        leaves = self._tree.leaf_ids(entry.record)
        found: list[Finding] = []
        read: list[_ReadLeaf] = []
        for number in range(leaf_count(entry.blocks)):
            start, end = leaf_span(number, entry.blocks)
            try:
                leaf_id = next(leaves)
            except (DataError, StopIteration) as error:
                rest = Finding(problem=_reason(error), first_block=start, blocks=entry.blocks - start)
                return [*found, *self._lost_pages(read), rest]
            if leaf_id not in self._whole:
                try:
                    read.append(_ReadLeaf(leaf_id, self._tree.leaf(leaf_id, blocks=end - start), start))
                except DataError as error:
                    found.append(Finding(problem=error.message, first_block=start, blocks=end - start))
        return [*found, *self._lost_pages(read)]

    def _lost_pages(self, leaves: Sequence[_ReadLeaf]) -> Iterator[Finding]:
        lost = self._check.lost(ContentKind.PAGES, {frame for leaf in leaves for frame in leaf.frames()})
        for leaf in leaves:
            if lost.keys().isdisjoint(leaf.frames()):
                self._noted(leaf.leaf_id, clean=True)
                continue
            for extent in from_leaf(leaf.node, leaf.start):
                if extent.frame in lost:
                    yield Finding(problem=lost[extent.frame], first_block=extent.first, blocks=extent.count)

    def _plain(self, entry: FileEntry) -> Sequence[Finding]:
        try:
            chunks = list(self._tree.chunks(entry.record))
        except DataError as error:
            return [Finding(problem=error.message)]
        found = {chunk.content_id for chunk in chunks if chunk.content_id is not None}
        return [Finding(problem=problem) for problem in self._check.lost(ContentKind.CHUNK, found).values()]

    def _noted(self, node_id: bytes, *, clean: bool) -> bool:
        if clean:
            self._whole.add(node_id)
        return clean

    def _found(self, finding: Finding) -> bool:
        self.findings.append(finding)
        return False


def _all(results: Iterator[bool]) -> bool:
    """Whether all are true; every one is asked for."""
    return all(list(results))


def _in_snapshot(finding: Finding, document: SnapshotDocument) -> Finding:
    """A finding about a file, with what it means in this snapshot."""
    relation = affected_relation(finding.path, document.facts) if finding.path is not None else None
    if relation is None:
        return replace(finding, snapshot_id=document.snapshot_id)
    first = relation.first_block + finding.first_block if finding.first_block is not None else None
    return replace(
        finding,
        snapshot_id=document.snapshot_id,
        relation=relation.description,
        relation_block=first,
    )


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, StillframeError) else "The list of its leaves is too short."

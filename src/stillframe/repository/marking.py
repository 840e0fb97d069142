"""What is needed: every piece of content that a document, a pin or a retired document reaches.

Needed content is remembered by the first eight bytes of its id, eight bytes a piece. Ids are keyed hashes, so
two that begin alike are as good as never met; where they are, more is kept than needed, never less.
"""

from array import array
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import KeyUnavailable, ObjectMissing
from stillframe.objectstore import ObjectStore
from stillframe.repository.content import ContentReader
from stillframe.repository.documents import document_key_reference
from stillframe.repository.extents import blocks_of, leaf_span
from stillframe.repository.format import PINS, SNAPSHOTS, ContentKind
from stillframe.repository.library import PackLibrary
from stillframe.repository.nodes import FileKind, FileRecord
from stillframe.repository.retired import original_name, retired_names
from stillframe.repository.tree import Tree
from stillframe.repository.vault import Vault

KEY_OF_ID = 8
"""Leading bytes of an id that needed content is remembered by."""

Keys = NDArray[np.uint64]


class Root(NamedTuple):
    """Where a tree begins, and whose content it refers to. `readable` is False when its key is not to be had."""

    key_reference: str
    root: bytes | None
    readable: bool


class Contents(Protocol):
    """What marking asks of the repository."""

    def content_of(self, reference: str) -> tuple[PackLibrary, ContentReader]:
        """The packs and the content of a data key, freshly listed."""
        ...


class Marking:
    """Grows with each `mark`. What was needed once stays so: a document deleted meanwhile is not forgotten."""

    def __init__(self, store: ObjectStore, vault: Vault, contents: Contents) -> None:
        self._store = store
        self._vault = vault
        self._contents = contents
        self._walks: dict[str, TreeWalk] = {}
        self._libraries: dict[str, PackLibrary] = {}
        self.unreadable: set[str] = set()
        """References of data keys that are needed and cannot be had: nothing is known of what they protect."""

    def mark(self, *, with_retired: bool = True) -> None:
        """Take in all there is now, deleted documents only if asked for.

        Raises what reading documents and nodes raises, KeyUnavailable excepted.
        """
        roots = list(self._roots(with_retired=with_retired))
        self.unreadable |= {root.key_reference for root in roots if not root.readable}
        for reference in {root.key_reference for root in roots if root.readable}:
            # After the roots were found: their nodes are in packs that have been there since before.
            library, content = self._contents.content_of(reference)
            self._libraries[reference] = library
            walk = self._walks.setdefault(reference, TreeWalk(content))
            for root in roots:
                if root.readable and root.key_reference == reference:
                    walk.walk(root.root)

    def needed(self, reference: str) -> Keys:
        """The keys of the ids of needed content under a data key, sorted, each once."""
        walk = self._walks.get(reference)
        return np.empty(0, np.uint64) if walk is None else walk.needed()

    def library(self, reference: str) -> PackLibrary:
        """The packs of a data key that something is needed of, as they were listed by the last `mark`."""
        return self._libraries[reference]

    def _roots(self, *, with_retired: bool) -> Iterator[Root]:
        """Documents before retired ones: one that is deleted in between is among the latter already."""
        for prefix in (SNAPSHOTS, PINS):
            for stored in self._store.list(prefix):
                try:
                    data = self._store.get(stored.name)
                except ObjectMissing:
                    continue
                yield self._root(data, stored.name)
        for name in retired_names(self._store) if with_retired else ():
            yield self._root(self._store.get(name), original_name(name))

    def _root(self, data: bytes, name: str) -> Root:
        try:
            document = self._vault.snapshot_behind(data, name=name)
        except KeyUnavailable:
            return Root(document_key_reference(data, name=name), None, readable=False)
        return Root(document.key_reference, document.root, readable=True)


class TreeWalk:
    """Collects the content of trees of one data key; parts that trees share are walked once."""

    def __init__(self, content: ContentReader) -> None:
        self._content = content
        self._seen: set[bytes] = set()
        self._found = array("Q")
        self._needed: Keys = np.empty(0, np.uint64)

    def walk(self, root: bytes | None) -> None:
        """Take in a tree. Raises ObjectMissing and StoredDataCorrupt when a node of it cannot be read."""
        tree = Tree(self, root)
        for directory in tree.directory_records():
            for leaf in tree.file_map.nodes(directory.files, skip=self._seen):
                for record in leaf.records:
                    self._walk_file(tree, record)

    def needed(self) -> Keys:
        """The keys of what has been found, sorted, each once."""
        if self._found:
            fresh = np.frombuffer(self._found, np.uint64)
            self._needed = np.unique(np.concatenate((self._needed, fresh)))
            self._found = array("Q")
        return self._needed

    def load(self, kind: ContentKind, content_id: bytes) -> bytes:
        """A node, which is needed from now on."""
        self._need(content_id)
        return self._content.load(kind, content_id)

    def _need(self, content_id: bytes) -> None:
        self._found.append(int.from_bytes(content_id[:KEY_OF_ID], "big"))

    def _walk_file(self, tree: Tree, record: FileRecord) -> None:
        if record.ref is None or record.ref in self._seen:
            return
        if record.kind is FileKind.RELATION:
            self._walk_relation(tree, record)
        else:
            for chunk in tree.chunks(record):
                if chunk.content_id is not None:
                    self._need(chunk.content_id)
        self._seen.add(record.ref)

    def _walk_relation(self, tree: Tree, record: FileRecord) -> None:
        for number, leaf_id in enumerate(tree.leaf_ids(record)):
            if leaf_id in self._seen:
                continue
            start, end = leaf_span(number, blocks_of(record.size))
            for extent in tree.leaf_extents(leaf_id, start=start, end=end):
                if extent.frame is not None:
                    self._need(extent.frame)
            self._seen.add(leaf_id)

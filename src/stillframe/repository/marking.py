"""What is needed: every piece of content that a document, a pin or a retired document reaches.

Needed content is remembered by the first eight bytes of its id, eight bytes a piece. Ids are keyed hashes, so
two that begin alike are as good as never met; where they are, more is kept than needed, never less.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from stillframe.errors import KeyUnavailable
from stillframe.objectstore import ObjectStore
from stillframe.repository.census import Census
from stillframe.repository.content import ContentReader
from stillframe.repository.documents import document_key_reference
from stillframe.repository.format import PINS, RETIRED, SNAPSHOTS
from stillframe.repository.library import PackLibrary
from stillframe.repository.retired import document_if_there, original_name
from stillframe.repository.rows import Keys
from stillframe.repository.vault import Vault
from stillframe.repository.walking import NodeMemory, TreeWalk


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

    def nodes_of(self, reference: str) -> NodeMemory:
        """What earlier sweeps have read of the nodes of a data key."""
        ...

    def keep_index(self, libraries: Iterable[PackLibrary]) -> None:
        """After a sweep: see to the index objects of these packs."""
        ...


class Marking:
    """Grows with each `mark`. What was needed once stays so: a document deleted meanwhile is not forgotten."""

    def __init__(self, store: ObjectStore, vault: Vault, contents: Contents) -> None:
        self._store = store
        self._vault = vault
        self._contents = contents
        self._census = Census(store)
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
            walk = self._walks.get(reference)
            if walk is None:
                walk = self._walks[reference] = TreeWalk(content, self._contents.nodes_of(reference))
            for root in roots:
                if root.readable and root.key_reference == reference:
                    walk.walk(root.root)

    def remember(self) -> None:
        """Keep what saves or warns the next sweep.

        Which nodes there are; and which documents there were, so that a listing that leaves one out is noticed.
        """
        for walk in self._walks.values():
            walk.remember()
        self._census.remember()

    def forget(self, names: Iterable[str]) -> None:
        """These documents are deleted, and the copies of them are about to go."""
        self._census.forget(names)

    def needed(self, reference: str) -> Keys:
        """The keys of the ids of needed content under a data key, sorted, each once."""
        walk = self._walks.get(reference)
        return np.empty(0, np.uint64) if walk is None else walk.needed()

    def library(self, reference: str) -> PackLibrary:
        """The packs of a data key that something is needed of, as they were listed by the last `mark`."""
        return self._libraries[reference]

    @property
    def libraries(self) -> list[PackLibrary]:
        """The packs of every data key that something is needed of."""
        return list(self._libraries.values())

    def _roots(self, *, with_retired: bool) -> Iterator[Root]:
        """Documents before retired ones: one that is deleted in between is among the latter already."""
        for prefix in (SNAPSHOTS, PINS):
            for name in self._census.names(prefix):
                data = document_if_there(self._store, name)
                if data is not None:
                    self._census.note(name)
                    yield self._root(data, name)
        for name in self._census.names(RETIRED) if with_retired else ():
            data = self._store.get(name)
            self._census.note(name)
            yield self._root(data, original_name(name))

    def _root(self, data: bytes, name: str) -> Root:
        try:
            document = self._vault.snapshot_behind(data, name=name)
        except KeyUnavailable:
            return Root(document_key_reference(data, name=name), None, readable=False)
        return Root(document.key_reference, document.root, readable=True)

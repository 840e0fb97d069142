"""Looking for damage, by the same code a restore reads with.

First the packs: can they be listed, and (at level BYTES) does every stored byte open to what it should. Then
the snapshots: is everything there that they refer to. What is wrong is named by snapshot, file and pages.
"""

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from stillframe.domain.identifiers import SnapshotId
from stillframe.errors import DataError, KeyUnavailable, ObjectMissing, StillframeError, StoredDataCorrupt
from stillframe.objectstore import ObjectStore
from stillframe.repository.census import CENSUS_NAME, PIN_MARKS, lost_documents, require_readable_census
from stillframe.repository.condemned import is_list, newest_list
from stillframe.repository.content import ContentReader
from stillframe.repository.crypto import DataKey
from stillframe.repository.facts import AttributesDocument, PinDocument, SnapshotDocument
from stillframe.repository.format import (
    ATTRIBUTES,
    CONDEMNED,
    CONFIG_NAME,
    EPOCHS,
    KEYS,
    NODES,
    PACKS,
    PINS,
    RETIRED,
    SNAPSHOTS,
    VERIFIED,
)
from stillframe.repository.index import Location
from stillframe.repository.indexform import is_index_name
from stillframe.repository.library import Examined, PackLibrary, exists
from stillframe.repository.pack import Entry, PackName, list_pack
from stillframe.repository.treecheck import Finding, TreeCheck
from stillframe.repository.verified import CheckMemory, WholeNodes

_REQUEST = 8 << 20


class Level(StrEnum):
    """How deep a check looks.

    STRUCTURE reads documents, keys, trailers and all nodes, and sees that everything referred to is listed;
    BYTES also opens every stored byte.
    """

    STRUCTURE = "structure"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckProgress:
    """How far a check is. Bytes of packs."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What was looked at and what is wrong with it."""

    level: Level
    snapshots: int
    packs: int
    bytes_read: int
    bytes_remembered: int
    """Lengths of packs that were not read, because they have been verified before."""
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


class Checkable(Protocol):
    """What a check asks of the repository."""

    def snapshot_ids(self) -> Iterator[SnapshotId]:
        """The ids of all snapshots."""
        ...

    def stored_document(self, snapshot_id: SnapshotId) -> SnapshotDocument:
        """The document of one."""
        ...

    def stored_attributes(self, document: SnapshotDocument) -> AttributesDocument:
        """Its attributes."""
        ...

    def pin_ids(self) -> Iterator[uuid.UUID]:
        """The ids of all pins."""
        ...

    def stored_pin(self, pin_id: uuid.UUID) -> PinDocument:
        """One of them."""
        ...

    def content_of(self, reference: str) -> tuple[PackLibrary, ContentReader]:
        """The packs and the content of a data key."""
        ...

    def data_key_references(self) -> list[str]:
        """All data keys."""
        ...

    def test_data_key(self, reference: str) -> None:
        """Raise what keeps a data key from being used."""
        ...


Progress = Callable[[CheckProgress], None]
Memory = Callable[[DataKey], CheckMemory]
"""What earlier checks have verified under a data key, and how long that is believed."""


def check(
    store: ObjectStore,
    repository: Checkable,
    *,
    level: Level,
    memory: Memory,
    on_progress: Progress | None,
) -> CheckReport:
    """Everything that is wrong. Raises only what keeps a check from being made."""
    return _Check(store, repository, level=level, memory=memory, on_progress=on_progress).run()


class _Check:
    def __init__(
        self,
        store: ObjectStore,
        repository: Checkable,
        *,
        level: Level,
        memory: Memory,
        on_progress: Progress | None,
    ) -> None:
        self._store = store
        self._repository = repository
        self._level = level
        self._memory = memory
        self._on_progress = on_progress
        self._findings: list[Finding] = []
        self._packs = 0
        self._bytes = 0
        self._remembered = 0

    def run(self) -> CheckReport:
        self._look_for_strays()
        # What they refer to is in packs that were there before they were, and so are listed after this.
        early = set(self._repository.snapshot_ids())
        checks = {reference: self._packs_of(reference) for reference in self._usable_keys()}
        documents = list(self._documents())
        listed = {document.snapshot_id for document in documents}
        pinned = {pin.snapshot_id: pin for pin in self._pins() if pin.snapshot_id not in listed}
        self._check_trees(checks, (one for one in documents if one.snapshot_id in early))
        for one in checks.values():
            one.remember()
        late = (one for one in documents if one.snapshot_id not in early)
        self._check_trees(checks, (*late, *pinned.values()))
        return CheckReport(
            level=self._level,
            snapshots=len(documents),
            packs=self._packs,
            bytes_read=self._bytes,
            bytes_remembered=self._remembered,
            findings=tuple(self._findings),
        )

    def _check_trees(self, checks: Mapping[str, "_KeyCheck"], documents: Iterable[SnapshotDocument]) -> None:
        for document in documents:
            one = checks.get(document.key_reference)
            if one is not None:
                self._findings += one.snapshot(document)

    def _look_for_strays(self) -> None:
        for stored in self._store.list(""):
            if not _belongs(stored.name):
                self._findings.append(
                    Finding(problem="This object is not part of a repository.", object=stored.name)
                )

        number, condemned = newest_list(self._store)
        if condemned is None:
            problem = "The list of condemned packs cannot be read; the next sweep begins a new one."
            self._findings.append(Finding(problem=problem, object=f"{CONDEMNED}{number:010}"))
        try:
            require_readable_census(self._store)
        except StoredDataCorrupt as error:
            self._findings.append(Finding(problem=error.message, object=CENSUS_NAME))
        for name in lost_documents(self._store):
            self._findings.append(Finding(problem="It is gone, and was not deleted.", object=name))

    def _usable_keys(self) -> Iterator[str]:
        for reference in self._repository.data_key_references():
            try:
                self._repository.test_data_key(reference)
            except (DataError, KeyUnavailable) as error:
                self._findings.append(Finding(problem=error.message, object=f"keys/{reference}"))
            else:
                yield reference

    def _packs_of(self, reference: str) -> "_KeyCheck":
        library, content = self._repository.content_of(reference)
        if self._level is Level.BYTES:
            return self._bytes_of(library, content)
        self._note_examined(library, library.examine())
        library.refresh()
        return _KeyCheck(TreeCheck(library, content, bad=(), whole=WholeNodes()), None, {})

    def _bytes_of(self, library: PackLibrary, content: ContentReader) -> "_KeyCheck":
        memory = self._memory(library.key)
        examined = library.examine(trusted=memory.digests(library.sizes), compared=memory.index_objects)
        self._note_examined(library, examined)
        memory.note_index_objects(examined.index_objects)
        present = {name: size for name, size in library.sizes.items() if name not in library.damaged}
        whole = memory.whole(present)
        bad = set(self._bad_places(library, content, memory, examined.digests))
        library.distrust((location.pack, location.place.offset) for location in bad)
        # Packs of a writer that aborted meanwhile are gone, and nothing may count on them.
        library.refresh()
        trees = TreeCheck(library, content, bad=bad, whole=WholeNodes() if bad else whole)
        return _KeyCheck(trees, memory, present)

    def _note_examined(self, library: PackLibrary, examined: Examined) -> None:
        self._findings += [Finding(problem=error.message, object=name) for name, error in examined.damaged]
        self._packs += len(library.sizes)

    def _bad_places(
        self,
        library: PackLibrary,
        content: ContentReader,
        memory: CheckMemory,
        digests: Mapping[PackName, int],
    ) -> Iterator[Location]:
        total = sum(library.sizes.values())
        done = 0
        for name, size in sorted(library.sizes.items(), key=lambda item: str(item[0])):
            if name in library.damaged:
                memory.forget(name)
            elif memory.covers(name, size):
                self._remembered += size
            else:
                yield from self._bad_in_pack(library, content, memory, name, digests.get(name))
            done += size
            if self._on_progress is not None:
                self._on_progress(CheckProgress(done_bytes=done, total_bytes=total))

    def _bad_in_pack(
        self,
        library: PackLibrary,
        content: ContentReader,
        memory: CheckMemory,
        name: PackName,
        digest: int | None,
    ) -> Iterator[Location]:
        """What is bad in a pack; whether it is in order is remembered."""
        before, size = len(self._findings), library.sizes[name]
        memory.forget(name)
        try:
            entries = list_pack(self._store, name, library.key, size=size).entries
            for group in _requests(entries):
                yield from self._bad_in_request(content, name, group)
        except ObjectMissing:
            return
        except DataError as error:
            self._findings.append(Finding(problem=error.message, object=str(name)))
        if len(self._findings) == before:
            memory.note(name, size, digest)

    def _bad_in_request(
        self, content: ContentReader, name: PackName, entries: list[Entry]
    ) -> Iterator[Location]:
        start, last = entries[0].place.offset, entries[-1].place
        data = memoryview(self._store.get_range(str(name), start, last.offset + last.stored - start))
        self._bytes += len(data)
        for content_id, place in entries:
            location = Location(name, place)
            try:
                content.verify(location, content_id, data[place.offset - start :][: place.stored])
            except DataError as error:
                self._findings.append(Finding(problem=error.message, object=str(name)))
                yield location

    def _documents(self) -> Iterator[SnapshotDocument]:
        for snapshot_id in self._repository.snapshot_ids():
            try:
                document = self._repository.stored_document(snapshot_id)
                yield document
                self._repository.stored_attributes(document)
            except (DataError, KeyUnavailable) as error:
                if not _deleted(self._store, snapshot_id, error):
                    self._findings.append(Finding(problem=error.message, snapshot_id=snapshot_id))

    def _pins(self) -> Iterator[SnapshotDocument]:
        for pin_id in self._repository.pin_ids():
            try:
                yield self._repository.stored_pin(pin_id).snapshot
            except (DataError, KeyUnavailable) as error:
                name = f"{PINS}{pin_id}"
                if not isinstance(error, ObjectMissing) or exists(self._store, name):
                    self._findings.append(Finding(problem=error.message, object=name))


class _KeyCheck:
    """The trees under one data key. `listed`: the packs that were read, or need not be, with their lengths."""

    def __init__(self, trees: TreeCheck, memory: CheckMemory | None, listed: Mapping[PackName, int]) -> None:
        self._trees = trees
        self._memory = memory
        self._listed = listed
        self._clean = True

    def snapshot(self, document: SnapshotDocument) -> list[Finding]:
        """What is wrong with a snapshot."""
        found = self._trees.snapshot(document)
        self._clean = self._clean and not found
        return found

    def remember(self) -> None:
        """Keep what the next check need not look at. All trees so far refer to packs that are `listed`."""
        if self._memory is None:
            return
        present = self._trees.library.sizes
        in_order = all(self._memory.knows(name, size) for name, size in self._listed.items())
        if self._clean and in_order and self._listed.keys() <= present.keys():
            self._memory.note_whole(self._trees.whole)
        self._memory.save(present)


def _requests(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Neighbouring entries, some megabytes at a time."""
    group: list[Entry] = []
    for entry in entries:
        if group and entry.place.offset + entry.place.stored - group[0].place.offset > _REQUEST:
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _belongs(name: str) -> bool:
    if name.startswith((PACKS, NODES)):
        with contextlib.suppress(DataError):
            PackName.parse(name)
            return True
        return False
    known = (KEYS, SNAPSHOTS, ATTRIBUTES, EPOCHS, PINS, PIN_MARKS, RETIRED, VERIFIED)
    alone = {CONFIG_NAME, CENSUS_NAME}
    return name in alone or is_list(name) or is_index_name(name) or name.startswith(known)


def _deleted(store: ObjectStore, snapshot_id: SnapshotId, error: StillframeError) -> bool:
    """Whether a snapshot could not be read because it was deleted in this moment."""
    return isinstance(error, ObjectMissing) and not exists(store, f"{SNAPSHOTS}{snapshot_id}")

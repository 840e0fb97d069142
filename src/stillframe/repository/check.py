"""Looking for damage, by the same code a restore reads with.

First the packs: can they be listed, and (at level BYTES) does every stored byte open to what it should. Then
the snapshots: is everything there that they refer to. What is wrong is named by snapshot, file and pages.
"""

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from stillframe.domain.identifiers import SnapshotId
from stillframe.errors import DataError, KeyUnavailable, ObjectMissing, StillframeError, StoredDataCorrupt
from stillframe.objectstore import ObjectStore
from stillframe.repository.affected import affected_relation
from stillframe.repository.census import CENSUS_NAME, PIN_MARKS, lost_documents, require_readable_census
from stillframe.repository.condemned import is_list, newest_list
from stillframe.repository.content import ContentReader
from stillframe.repository.crypto import ContentBytes, DataKey
from stillframe.repository.extents import leaf_count, leaf_span
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
    ContentKind,
)
from stillframe.repository.index import Location
from stillframe.repository.indexform import is_index_name
from stillframe.repository.library import PackLibrary, exists
from stillframe.repository.pack import Entry, PackName, list_pack
from stillframe.repository.tree import FileEntry, Tree, file_entry
from stillframe.repository.verified import VerifiedPacks

_REQUEST = 8 << 20


class Level(StrEnum):
    """How deep a check looks.

    STRUCTURE reads documents, keys, trailers and all nodes, and sees that everything referred to is listed;
    BYTES also opens every stored byte.
    """

    STRUCTURE = "structure"
    BYTES = "bytes"


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
Memory = Callable[[DataKey], VerifiedPacks]
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
        checks = {reference: self._packs_of(reference) for reference in self._usable_keys()}
        documents = list(self._documents())
        listed = {document.snapshot_id for document in documents}
        pinned = {pin.snapshot_id: pin for pin in self._pins() if pin.snapshot_id not in listed}
        for document in (*documents, *pinned.values()):
            checker = checks.get(document.key_reference)
            if checker is not None:
                self._findings.extend(checker.snapshot(document))
        return CheckReport(
            level=self._level,
            snapshots=len(documents),
            packs=self._packs,
            bytes_read=self._bytes,
            bytes_remembered=self._remembered,
            findings=tuple(self._findings),
        )

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

    def _packs_of(self, reference: str) -> "_TreeCheck":
        library, content = self._repository.content_of(reference)
        for name, error in library.examine():
            self._findings.append(Finding(problem=error.message, object=name))
        self._packs += len(library.sizes)
        bad: set[Location] = set()
        if self._level is Level.BYTES:
            memory = self._memory(library.key)
            bad = set(self._bad_places(library, content, memory))
            memory.save(library.sizes)
        library.distrust((location.pack, location.place.offset) for location in bad)
        # Packs of a writer that aborted meanwhile are gone, and nothing may count on them.
        library.refresh()
        return _TreeCheck(library, content, bad)

    def _bad_places(
        self, library: PackLibrary, content: ContentReader, memory: VerifiedPacks
    ) -> Iterator[Location]:
        total = sum(library.sizes.values())
        done = 0
        for name, size in sorted(library.sizes.items(), key=lambda item: str(item[0])):
            if name in library.damaged:
                memory.forget(name)
            elif memory.covers(name, size):
                self._remembered += size
            else:
                yield from self._noted(memory, name, size, self._bad_in_pack(library, content, name, size))
            done += size
            if self._on_progress is not None:
                self._on_progress(CheckProgress(done_bytes=done, total_bytes=total))

    def _noted(
        self, memory: VerifiedPacks, name: PackName, size: int, bad: Iterator[Location]
    ) -> Iterator[Location]:
        """The same, and what is found is remembered."""
        before = len(self._findings)
        yield from bad
        if len(self._findings) == before:
            memory.note(name, size)
        else:
            memory.forget(name)

    def _bad_in_pack(
        self, library: PackLibrary, content: ContentReader, name: PackName, size: int
    ) -> Iterator[Location]:
        try:
            entries = list_pack(self._store, name, library.key, size=size).entries
            for group in _requests(entries):
                yield from self._bad_in_request(content, name, group)
        except ObjectMissing:
            return
        except DataError as error:
            self._findings.append(Finding(problem=error.message, object=str(name)))

    def _bad_in_request(
        self, content: ContentReader, name: PackName, entries: list[Entry]
    ) -> Iterator[Location]:
        start, last = entries[0].place.offset, entries[-1].place
        data = memoryview(self._store.get_range(str(name), start, last.offset + last.stored - start))
        self._bytes += len(data)
        for content_id, place in entries:
            location = Location(name, place)
            problem = _problem(content, location, content_id, data[place.offset - start :][: place.stored])
            if problem is not None:
                self._findings.append(Finding(problem=problem, object=str(name)))
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


class _TreeCheck:
    """Sees that what trees refer to can be read; parts that were found whole are not walked again."""

    def __init__(self, library: PackLibrary, content: ContentReader, bad: set[Location]) -> None:
        self._library = library
        self._content = content
        self._bad = bad
        self._whole: set[bytes] = set()

    def snapshot(self, document: SnapshotDocument) -> Iterator[Finding]:
        """What is wrong with a snapshot."""
        tree = Tree(self._content, document.root)
        try:
            directories = tree.directory_records()
        except DataError as error:
            yield Finding(problem=error.message, snapshot_id=document.snapshot_id)
            return
        for directory in directories:
            for finding in self._directory(tree, directory.name, directory.files):
                yield _in_snapshot(finding, document)

    def _directory(self, tree: Tree, path: str, files: bytes | None) -> Iterator[Finding]:
        records = tree.file_map.records(files)
        while True:
            try:
                record = next(records, None)
                if record is None:
                    return
                entry = file_entry(path, record)
            except DataError as error:
                yield Finding(problem=f"Files are lost with a node of their map: {error.message}", path=path)
                return
            yield from self._file(tree, entry)

    def _file(self, tree: Tree, entry: FileEntry) -> Iterator[Finding]:
        if entry.record.ref is None or entry.record.ref in self._whole:
            return
        findings = self._relation(tree, entry) if entry.is_relation else self._plain(tree, entry)
        found = list(findings)
        if not found:
            self._whole.add(entry.record.ref)
        for finding in found:
            yield replace(finding, path=entry.path)

    def _relation(self, tree: Tree, entry: FileEntry) -> Iterator[Finding]:
        leaves = tree.leaf_ids(entry.record)
        for number in range(leaf_count(entry.blocks)):
            start, end = leaf_span(number, entry.blocks)
            try:
                leaf_id = next(leaves)
            except (DataError, StopIteration) as error:
                yield Finding(problem=_reason(error), first_block=start, blocks=entry.blocks - start)
                return
            if leaf_id not in self._whole:
                yield from self._leaf(tree, leaf_id, start, end)

    def _leaf(self, tree: Tree, leaf_id: bytes, start: int, end: int) -> Iterator[Finding]:
        try:
            extents = list(tree.leaf_extents(leaf_id, start=start, end=end))
        except DataError as error:
            yield Finding(problem=error.message, first_block=start, blocks=end - start)
            return
        clean = True
        for extent in extents:
            problem = None if extent.frame is None else self._lost(ContentKind.PAGES, extent.frame)
            if problem is not None:
                clean = False
                yield Finding(problem=problem, first_block=extent.first, blocks=extent.count)
        if clean:
            self._whole.add(leaf_id)

    def _plain(self, tree: Tree, entry: FileEntry) -> Iterator[Finding]:
        try:
            for chunk in tree.chunks(entry.record):
                problem = (
                    None if chunk.content_id is None else self._lost(ContentKind.CHUNK, chunk.content_id)
                )
                if problem is not None:
                    yield Finding(problem=problem)
        except DataError as error:
            yield Finding(problem=error.message)

    def _lost(self, kind: ContentKind, content_id: bytes) -> str | None:
        """Why content cannot be read from anywhere, or None."""
        try:
            self._content.locate(kind, content_id)
        except DataError as error:
            return error.message
        places = list(self._library.index.find_all(content_id))
        if all(place in self._bad for place in places):
            return f"The {kind.name} {content_id.hex()} is damaged in {places[0].pack}."
        return None


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


def _problem(content: ContentReader, location: Location, content_id: bytes, data: ContentBytes) -> str | None:
    try:
        content.open(location, content_id, data)
    except DataError as error:
        return error.message
    return None


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


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, StillframeError) else "The list of its leaves is too short."

"""The pages of a snapshot for a data directory whose files arrive later: what is asked for, and the rest in order."""

import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from stillframe.errors import InternalError, ObjectMissing
from stillframe.hydration.source import IsMissing
from stillframe.postgres.files import parse_relation_name
from stillframe.postgres.pages import PAGE_SIZE, block_numbers, page_checksums
from stillframe.postgres.session_catalogs import by_use, is_for_every_session
from stillframe.repository import FetchGroup, FileEntry, SnapshotReader

_FIRST_USER_OBJECT = 16384
"""PostgreSQL: FirstNormalObjectId. Relations with a smaller number are catalogs, which every session reads."""
_FIRST_BYTES = 4 * 1024 * 1024
"""How much of them comes unasked while the server starts: of two databases, and what all have in common."""


class SnapshotSource:
    """A snapshot as the source of a hydrator. Safe to use from several threads."""

    def __init__(self, reader: SnapshotReader) -> None:
        self._reader = reader
        self._known: dict[str, FileEntry] = {}
        self._lock = threading.Lock()

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Bytes of a relation file, zeros included; fewer than `length` only where the snapshot's file ends.

        Raises ObjectMissing and StoredDataCorrupt for content that is lost, and what the store raises.
        """
        return self._reader.read_file(self._entry(path), offset, length)

    def around(self, path: str, offset: int, length: int) -> tuple[int, int]:
        """Offset and length of the pages around these that lie in the same frames, themselves included.

        Raises as `read`.
        """
        return self._reader.stretch_around(self._entry(path), offset, length)

    def first(self, paths: Collection[str]) -> Iterator["SnapshotBatch"]:
        """Of these files the catalogs that every session reads, up to a bound: one batch costs less than hundreds of
        accesses that wait.
        """
        room, chosen = _FIRST_BYTES, []
        wanted = {path for path in paths if is_for_every_session(path)}
        for entry in sorted(self._entries(wanted), key=lambda entry: by_use(entry.path)):
            if entry.size <= room:
                room -= entry.size
                chosen.append(entry)
        return self._planned(chosen)

    def batches(self, paths: Collection[str]) -> Iterator["SnapshotBatch"]:
        """Everything of these files that is not zero: catalogs first, then the others as `fetch_plan` has them."""
        entries = self._entries(set(paths))
        for group in (
            [entry for entry in entries if is_catalog(entry.path)],
            [entry for entry in entries if not is_catalog(entry.path)],
        ):
            yield from self._planned(group)

    def page_is_whole(self, path: str, page_number: int, page: bytes) -> bool:
        """Whether a page of a relation file, counted within that file, is neither zero nor torn.

        PostgreSQL's checksum covers the number that the page has in the whole fork.
        """
        relation = parse_relation_name(path.rpartition("/")[2])
        if relation is None:
            raise InternalError(f"{path} is no relation file")
        segment_pages = self._reader.document.facts.postgres.relation_segment_size // PAGE_SIZE
        block = block_numbers(relation.segment * segment_pages + page_number, 1)
        stored = int.from_bytes(page[8:10], "little")
        return len(page) == PAGE_SIZE and any(page) and stored == int(page_checksums(page, blocks=block)[0])

    def _planned(self, entries: Iterable[FileEntry]) -> Iterator["SnapshotBatch"]:
        for group in self._reader.fetch_plan(entries):
            yield SnapshotBatch(reader=self._reader, group=group)

    def _entries(self, wanted: set[str]) -> list[FileEntry]:
        if len(wanted) == 1:
            return [self._entry(path) for path in wanted]
        return [entry for entry in self._reader.files() if entry.path in wanted]

    def _entry(self, path: str) -> FileEntry:
        with self._lock:
            entry = self._known.get(path)
        if entry is None:
            entry = self._reader.entry(path)
            if entry is None:
                raise ObjectMissing(f"The snapshot has no file {path}.")
            with self._lock:
                self._known[path] = entry
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotBatch:
    """Neighbours in the store, fetched together when its pieces are asked for."""

    reader: SnapshotReader
    group: FetchGroup

    def pieces(self, is_missing: IsMissing) -> Iterator[tuple[str, int, memoryview]]:
        """Path, offset in bytes, and the bytes. Raises as `SnapshotReader.fetch`."""
        for piece in self.reader.fetch(self.group, is_wanted=is_missing):
            yield piece.entry.path, piece.offset, piece.data


def is_catalog(path: str) -> bool:
    """Whether a relation file belongs to a system catalog that was not rewritten since initdb."""
    relation = parse_relation_name(path.rpartition("/")[2])
    return path.startswith("global/") or (relation is not None and relation.number < _FIRST_USER_OBJECT)

"""Which pages a capture has to read: its input, so that how they were found out is nobody else's business."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from stillframe.postgres.files import Fork, ListedFile, RelationFile
from stillframe.postgres.pages import PAGE_SIZE
from stillframe.postgres.wal_summaries import NO_LIMIT, Blocks, Doubt, ForkChanges, ForkKey
from stillframe.repository import FileEntry

_DEFAULT_TABLESPACE: Final = 1663
_GLOBAL_TABLESPACE: Final = 1664
WINDOW: Final = 32
"""Pages of a whole frame; frames of runs begin at multiples of it."""
_DENSE: Final = 24
"""From so many changed pages of a window on, all of it is read: a third more to store, at the most, and one
frame again where there were many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRange:
    """Pages of one file that follow each other."""

    first: int
    count: int


class ChangeSet(Protocol):
    """What may differ from the parent snapshot. Anything not named by it is taken from the parent unread."""

    @property
    def full_reason(self) -> str | None:
        """Why everything is read, or None when the parent is relied on."""
        ...

    def to_read(self, file: ListedFile, *, blocks: int) -> Iterable[BlockRange]:
        """The pages of a relation file of that many pages to be read: ascending, not touching each other."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything:
    """Every page of every file: always right, for any parent or none. `doubt` is the reason in a word."""

    full_reason: str
    doubt: Doubt = Doubt.ASKED

    def to_read(self, file: ListedFile, *, blocks: int) -> Iterable[BlockRange]:
        """All of it."""
        del file
        return _whole(blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fork:
    """What happened to one fork. Block numbers count over all segments."""

    limit: int
    blocks: Blocks


class SinceParent:
    """What WAL says was changed since the parent was begun (rules 9, 13-17).

    `parent_file` finds a file of the parent by its path; `segment_blocks` are the pages of a whole segment.
    """

    full_reason: None = None

    def __init__(
        self,
        changes: Mapping[ForkKey, ForkChanges],
        *,
        parent_file: Callable[[str], FileEntry | None],
        segment_blocks: int,
    ) -> None:
        self._parent_file = parent_file
        self._segment_blocks = segment_blocks
        self._databases: dict[tuple[int, int], dict[tuple[int, Fork], _Fork]] = {}
        for key, found in changes.items():
            forks = self._databases.setdefault((key.tablespace, key.database), {})
            forks[key.number, key.fork] = _Fork(limit=found.limit, blocks=found.blocks())

    @property
    def changed_pages(self) -> int:
        """How many pages WAL names."""
        return sum(len(fork.blocks) for forks in self._databases.values() for fork in forks.values())

    def nothing_inherited(self, directory: str) -> bool:
        """Whether the database in this directory was made or dropped meanwhile (rule 14)."""
        return (0, Fork.MAIN) in self._forks_of(directory)

    def touched_relations(self, directory: str) -> set[int]:
        """The numbers of the relations in this directory that anything happened to."""
        return {number for number, _ in self._forks_of(directory)}

    def to_read(self, file: ListedFile, *, blocks: int) -> Iterable[BlockRange]:
        """What is listed, and everything from where the parent's content cannot be relied on (rule 13)."""
        trusted = min(self._trusted(file), blocks)
        if trusted == 0:
            return _whole(blocks)
        read = np.zeros(blocks, dtype=np.bool_)
        read[self._listed(file, below=trusted)] = True
        read[trusted:] = True
        return joined_ranges(_densified(read))

    def _forks_of(self, directory: str) -> Mapping[tuple[int, Fork], _Fork]:
        return self._databases.get(_database(directory), {})

    def _fork(self, file: ListedFile) -> _Fork | None:
        assert file.relation is not None
        directory = file.path.rpartition("/")[0]
        return self._forks_of(directory).get((file.relation.number, file.relation.fork))

    def _trusted(self, file: ListedFile) -> int:
        """The first pages of the file that are as the parent has them, but for those that are listed.

        That is never more than the smallest length it had meanwhile: what was cut off and grew again may hold
        pages that are not in WAL.
        """
        parent = self._parent_file(file.path)
        assert file.relation is not None
        if parent is None or not parent.is_relation or self._odd(file):
            return 0
        if self.nothing_inherited(file.path.rpartition("/")[0]):
            return 0
        # The map of free space is not in WAL (rule 16).
        if file.relation.fork is Fork.FREE_SPACE:
            return 0
        fork = self._fork(file)
        if fork is None or fork.limit == NO_LIMIT:
            return parent.blocks
        # PostgreSQL gave a map's limit in blocks of the table for some releases (18.2 and 17.8 corrected it), and
        # cutting a map clears bits of a page that it keeps: maps are small, so read all of one that was cut.
        if file.relation.fork is Fork.VISIBILITY:
            return 0
        return min(parent.blocks, max(fork.limit - self._first_block(file.relation), 0))

    def _odd(self, file: ListedFile) -> bool:
        return file.size % PAGE_SIZE != 0 or file.size > self._segment_blocks * PAGE_SIZE

    def _listed(self, file: ListedFile, *, below: int) -> npt.NDArray[np.int64]:
        """The listed pages of this file among its first `below`, counted from its beginning."""
        fork = self._fork(file)
        if fork is None:
            return np.empty(0, dtype=np.int64)
        assert file.relation is not None
        # The segment's part of a list that counts over all segments. Not in 32 bits: the end of the last
        # possible segment does not fit.
        numbers = fork.blocks.astype(np.int64) - self._first_block(file.relation)
        first, end = np.searchsorted(numbers, (0, below))
        return numbers[first:end]

    def _first_block(self, relation: RelationFile) -> int:
        return relation.segment * self._segment_blocks


def _database(directory: str) -> tuple[int, int]:
    """Tablespace and database of a directory with relation files, as WAL names them."""
    parts = directory.split("/")
    match parts:
        case ["base", database]:
            return _DEFAULT_TABLESPACE, int(database)
        case ["pg_tblspc", tablespace, _, database]:
            return int(tablespace), int(database)
        case _:
            return _GLOBAL_TABLESPACE, 0


def _whole(blocks: int) -> tuple[BlockRange, ...]:
    return (BlockRange(first=0, count=blocks),) if blocks else ()


def _densified(read: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The same and all of the windows of which most is read anyway."""
    whole = len(read) - len(read) % WINDOW
    windows = read[:whole].reshape(-1, WINDOW)
    windows[np.count_nonzero(windows, axis=1) >= _DENSE] = True
    return read


def joined_ranges(read: npt.NDArray[np.bool_]) -> list[BlockRange]:
    """Where the pages that are marked follow each other."""
    edges = np.flatnonzero(np.diff(read, prepend=False, append=False)).tolist()
    return [
        BlockRange(first=first, count=end - first) for first, end in zip(edges[::2], edges[1::2], strict=True)
    ]

"""Which pages a capture has to read: its input, so that how they were found out is nobody else's business."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from stillframe.postgres.files import ListedFile


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
    """Every page of every file: always right, for any parent or none."""

    full_reason: str = "only full captures are made by this release"

    def to_read(self, file: ListedFile, *, blocks: int) -> Iterable[BlockRange]:
        """All of it."""
        del file
        return (BlockRange(first=0, count=blocks),) if blocks else ()

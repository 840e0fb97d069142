"""Where content comes from, and whoever counts it: what the hydration wants from its caller."""

from collections.abc import Callable, Collection, Iterator
from typing import Protocol

Data = bytes | memoryview
PageCheck = Callable[[str, int, bytes], bool]
"""Whether a page is neither zero nor torn, given path, number of the page within that file, and its bytes."""
IsMissing = Callable[[str, int, int], bool]
"""Whether some of the bytes are still wanted, given path, offset and length."""


class Batch(Protocol):
    """Pieces that are best fetched together."""

    def pieces(self, is_missing: IsMissing) -> Iterator[tuple[str, int, memoryview]]:
        """Path, offset of a page in bytes, and whole pages (or the end of the file). May be asked for again.

        What is not missing need not be fetched, and may be left out.
        """
        ...


class Source(Protocol):
    """The exact bytes the files had in the snapshot. Paths are relative to the directory, with slashes.

    Safe to use from several threads. Whatever it raises, the hydration waits and asks again.
    """

    def read(self, path: str, offset: int, length: int) -> Data:
        """These bytes of a file, zeros included, from the beginning of a page on."""
        ...

    def around(self, path: str, offset: int, length: int) -> tuple[int, int]:
        """Offset and length of what `read` gives at no further cost with these bytes, themselves included."""
        ...

    def first(self, paths: Collection[str]) -> Iterator[Batch]:
        """What little of these files is wanted as soon as a server starts, without being asked for."""
        ...

    def batches(self, paths: Collection[str]) -> Iterator[Batch]:
        """Everything of these files that is not zero, the most useful first."""
        ...

"""What the threads of a capture share, and how they read the files of a running cluster."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stillframe.backup.changes import ChangeSet
from stillframe.backup.progress import Progress
from stillframe.backup.tidying import Tidying
from stillframe.domain.cancel import CancelToken
from stillframe.domain.lsn import Lsn
from stillframe.errors import SourceDataCorrupt
from stillframe.postgres.files import Fork, RelationFile
from stillframe.postgres.pages import BATCH_PAGES, PAGE_SIZE
from stillframe.repository import SnapshotWriter
from stillframe.system import translating_os_errors

CHUNK = 1024 * 1024
_MOST_DAMAGE_KEPT = 1000
_PRIVATE_MODE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedPage:
    """A page of the source that is wrong and stays wrong. `block` counts from the beginning of this file."""

    path: str
    relation: RelationFile
    block: int

    @property
    def harmless(self) -> bool:
        """Maps of free space and visibility are rebuilt by their readers, which zero a bad page (rule 25)."""
        return self.relation.fork in {Fork.FREE_SPACE, Fork.VISIBILITY}


@dataclass(slots=True, kw_only=True)
class Findings:
    """What the threads noticed while they read. `damaged_count` counts also what is not listed any more."""

    damaged: list[DamagedPage] = field(default_factory=list)
    damaged_count: int = 0
    newer: list[tuple[DamagedPage, Lsn]] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    bytes_read: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_damage(self, page: DamagedPage) -> None:
        """Note a damaged page; the first thousand are kept."""
        with self._lock:
            self.damaged_count += 1
            if len(self.damaged) < _MOST_DAMAGE_KEPT:
                self.damaged.append(page)

    def add_newer(self, page: DamagedPage, lsn: Lsn) -> None:
        """Note a page that fails its checksum, but says that it was changed at `lsn`, after the start."""
        with self._lock:
            self.newer.append((page, lsn))

    def judge_newer(self, stop_lsn: Lsn) -> None:
        """Pages that claim to be from after the end of the backup lied about it: they are damaged, too."""
        for page, lsn in self.newer:
            if lsn > stop_lsn:
                self.add_damage(page)

    def add_vanished(self, path: str) -> None:
        """Note a file that was dropped between the listing and its turn (rule 27)."""
        with self._lock:
            self.vanished.append(path)

    def add_read(self, size: int) -> None:
        """Note that so many bytes of the source were read."""
        with self._lock:
            self.bytes_read += size


class BatchBuffers:
    """Memory for batches of pages, one a thread, used again: fresh memory costs as much as reading into it."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []

    @contextmanager
    def lent(self, size: int) -> Iterator[memoryview]:
        """`size` bytes, at most a batch of pages, with whatever they held before."""
        buffer = self._free.pop() if self._free else bytearray(BATCH_PAGES * PAGE_SIZE)
        with memoryview(buffer) as whole, whole[:size] as part:
            yield part
        self._free.append(buffer)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyContext:
    """What every piece of the copy needs. `verify_pages` is false for clusters without checksums.

    There is a `tidying` when a parent is relied on.
    """

    root: Path
    writer: SnapshotWriter
    changes: ChangeSet
    start_lsn: Lsn
    segment_blocks: int
    verify_pages: bool
    progress: Progress
    cancel: CancelToken
    tidying: Tidying | None = None
    findings: Findings = field(default_factory=Findings)
    buffers: BatchBuffers = field(default_factory=BatchBuffers)
    checking: threading.Lock = field(default_factory=threading.Lock)
    """Held while pages are checked: two threads in numpy's many small calls slow each other down threefold."""

    def add_vanished(self, path: str) -> None:
        """A file was dropped between the listing and its turn (rule 27): the parent's is not inherited either."""
        self.findings.add_vanished(path)
        self.writer.remove(path)


def read_into(descriptor: int, buffer: memoryview, *, offset: int, path: str) -> int:
    """Read into the whole buffer, or up to the end of the file; how many bytes there were.

    Raises SourceDataCorrupt when the disk cannot give them: anything else than the end of the file is loss.
    """
    done = 0
    while done < len(buffer):
        try:
            got = os.preadv(descriptor, [buffer[done:]], offset + done)
        except OSError as error:
            raise SourceDataCorrupt(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from error
        if got == 0:
            break
        done += got
    return done


def read_at(descriptor: int, size: int, *, offset: int, path: str) -> bytes:
    """Bytes of an open file, fewer when it ends before. Raises SourceDataCorrupt as `read_into`."""
    buffer = bytearray(size)
    return bytes(buffer[: read_into(descriptor, memoryview(buffer), offset=offset, path=path)])


def open_to_read(path: Path) -> int | None:
    """A descriptor of a file, or None when it is not there. Raises PermissionMissing or OperatorError."""
    with translating_os_errors(f"opening {path.name}"):
        try:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None


def write_small(writer: SnapshotWriter, path: str, content: bytes) -> None:
    """Store a file that we have in memory."""
    target = writer.file(path, mode=_PRIVATE_MODE)
    target.write(content)
    target.close()

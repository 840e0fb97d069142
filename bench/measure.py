"""Measuring: wall time, peak memory of a process, sizes of directories, and the state of the page cache."""

import gc
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DROP_CACHES = Path("/proc/sys/vm/drop_caches")


class Stopwatch:
    """Wall time since it was made, in seconds."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """So far."""
        return time.perf_counter() - self._started


class PeakMemory:
    """The largest resident size of a process during a block, in bytes, as the kernel counts it (VmHWM)."""

    def __init__(self) -> None:
        self.bytes: int | None = None

    @contextmanager
    def of(self, pid: int) -> Iterator[None]:
        """Begin counting anew, and read the mark at the end; None stays when the process or the right is missing."""
        try:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        except OSError:
            yield
            return
        yield
        with suppress(OSError):
            self.bytes = _status_bytes(pid, "VmHWM")


def _status_bytes(pid: int, name: str) -> int | None:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def find_child(parent: int, name: str) -> int | None:
    """The pid of the child of a process whose command line names this."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if (
                int(entry.name) > 0
                and _parent_of(entry) == parent
                and name in (entry / "cmdline").read_text()
            ):
                return int(entry.name)
    return None


def _parent_of(process: Path) -> int:
    # The second field is the name in parentheses, which may hold anything.
    return int((process / "stat").read_text().rpartition(")")[2].split()[1])


def tree_bytes(root: Path) -> int:
    """The lengths of all files below a directory, or of one file."""
    if root.is_file():
        return root.stat().st_size
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(folder, name).lstat().st_size
    return total


def can_drop_caches() -> bool:
    """Whether we are allowed to empty the page cache."""
    return os.geteuid() == 0 and os.access(_DROP_CACHES, os.W_OK)


def settle(*, cold: bool) -> None:
    """Write out what earlier work left behind, so that nobody pays for another; `cold` empties the page cache.

    What Python has to tidy up is tidied up: most of it in this process is of the benchmark itself.
    """
    gc.collect()
    os.sync()
    if cold:
        _DROP_CACHES.write_text("3")
    time.sleep(0.3)

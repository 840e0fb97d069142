"""Directories that a service can use, and what it leaves behind, looked up in /proc."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def passable_directory() -> Iterator[Path]:
    """An empty directory that the user of the servers can pass through, which pytest's own ones are not."""
    path = Path(tempfile.mkdtemp(prefix="stillframe-test-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def processes_of(data: Path) -> dict[int, str]:
    """Processes that name this directory in their command line, or hold a file or directory below it, by pid."""
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(data) in command or _holds(process, data):
                    found[int(process.name)] = command
    return found


def wait_until_alone(data: Path, *, seconds: float = 30.0) -> dict[int, str]:
    """Wait until no process of this directory is left; those that are left after that time."""
    deadline = time.monotonic() + seconds
    while (left := processes_of(data)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _holds(process: Path, data: Path) -> bool:
    links = [process / "cwd", *(process / "fd").iterdir()]
    return any(_target(link).startswith(f"{data}/") for link in links)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""

"""What a service leaves behind, looked up in /proc."""

import contextlib
import time
from pathlib import Path


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

"""The processes of one data directory, found by what they are, so that a test kills these and no others."""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_SERVERS = {"postgres", "postmaster"}
_PROC = Path("/proc")
_NAMES = {
    "hydrator": "stillframe.app.hydrator",
    "nursery": "stillframe.app.nursery",
    "endpoint": "stillframe.endpoint",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of the data directory. `place` is the directory it stands in, as far as that says something."""

    pid: int
    role: str
    command: str
    place: Path


def processes(data: Path) -> list[Process]:
    """All processes of this data directory at this moment."""
    return list(_processes(data))


def of_role(found: Iterable[Process], role: str) -> list[Process]:
    """Those that play one role: service, worker, nursery, hydrator, endpoint, postmaster, backend or helper."""
    return [process for process in found if process.role == role]


def kill(victims: Iterable[Process]) -> None:
    """SIGKILL, all within a moment, as a power cut would end them; those that have ended are passed over."""
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)


def _processes(data: Path) -> Iterator[Process]:
    for entry in os.scandir(_PROC):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            # It may end while it is looked at.
            with contextlib.suppress(OSError):
                found = _look(int(entry.name), data)
                if found is not None:
                    yield found


def _look(pid: int, data: Path) -> Process | None:
    folder = _PROC / str(pid)
    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    if not command:
        return None
    role = _role(folder, command, data)
    if role is None:
        return None
    return Process(pid=pid, role=role, command=command, place=Path(str((folder / "cwd").readlink())))


def _role(folder: Path, command: str, data: Path) -> str | None:
    if (folder / "comm").read_text().strip() in _SERVERS:
        return _server_role(folder, command, data)
    if "stillframe.app.worker" in command:
        return "worker" if _holds(folder, data) or _is_child_of_service(folder, data) else None
    if str(data) not in command:
        return None
    for role, name in _NAMES.items():
        if name in command:
            return role
    if "stillframe serve" not in command:
        return "helper"
    # The worker begins as a fork of the service.
    return "worker" if _is_child_of_service(folder, data) else "service"


def _server_role(folder: Path, command: str, data: Path) -> str | None:
    if not str((folder / "cwd").readlink()).startswith(f"{data}/"):
        return None
    return "postmaster" if " -D " in command else "backend"


def _holds(folder: Path, data: Path) -> bool:
    return any(_target(link).startswith(f"{data}/") for link in (folder / "fd").iterdir())


def _is_child_of_service(folder: Path, data: Path) -> bool:
    """A worker that still loads holds nothing yet."""
    parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
    return str(data).encode() in (_PROC / parent / "cmdline").read_bytes()


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""

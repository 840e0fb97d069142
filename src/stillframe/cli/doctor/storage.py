"""Checks of the data directory and the file system below it."""

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stillframe.backup.local_clone import clone_problem
from stillframe.cli.doctor.finding import Finding, fail, ok, warn
from stillframe.cli.output import human_bytes
from stillframe.config import RestoreStrategy
from stillframe.hydration import probe

_CLONING = "clone what this machine has of a snapshot before the first query, and copy the rest."
_FOR_INSTANT_RESTORES = "Instant restores need Linux 6.14, CAP_SYS_ADMIN, and ext4, XFS or btrfs."

_NETWORK = ("nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "fuse", "afs")
_PASSING = ("tmpfs", "ramfs")
_NEEDED_BYTES, _WANTED_BYTES = 1000**3, 10 * 1000**3
_WANTED_INODES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A mounted file system."""

    point: Path
    kind: str


def check_directory(data: Path, blocked_by: Callable[[Path], Path | None], server_user: str) -> Finding:
    """That we can write to the data directory, and that PostgreSQL's user can get to it.

    `blocked_by` names the first directory on the way to a path that the server's user may not enter.
    """
    place = existing_part(data)
    problem = try_to_write(place)
    if problem is not None:
        advice = (
            "Name another directory with --data or STILLFRAME_DATA, or run as a user that may write there."
        )
        return fail("Data directory", f"{place} cannot be written: {problem}", advice)
    obstacle = blocked_by(data / "namespaces")
    # The data directory's own mode is set right by the service; what lies above it is not ours to change.
    if obstacle is not None and obstacle != data:
        fact = f"{data}: the user {server_user} may not enter {obstacle}"
        return fail("Data directory", fact, f"chmod o+x {obstacle}, or choose another place with --data.")
    state = "exists" if data.is_dir() else "will be created"
    return ok("Data directory", f"{data} {state}, writable, in reach of the user {server_user}")


def existing_part(path: Path) -> Path:
    """The path itself, or the nearest directory above it that exists."""
    return next(part for part in (path, *path.parents) if part.exists())


def try_to_write(directory: Path) -> str | None:
    """Make and remove a file there; why not, when that fails."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"stillframe")
    except OSError as error:
        return error.strerror or str(error)
    return None


def check_file_system(data: Path, mounts_file: Path = Path("/proc/self/mountinfo")) -> Finding:
    """What kind of file system the data lies on."""
    mount = find_mount(existing_part(data), mounts_file)
    if mount is None:
        return ok("File system", "its kind is not known on this system")
    fact = f"{mount.kind} on {mount.point}"
    if mount.kind.startswith(_NETWORK):
        return warn(
            "File system", fact, "Databases on network file systems are slow, and locks may not hold."
        )
    if mount.kind in _PASSING:
        return warn("File system", fact, "It is in memory: everything is lost when the machine restarts.")
    return ok("File system", fact)


def find_mount(path: Path, mounts_file: Path) -> Mount | None:
    """The file system that a path is on, by the kernel's table (proc_pid_mountinfo(5)); None without one."""
    try:
        lines = mounts_file.read_text().splitlines()
    except OSError:
        return None
    within = [mount for mount in _parse_mounts(lines) if path.resolve().is_relative_to(mount.point)]
    # Of two mounts on one point the later one covers the earlier.
    return max(enumerate(within), key=lambda item: (len(item[1].point.parts), item[0]))[1] if within else None


def _parse_mounts(lines: list[str]) -> Iterator[Mount]:
    for line in lines:
        before, separator, after = line.partition(" - ")
        if separator:
            point = before.split()[4].encode().decode("unicode_escape")
            yield Mount(point=Path(point), kind=after.split()[0])


def check_space(data: Path) -> Finding:
    """Free bytes and inodes."""
    status = os.statvfs(existing_part(data))
    free = status.f_bavail * status.f_frsize
    fact = f"{human_bytes(free)} free"
    if free < _NEEDED_BYTES:
        return fail(
            "Free space", fact, "A namespace alone takes about 40 MB, and its log 1 GB under load. Make room."
        )
    if status.f_files and status.f_favail < _WANTED_INODES:
        advice = "Every table is at least three files. Use a file system with more inodes."
        return warn("Free space", f"{fact}, but only {status.f_favail} inodes", advice)
    if free < _WANTED_BYTES:
        return warn("Free space", fact, "A restore needs room for a second copy of the namespace.")
    inodes = f", {status.f_favail} inodes" if status.f_files else ""
    return ok("Free space", f"{fact}{inodes}")


def check_restores(data: Path, strategy: RestoreStrategy) -> Finding:
    """How files of a restore come to this directory, and why (tried on temporary files)."""
    name, place = "Restores", existing_part(data)
    if strategy is RestoreStrategy.EAGER:
        return ok(name, "all data is copied before the first query, as the settings say")
    if strategy is not RestoreStrategy.REFLINK:
        found = probe(place)
        if found.supported:
            return ok(name, f"answer before their data has arrived. {found.reason}")
        if strategy is RestoreStrategy.HYDRATION:
            return fail(name, f"hydration is not possible: {found.reason}", "Set restore_strategy to auto.")
    problem = clone_problem(place)
    if problem is None:
        why = f" {found.reason}" if strategy is RestoreStrategy.AUTO else ""
        return ok(name, f"{_CLONING}{why}")
    if strategy is RestoreStrategy.REFLINK:
        return fail(name, f"files can not be cloned here ({problem})", "Set restore_strategy to auto.")
    return warn(name, f"copy all data before the first query. {found.reason}", _FOR_INSTANT_RESTORES)


def check_reflink(data: Path) -> Finding:
    """Whether the file system can share blocks between files (tried on a temporary file)."""
    name, problem = "Block sharing", clone_problem(existing_part(data))
    if problem is None:
        return ok(name, "files can be cloned without copying (reflink)")
    return ok(name, f"no reflinks here ({problem}); copies are copies")

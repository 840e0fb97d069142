"""Small durable file operations in data directories."""

import fcntl
import os
import secrets
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from stillframe.system import translating_os_errors

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
"""FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of linux/fs.h on 64-bit machines."""

_TOP_OF_HIERARCHIES = 0x00020000
"""FS_TOPDIR_FL there; `T` of chattr(1)."""


def publish(
    path: Path,
    content: bytes,
    *,
    mode: int = 0o600,
    owner: tuple[int, int] | None = None,
    durable: bool = True,
) -> None:
    """Replace a file atomically and durably: readers see the old or the new content, also after a power cut.

    Not `durable` is for what is made durable together with others, or means nothing after a power cut.
    `owner` is (uid, gid), None to leave it to the process. Raises DiskFull, PermissionMissing, OperatorError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    with translating_os_errors(f"writing {path.name}"):
        try:
            _write_new(temporary, content, mode=mode, owner=owner, durable=durable)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            sync_directory(path.parent)


def _write_new(
    path: Path, content: bytes, *, mode: int, owner: tuple[int, int] | None, durable: bool
) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        if owner is not None:
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        if durable:
            os.fsync(descriptor)


def remove(path: Path) -> None:
    """Remove a file durably; a missing one is fine."""
    with translating_os_errors(f"removing {path.name}"):
        path.unlink(missing_ok=True)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def spread_subdirectories(directory: Path) -> None:
    """Tell the file system that what lies below the entries of this directory has nothing to do with each other.

    ext4 then gives each entry a part of the disk of its own. Where all share one, a new file waits for a search
    past every inode that was freed there within the last minutes: that made a restore's files, which come after
    another incarnation's were removed, up to thirty times dearer. Other file systems do not know the hint, and
    nothing happens there.
    """
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = bytearray(8)
            fcntl.ioctl(descriptor, _GET_FLAGS, flags)
            (found,) = struct.unpack("=q", flags)
            if not found & _TOP_OF_HIERARCHIES:
                fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("=q", found | _TOP_OF_HIERARCHIES))
        finally:
            os.close(descriptor)


def sync_tree(root: Path, *, threads: int = 32) -> None:
    """Make everything below a directory, and the directory, durable. Raises OSError.

    Several at a time: a file system commits the journal once for all that wait for it.
    """
    folders, files = _listed(root)
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="sync") as pool:
        for step in ((_sync_file, files), (_sync_file, folders)):
            for _ in pool.map(*step):
                pass


def _listed(root: Path) -> tuple[list[str], list[str]]:
    """Every directory from the deepest up, and every regular file."""
    folders: list[str] = []
    files: list[str] = []
    # Plain strings: for thousands of files, Path objects would cost more than the syncs.
    for folder, _, names in os.walk(root, topdown=False):
        folders.append(folder)
        files.extend(os.path.join(folder, name) for name in names)  # noqa: PTH118
    return folders, [path for path in files if not os.path.islink(path)]  # noqa: PTH114


def _sync_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

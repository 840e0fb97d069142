"""Objects as files below one directory, with the durability of the file system they are on.

`.tmp` holds files that are being written, `.claims` the files that stand for claims; both begin with a dot,
so no object's name can meet them.
"""

import contextlib
import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from stillframe.errors import Conflict, ObjectMissing, StoredDataCorrupt, StoreUnavailable
from stillframe.objectstore.claims import ClaimDirectory, LocalClaim, unlink_if_unlocked
from stillframe.objectstore.oserrors import translate_os_error
from stillframe.objectstore.port import ObjectBytes, StoredObject, checked_name

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


class LocalObjectStore:
    """The `ObjectStore` port on a local directory, created (mode 0700) if it is not there.

    Opening it removes the temporary files of writers that died. Raises PermissionMissing, DiskFull or
    StoreUnavailable when the directory cannot be used.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / ".tmp"
        try:
            for directory in (root, self._temporary):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._remove_stale_temporaries()
        except OSError as error:
            translate_os_error(error, str(root))
        self._claims = ClaimDirectory(root / ".claims")

    def __repr__(self) -> str:
        return f"LocalObjectStore({str(self._root)!r})"

    def put(self, name: str, data: ObjectBytes, *, if_absent: bool = False) -> None:
        """Publish an object whole and durably; see the port."""
        target = self._path(name)
        try:
            self._publish(target, data, if_absent=if_absent)
        except FileExistsError:
            raise Conflict(f"The object {name} already exists.") from None
        except OSError as error:
            translate_os_error(error, name)

    def get(self, name: str) -> bytes:
        """All bytes of an object; see the port."""
        try:
            return self._path(name).read_bytes()
        except OSError as error:
            self._not_read(error, name)

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`; see the port."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY)
        except OSError as error:
            self._not_read(error, name)
        try:
            data = os.pread(descriptor, length, offset)
        except OSError as error:
            self._not_read(error, name)
        finally:
            os.close(descriptor)
        if len(data) != length:
            raise StoredDataCorrupt(
                f"The object {name} ends at byte {offset + len(data)}, inside of what refers to it.",
                object=name,
                offset=offset,
                length=length,
            )
        return data

    def size(self, name: str) -> int:
        """Length of an object in bytes; see the port."""
        try:
            return self._path(name).stat().st_size
        except OSError as error:
            self._not_read(error, name)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose name begins with `prefix`, in order; see the port."""
        start = prefix.rpartition("/")[0]
        if start:
            checked_name(start)
        try:
            found = sorted(_files_below(self._root / start, f"{start}/" if start else "", prefix))
            if not found:
                self._require_store()
        except OSError as error:
            translate_os_error(error, prefix or "the store")
        yield from found

    def delete(self, name: str) -> None:
        """Remove an object durably; see the port."""
        target = self._path(name)
        try:
            target.unlink()
            _sync_directory(target.parent)
        except FileNotFoundError:
            self._require_store()
        except OSError as error:
            translate_os_error(error, name)

    def claim(self, name: str, *, shared: bool = False) -> LocalClaim:
        """Hold a name by a lock that the operating system ends with the process; see the port."""
        return self._claims.claim(name, shared=shared)

    def _path(self, name: str) -> Path:
        return self._root / checked_name(name)

    def _publish(self, target: Path, data: ObjectBytes, *, if_absent: bool) -> None:
        """The only way a file gets its name here: write aside, fsync, link or rename, fsync the directory."""
        self._make_directory(target.parent)
        temporary, descriptor = self._open_temporary()
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
            if if_absent:
                # link(2) fails if the name exists; rename(2) would replace it.
                os.link(temporary, target)
            else:
                temporary.rename(target)
            _sync_published(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            os.close(descriptor)

    def _open_temporary(self) -> tuple[Path, int]:
        """A fresh file, locked while it is open: the lock tells a living writer's file from a dead one's."""
        while True:
            path = self._temporary / uuid.uuid4().hex
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return path, descriptor
            # Another opener of the store swept it between its creation and its lock.
            os.close(descriptor)

    def _remove_stale_temporaries(self) -> None:
        for path in self._temporary.iterdir():
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                unlink_if_unlocked(path)

    def _make_directory(self, directory: Path) -> None:
        if directory.is_dir():
            return
        self._require_store()
        missing = [directory, *directory.parents][: len(directory.relative_to(self._root).parts)]
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
            _sync_directory(path.parent)

    def _not_read(self, error: OSError, name: str) -> NoReturn:
        if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
            translate_os_error(error, name)
        self._require_store()
        raise ObjectMissing(f"The object {name} is not in the store.", object=name) from None

    def _require_store(self) -> None:
        """A store that is not there (not mounted, moved away) must not look like one without the object."""
        if not self._temporary.is_dir():
            raise StoreUnavailable(
                "The directory of the object store is not there.",
                hint="Check that its file system is mounted.",
                directory=str(self._root),
            )


def _write_all(descriptor: int, data: ObjectBytes) -> None:
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, _DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_published(target: Path) -> None:
    """From here on the object is visible, so a failure leaves the outcome open."""
    try:
        _sync_directory(target.parent)
    except OSError as error:
        raise StoreUnavailable(f"{target.name} may not be durable: its directory was not synced.") from error


def _files_below(directory: Path, named: str, prefix: str) -> Iterator[StoredObject]:
    """Files below a directory whose names, which begin with `named`, begin with `prefix`."""
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            name = named + entry.name
            if entry.name.startswith(".") or not (name.startswith(prefix) or prefix.startswith(f"{name}/")):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(directory / entry.name, f"{name}/", prefix)
            else:
                yield from _listed(entry, name)


def _listed(entry: "os.DirEntry[str]", name: str) -> Iterator[StoredObject]:
    with contextlib.suppress(FileNotFoundError):
        yield StoredObject(name, entry.stat(follow_symlinks=False).st_size)

"""Objects as files below one directory, with the durability of the file system they are on.

`.tmp` holds files that are being written, `.claims` the files that stand for claims; both begin with a dot,
so no object's name can meet them.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

from stillframe.errors import Conflict, ObjectMissing, StoredDataCorrupt, StoreUnavailable
from stillframe.objectstore.claims import ClaimDirectory, LocalClaim
from stillframe.objectstore.directories import Directories
from stillframe.objectstore.oserrors import translate_os_error
from stillframe.objectstore.port import ObjectBytes, StoredObject, checked_name
from stillframe.objectstore.publications import Publication, Publications

_ONLY_ONCE: Final = 1 << 19
"""Bytes. Who reads so many at a time goes through everything, and does not come back soon."""


class LocalObjectStore:
    """The `ObjectStore` port on a local directory, created (mode 0700) if it is not there.

    Opening it ends what writers that died had begun. Raises PermissionMissing, DiskFull or StoreUnavailable when
    the directory cannot be used.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / ".tmp"
        self._directories = Directories(root)
        self._publications = Publications(self._temporary, root, self._directories)
        try:
            for directory in (root, self._temporary):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._publications.finish_others()
        except OSError as error:
            translate_os_error(error, str(root))
        self._claims = ClaimDirectory(root / ".claims")

    def __repr__(self) -> str:
        return f"LocalObjectStore({str(self._root)!r})"

    def put(self, name: str, data: ObjectBytes, *, if_absent: bool = False) -> None:
        """Publish an object whole and durably; see the port."""
        target = self._path(name)
        try:
            self._require_store()
            self._directories.make(target.parent)
            self._publish(target, data, if_absent=if_absent)
        except FileExistsError:
            self._conflict(name)
        except OSError as error:
            translate_os_error(error, name)

    def get(self, name: str) -> bytes:
        """All bytes of an object; see the port."""
        return self._read(name, None)

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`; see the port."""
        data = self._read(name, (offset, length))
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
        path = self._path(name)
        try:
            self._directories.require_durable(path.parent)
            return path.stat().st_size
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
            self._directories.sync(target.parent)
        except FileNotFoundError:
            self._require_store()
            self._make_durable(target.parent, name)
        except OSError as error:
            translate_os_error(error, name)

    def claim(self, name: str, *, shared: bool = False) -> LocalClaim:
        """Hold a name by a lock that the operating system ends with the process; see the port."""
        return self._claims.claim(name, shared=shared)

    def held_claims(self, prefix: str) -> Sequence[str]:
        """The names that processes of this machine hold; see the port."""
        return self._claims.held(prefix)

    def _path(self, name: str) -> Path:
        return self._root / checked_name(name)

    def _publish(self, target: Path, data: ObjectBytes, *, if_absent: bool) -> None:
        """The only way a file gets its name here: write aside, fsync, link or rename, fsync the directory."""
        with self._publications.begin(target.parent) as publication:
            _write_all(publication.descriptor, data)
            os.fsync(publication.descriptor)
            # What is written may rely on what others have published, and must not outlive it.
            self._publications.finish_others(publication)
            publication.name_it(target, if_absent=if_absent)
            self._sync_published(publication)

    def _sync_published(self, publication: Publication) -> None:
        """From here on the object is visible, so a failure leaves the outcome open."""
        try:
            self._directories.sync(publication.directory)
        except OSError as error:
            raise StoreUnavailable(
                f"What was put into {publication.directory.name} may not be durable: it could not be synced."
            ) from error
        publication.settled()

    def _conflict(self, name: str) -> NoReturn:
        """There is one; whoever made it may have been killed before it was durable."""
        self._make_durable(self._path(name).parent, name)
        raise Conflict(f"The object {name} already exists.") from None

    def _read(self, name: str, part: tuple[int, int] | None) -> bytes:
        """Offset and length of an object, or all of it; fewer bytes where it ends."""
        path = self._path(name)
        try:
            self._directories.require_durable(path.parent)
            descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            self._not_read(error, name)
        try:
            offset, length = part or (0, os.fstat(descriptor).st_size)
            data = _read_all(descriptor, offset, length)
            if length >= _ONLY_ONCE:
                _forget(descriptor, offset, length)
            return data
        except OSError as error:
            self._not_read(error, name)
        finally:
            os.close(descriptor)

    def _not_read(self, error: OSError, name: str) -> NoReturn:
        if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
            translate_os_error(error, name)
        self._require_store()
        # Missing is an answer that others build on, so it has to be true after a loss of power as well.
        self._make_durable(self._path(name).parent, name)
        raise ObjectMissing(f"The object {name} is not in the store.", object=name) from None

    def _make_durable(self, directory: Path, name: str) -> None:
        try:
            self._directories.sync_if_there(directory)
        except OSError as error:
            translate_os_error(error, name)

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


def _read_all(descriptor: int, offset: int, length: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    while len(data) < length:
        # A read of more than 2 GiB comes in parts.
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _forget(descriptor: int, offset: int, length: int) -> None:
    """Leave the page cache to others, servers above all. It is no more than advice: whoever cannot take it need not."""
    with contextlib.suppress(OSError):
        os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


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

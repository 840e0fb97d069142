"""Objects in a folder of an S3 bucket.

The names of objects are keys below the folder. One more key, the marker, says that a store is there and was
tried; it begins with a dot, so no object's name can meet it. Claims have no counterpart in S3: they are files
of this machine, so one machine at a time uses a store.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

from stillframe.errors import Conflict, ObjectMissing, StoredDataCorrupt, StoreUnavailable
from stillframe.objectstore.claims import ClaimDirectory, LocalClaim
from stillframe.objectstore.port import ObjectBytes, StoredObject, checked_name
from stillframe.objectstore.s3.driver import connect
from stillframe.objectstore.s3.errors import DRIVER_ERRORS, Answer, translate
from stillframe.objectstore.s3location import S3Credentials, S3Location, S3Patience
from stillframe.objectstore.trial import try_store

if TYPE_CHECKING:
    from obstore import Attributes

MARKER = ".stillframe-store"
_MARKER_TEXT = json.dumps({"format": "stillframe-object-store", "version": 1}).encode()

_CREATION = "stillframe-creation"
"""Metadata that tells which call created an object, so that a lost reply can be settled by looking."""

_DIGEST = "stillframe-sha256"
"""Metadata of documents, some of which carry no checksum of their own. Packs do, and are read in ranges."""

_LONGEST_WITH_DIGEST = 1 << 20
_READ_ATTEMPTS = 3
_CREATE_ATTEMPTS = 4
_CREATE_PAUSE = 0.1
_BELIEVED_SECONDS = 5.0
_NO_BUCKET = "NoSuchBucket"
_RANGE_NOT_SATISFIABLE = 416
_MULTIPART_FROM = 64 << 20
_PART = 16 << 20
_PARTS_AT_ONCE = 4
_LIST_ATTEMPTS = 3
_LISTED_AT_ONCE = 1000


def open_s3_store(
    location: S3Location,
    *,
    claims: Path,
    patience: S3Patience,
    credentials: S3Credentials | None = None,
) -> "S3ObjectStore":
    """The store in this folder of a bucket; its claims are files in the directory `claims` of this machine.

    A folder that holds no store yet is tried first (`try_store`). Raises Unsupported when it behaves wrongly,
    ConfigurationInvalid when there are no credentials, PermissionMissing, DiskFull, and StoreUnavailable, also
    when there is no such bucket.
    """
    driver, name = connect(location, credentials=credentials, patience=patience), str(location)
    held = ClaimDirectory(claims)
    if not _has_marker(driver, "", name=name):
        _try(driver, name, held)
        _put_marker(driver, name)
    return S3ObjectStore(driver, name=name, claims=held, is_there=_Presence(driver, name=name))


def try_s3_location(
    location: S3Location, *, claims: Path, patience: S3Patience, credentials: S3Credentials | None = None
) -> None:
    """Try a folder (`try_store`) without making it a store. Raises as `open_s3_store`."""
    driver = connect(location, credentials=credentials, patience=patience)
    _has_marker(driver, "", name=str(location))
    _try(driver, str(location), ClaimDirectory(claims))


def folders_with_store(
    location: S3Location,
    *,
    patience: S3Patience,
    credentials: S3Credentials | None = None,
    wanted: Callable[[str], bool] = lambda _name: True,
) -> list[str]:
    """The folders right below a location with a wanted name that hold a store, in order of their names.

    Raises as `open_s3_store`.
    """
    driver, name = connect(location, credentials=credentials, patience=patience), str(location)
    try:
        folders = obstore.list_with_delimiter(driver)["common_prefixes"]
    except DRIVER_ERRORS as error:
        translate(error, name)
    return [
        folder
        for folder in sorted(folders)
        if wanted(folder) and _has_marker(driver, f"{folder}/", name=name)
    ]


class S3ObjectStore:
    """The `ObjectStore` port on a driver's client; made by `open_s3_store`."""

    def __init__(
        self,
        driver: S3Store,
        *,
        name: str,
        claims: ClaimDirectory,
        is_there: Callable[[], bool],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._driver = driver
        self._name = name
        self._claims = claims
        self._is_there = is_there
        self._pause = pause

    def __repr__(self) -> str:
        return f"S3ObjectStore({self._name!r})"

    def put(self, name: str, data: ObjectBytes, *, if_absent: bool = False) -> None:
        """Publish an object whole; see the port. A lost reply to a creation is settled by looking."""
        key, content = checked_name(name), memoryview(data).cast("B")
        if if_absent:
            self._create(key, content)
        else:
            self._replace(key, content)

    def get(self, name: str) -> bytes:
        """All bytes of an object; see the port."""
        key = checked_name(name)
        for _ in range(_READ_ATTEMPTS):
            data, digest = self._received(key)
            if digest in {None, hashlib.sha256(data).hexdigest()}:
                return data
        raise StoredDataCorrupt(f"The object {name} is not what was stored under its name.", object=name)

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`; see the port."""
        key = checked_name(name)
        if length == 0:
            self.size(key)
            return b""
        try:
            found = obstore.get(self._driver, key, options={"range": (offset, offset + length)})
            data = found.bytes().to_bytes()
        except DRIVER_ERRORS as error:
            if Answer.of(error).status == _RANGE_NOT_SATISFIABLE:
                self._require_reach(key, offset, length, size=self.size(key))
            self._not_read(error, key)
        self._require_reach(key, offset, length, size=found.meta["size"])
        if len(data) != length or found.range != (offset, offset + length):
            raise StoreUnavailable(
                f"The store cut a range of {name} short: {len(data)} of {length} bytes came."
            )
        return data

    def size(self, name: str) -> int:
        """Length of an object in bytes; see the port."""
        key = checked_name(name)
        try:
            return obstore.head(self._driver, key)["size"]
        except DRIVER_ERRORS as error:
            self._not_read(error, key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose name begins with `prefix`, in order and once each; see the port."""
        folder = prefix.rpartition("/")[0]
        if folder:
            checked_name(folder)
        try:
            found = self._patiently_listed(folder, prefix)
        except DRIVER_ERRORS as error:
            translate(error, prefix or self._name)
        if not found:
            self._require_store()
        for name in sorted(found):
            yield StoredObject(name, found[name])

    def delete(self, name: str) -> None:
        """Remove an object; see the port."""
        key = checked_name(name)
        try:
            obstore.delete(self._driver, key)
        except FileNotFoundError:
            self._require_store()
        except DRIVER_ERRORS as error:
            translate(error, key)

    def claim(self, name: str, *, shared: bool = False) -> LocalClaim:
        """Hold a name among the processes of this machine that use the same directory of claims; see the port."""
        return self._claims.claim(name, shared=shared)

    def held_claims(self, prefix: str) -> Sequence[str]:
        """The names that processes of this machine hold; see the port."""
        return self._claims.held(prefix)

    def _received(self, key: str) -> tuple[bytes, str | None]:
        """An object's bytes, and the digest it was stored with, if any."""
        try:
            found = obstore.get(self._driver, key)
            data = found.bytes().to_bytes()
        except DRIVER_ERRORS as error:
            self._not_read(error, key)
        if len(data) != found.meta["size"]:
            raise StoreUnavailable(
                f"The store cut {key} short: {len(data)} of {found.meta['size']} bytes came."
            )
        return data, found.attributes.get(_DIGEST)

    def _replace(self, key: str, content: memoryview) -> None:
        large = content.nbytes > _MULTIPART_FROM
        try:
            obstore.put(
                self._driver,
                key,
                content,
                attributes=_digest_of(content),
                use_multipart=large,
                chunk_size=_PART,
                max_concurrency=_PARTS_AT_ONCE,
            )
        except DRIVER_ERRORS as error:
            translate(error, key)

    def _create(self, key: str, content: memoryview) -> None:
        """Create by one request whatever the length: a creation in parts cannot be made conditional."""
        token = uuid.uuid4().hex
        for attempt in range(1, _CREATE_ATTEMPTS + 1):
            failure = self._try_to_create(key, content, token)
            if failure is None:
                return
            match self._standing(key, token):
                case _Standing.OURS:
                    return
                case _Standing.ANOTHER:
                    raise Conflict(f"The object {key} already exists.")
                case _Standing.NONE if attempt == _CREATE_ATTEMPTS:
                    translate(failure, key)
                case _Standing.NONE:
                    self._pause(_CREATE_PAUSE * attempt)

    def _try_to_create(self, key: str, content: memoryview, token: str) -> Exception | None:
        """None when it was created, the error when that is not known. Raises what says that it was not."""
        try:
            obstore.put(
                self._driver,
                key,
                content,
                mode="create",
                use_multipart=False,
                attributes=_digest_of(content) | {_CREATION: token},
            )
        except AlreadyExistsError as error:
            return error
        except DRIVER_ERRORS as error:
            try:
                translate(error, key)
            except StoreUnavailable:
                return error
        return None

    def _standing(self, key: str, token: str) -> "_Standing":
        """Whose object has the name after an attempt to create one whose outcome is not known."""
        try:
            found = obstore.get(self._driver, key, options={"head": True})
        except FileNotFoundError:
            return _Standing.NONE
        except DRIVER_ERRORS as error:
            translate(error, key)
        ours = found.attributes.get(_CREATION) == token
        return _Standing.OURS if ours else _Standing.ANOTHER

    def _patiently_listed(self, folder: str, prefix: str) -> dict[str, int]:
        """Again when a page was cut off, which the driver does not repeat by itself."""
        for _ in range(_LIST_ATTEMPTS - 1):
            try:
                return self._listed(folder, prefix)
            except DRIVER_ERRORS as error:
                if Answer.of(error).status is not None:
                    raise
        return self._listed(folder, prefix)

    def _listed(self, folder: str, prefix: str) -> dict[str, int]:
        # The driver's prefixes end at slashes; ours need not. Lists of a cluttered store may repeat names.
        chunks = obstore.list(self._driver, folder or None, chunk_size=_LISTED_AT_ONCE)
        return {
            one["path"]: one["size"]
            for chunk in chunks
            for one in chunk
            if one["path"].startswith(prefix) and not _is_hidden(one["path"])
        }

    def _require_reach(self, key: str, offset: int, length: int, *, size: int) -> None:
        if size < offset + length:
            raise StoredDataCorrupt(
                f"The object {key} ends at byte {size}, inside of what refers to it.",
                object=key,
                offset=offset,
                length=length,
            )

    def _not_read(self, error: Exception, key: str) -> NoReturn:
        if not isinstance(error, FileNotFoundError):
            translate(error, key)
        self._require_store()
        raise ObjectMissing(f"The object {key} is not in the store.", object=key) from None

    def _require_store(self) -> None:
        """A store that is not there (emptied, another bucket) must not look like one without the object."""
        if not self._is_there():
            raise StoreUnavailable(
                "The object store is not where it was: its marker is missing.",
                hint="Check repository_url, the endpoint, and who empties the bucket.",
                store=self._name,
            )


def _digest_of(content: memoryview) -> "Attributes":
    return {_DIGEST: hashlib.sha256(content).hexdigest()} if content.nbytes <= _LONGEST_WITH_DIGEST else {}


class _Presence:
    """Whether the store's marker is where it was; a good answer is believed for a moment, to save requests."""

    def __init__(
        self, driver: S3Store, *, name: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._driver = driver
        self._name = name
        self._monotonic = monotonic
        self._believed_until = monotonic() + _BELIEVED_SECONDS

    def __call__(self) -> bool:
        if self._monotonic() < self._believed_until:
            return True
        there = _has_marker(self._driver, "", name=self._name)
        if there:
            self._believed_until = self._monotonic() + _BELIEVED_SECONDS
        return there


class _Standing(Enum):
    OURS = auto()
    ANOTHER = auto()
    NONE = auto()


def _try(driver: S3Store, name: str, claims: ClaimDirectory) -> None:
    """Without asking for the marker, which is set last, so that a trial that was cut off is made again."""
    try_store(S3ObjectStore(driver, name=name, claims=claims, is_there=lambda: True))


def _put_marker(driver: S3Store, name: str) -> None:
    try:
        obstore.put(driver, MARKER, _MARKER_TEXT, use_multipart=False)
    except DRIVER_ERRORS as error:
        translate(error, name)


def _has_marker(driver: S3Store, folder: str, *, name: str) -> bool:
    """Whether a store is in this folder ("" or ending in a slash) of the driver's. Raises as `translate`."""
    try:
        # Not only the head of it: the answer to that does not tell a missing bucket from a missing key.
        obstore.get(driver, folder + MARKER).bytes()
    except FileNotFoundError as error:
        if Answer.of(error).code == _NO_BUCKET:
            translate(error, name)
        return False
    except DRIVER_ERRORS as error:
        translate(error, name)
    return True


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or "/." in name

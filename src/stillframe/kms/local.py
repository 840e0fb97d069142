"""Keys in files of one private directory: the key management of a machine that has no other.

A key is one file, written whole, created by link(2) so that of several processes that mint it at once exactly
one wins. Key ids are free texts (an alias, a UUID, an ARN), so the file is named by a digest of the id.
"""

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal, NoReturn

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stillframe.domain.clock import Clock, SystemClock
from stillframe.domain.identifiers import KmsKeyId
from stillframe.errors import (
    Conflict,
    DiskFull,
    InvalidRequest,
    KeyUnavailable,
    PermissionMissing,
    StillframeError,
    StoredDataCorrupt,
)
from stillframe.kms.port import KeyDescription, KeyState

_MAGIC = b"SFW1"
_VERSION = 4
_NONCE = 12
_HEADER = len(_MAGIC) + _VERSION + _NONCE
_LARGEST_PLAINTEXT = 4096


class _KeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key's file holds. `materials[n - 1]` is version n: rotation appends, so old blobs still open."""

    version: Literal[1] = 1
    kind: Literal["stillframe-key"] = "stillframe-key"
    key_id: str
    state: KeyState
    created_at: datetime
    materials: list[bytes]

    def __repr__(self) -> str:
        return f"_KeyFile({self.key_id!r})"


class LocalKeyManagement:
    """The `KeyManagement` port on a directory of its own (0700, its files 0600), created if missing."""

    def __init__(self, directory: Path, *, clock: Clock | None = None) -> None:
        self._directory = directory
        self._clock = clock or SystemClock()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
        except OSError as error:
            _translate(error, "The directory of the keys")

    def create_key(self, key_id: KmsKeyId) -> KeyDescription:
        """Mint a key; Conflict if the id is taken."""
        key = _KeyFile(
            key_id=key_id,
            state=KeyState.ENABLED,
            created_at=self._clock.now(),
            materials=[AESGCM.generate_key(256)],
        )
        try:
            _create_file(self._path(key_id), msgspec.json.encode(key))
        except FileExistsError:
            raise Conflict(f"The key {key_id} already exists.") from None
        except OSError as error:
            _translate(error, f"The key {key_id}")
        return _described(key)

    def ensure_key(self, key_id: KmsKeyId) -> KeyDescription:
        """The key of this id, minted if there is none."""
        if not self._path(key_id).exists():
            with contextlib.suppress(Conflict):
                return self.create_key(key_id)
        return self.describe(key_id)

    def describe(self, key_id: KmsKeyId) -> KeyDescription:
        """State and version of a key; KeyUnavailable if there is none."""
        return _described(self._read(key_id))

    def wrap(self, key_id: KmsKeyId, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """The plaintext sealed under the newest material: magic, version, nonce, AES-256-GCM."""
        if len(plaintext) > _LARGEST_PLAINTEXT:
            raise InvalidRequest(f"At most {_LARGEST_PLAINTEXT} bytes can be wrapped, not {len(plaintext)}.")
        key = self._enabled(key_id)
        header = _MAGIC + len(key.materials).to_bytes(_VERSION, "big") + os.urandom(_NONCE)
        cipher = AESGCM(key.materials[-1])
        return header + cipher.encrypt(header[-_NONCE:], plaintext, _authenticated(header, key_id, context))

    def unwrap(self, key_id: KmsKeyId, blob: bytes, context: Mapping[str, str]) -> bytes:
        """What `wrap` was given."""
        key = self._enabled(key_id)
        header, sealed = blob[:_HEADER], blob[_HEADER:]
        version = int.from_bytes(header[len(_MAGIC) : -_NONCE], "big")
        try:
            if not header.startswith(_MAGIC) or not 0 < version <= len(key.materials):
                raise InvalidTag
            cipher = AESGCM(key.materials[version - 1])
            return cipher.decrypt(header[-_NONCE:], sealed, _authenticated(header, key_id, context))
        except InvalidTag:
            raise StoredDataCorrupt(
                f"A value wrapped under the key {key_id} was changed, or belongs to something else."
            ) from None

    def _path(self, key_id: KmsKeyId) -> Path:
        return self._directory / hashlib.sha256(key_id.encode()).hexdigest()

    def _enabled(self, key_id: KmsKeyId) -> _KeyFile:
        key = self._read(key_id)
        if key.state is not KeyState.ENABLED:
            raise KeyUnavailable(
                f"The key {key_id} is disabled.", hint="Enable the key to use what it protects.", key=key_id
            )
        return key

    def _read(self, key_id: KmsKeyId) -> _KeyFile:
        try:
            key = msgspec.json.decode(self._path(key_id).read_bytes(), type=_KeyFile)
        except FileNotFoundError:
            raise KeyUnavailable(
                f"The key {key_id} does not exist.", hint="Give the id of an existing key.", key=key_id
            ) from None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise KeyUnavailable(f"The key {key_id} cannot be read.", key=key_id) from error
        # A file that was renamed, or emptied of its material, is not this key.
        if key.key_id != key_id or not key.materials or any(len(one) != 32 for one in key.materials):
            raise KeyUnavailable(f"The stored form of the key {key_id} is not valid.", key=key_id)
        return key


def _described(key: _KeyFile) -> KeyDescription:
    return KeyDescription(
        key_id=KmsKeyId(key.key_id), state=key.state, version=len(key.materials), created_at=key.created_at
    )


def _authenticated(header: bytes, key_id: str, context: Mapping[str, str]) -> bytes:
    """Everything a blob is bound to, encoded so that no two bindings share their bytes."""
    return header + msgspec.json.encode([key_id, sorted(context.items())])


def _create_file(path: Path, data: bytes) -> None:
    """Create a file whole and durably; FileExistsError if the name is taken."""
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, to have the mode from the first moment
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        path.hardlink_to(temporary)
        _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translate(error: OSError, what: str) -> NoReturn:
    reason = os.strerror(error.errno) if error.errno else "unknown error"
    kind: type[StillframeError] = KeyUnavailable
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        kind = DiskFull
    elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        kind = PermissionMissing
    raise kind(f"{what} could not be stored: {reason}.") from error

"""Keys in files of one private directory: the key management of a machine that has no other.

A key is one file, written whole: created by link(2), so that of several processes that mint it at once exactly
one wins, and replaced by rename(2) under a lock. The file is named by a digest of the key's id, because the ids
of release 0.1.0 were free texts. Rotation appends material to the file, so everything wrapped before still opens.
"""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stillframe.domain.clock import Clock, IdSource, SystemClock
from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY, KmsKeyId, Scope, parse_kms_key_id
from stillframe.errors import Conflict, InvalidRequest, KeyUnavailable, StoredDataCorrupt
from stillframe.kms.files import create_file, locked, make_directory, replace_file, translate
from stillframe.kms.names import KeyName, parse_alias, parse_key_name, parse_new_id, scope_of
from stillframe.kms.port import (
    LARGEST_PLAINTEXT,
    KeyDescription,
    KeyState,
    ResolvedKey,
    missing_key,
    require_enabled,
)

_MAGIC = b"SFW1"
_VERSION = 4
_NONCE = 12
_HEADER = len(_MAGIC) + _VERSION + _NONCE


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


class _AliasFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an alias's file holds, below `aliases/`."""

    version: Literal[1] = 1
    kind: Literal["stillframe-key-alias"] = "stillframe-key-alias"
    alias: str
    key_id: str


class LocalKeyManagement:
    """The `KeyManagement` port on a directory of its own (0700, its files 0600), created if missing."""

    def __init__(self, directory: Path, *, clock: Clock | None = None, ids: IdSource = uuid.uuid4) -> None:
        self._directory = directory
        self._clock = clock or SystemClock()
        self._ids = ids
        with _translated("The directory of the keys"):
            make_directory(directory)

    def create(
        self, scope: Scope, *, alias: str | None = None, chosen_id: str | None = None
    ) -> KeyDescription:
        """A new key; a chosen id serves infrastructure code that names a key which exists elsewhere."""
        identifier = parse_new_id(chosen_id) if chosen_id else str(self._ids())
        name = KeyName(scope=scope, resource=f"key/{identifier}")
        if alias is None:
            return self.create_key(name.arn)
        with self._lock():
            if self._alias(_alias_arn(scope, alias)) is not None or self.holds(KmsKeyId(alias)):
                raise Conflict(f"The alias {alias} already exists.")
            created = self.create_key(name.arn)
            self._write_alias(_alias_arn(scope, alias), name.arn)
        return created

    def create_key(self, key_id: KmsKeyId) -> KeyDescription:
        """Mint a key under exactly this id; Conflict if the id is taken."""
        key = _KeyFile(
            key_id=key_id,
            state=KeyState.ENABLED,
            created_at=self._clock.now(),
            materials=[AESGCM.generate_key(256)],
        )
        with _translated(f"The key {key_id}"):
            try:
                create_file(self._path(key_id), msgspec.json.encode(key))
            except FileExistsError:
                raise Conflict(f"The key {key_id} already exists.") from None
        return _described(key)

    def ensure_key(self, key_id: KmsKeyId) -> KeyDescription:
        """The key of this id, minted if there is none."""
        if not self.holds(key_id):
            with contextlib.suppress(Conflict):
                return self.create_key(key_id)
        return self.describe(key_id)

    def holds(self, key_id: KmsKeyId) -> bool:
        """Whether there is a key of exactly this id, readable or not."""
        return self._path(key_id).exists()

    def resolve(self, text: str, scope: Scope) -> ResolvedKey:
        """The key that is meant; a key of another account or Region is as good as none."""
        as_it_is = parse_kms_key_id(text)
        if self._is_own_text(as_it_is, scope):
            return ResolvedKey(name=as_it_is, key=self.describe(as_it_is))
        name = parse_key_name(text, scope)
        target = self._alias(name.arn) if name.is_alias else name.arn
        if target is None or name.scope != scope or not self.holds(target):
            raise missing_key(text)
        return ResolvedKey(name=name.arn, key=self.describe(target))

    def describe(self, key_id: KmsKeyId) -> KeyDescription:
        """State and version of a key; KeyUnavailable if there is none."""
        return _described(self._read(key_id))

    def keys(self, scope: Scope) -> Sequence[KeyDescription]:
        """The keys that this account and Region may name; files that are no keys are left out."""
        scopes = {None, scope}
        found = [_described(key) for key in self._stored() if scope_of(KmsKeyId(key.key_id)) in scopes]
        return sorted(found, key=lambda key: (key.created_at, key.key_id))

    def aliases(self, key_id: KmsKeyId) -> Sequence[str]:
        """The aliases that stand for a key."""
        return sorted(
            f"alias/{stored.alias.partition(':alias/')[2]}"
            for stored in self._stored_aliases()
            if stored.key_id == key_id
        )

    def set_alias(self, scope: Scope, alias: str, key_id: KmsKeyId) -> None:
        """Make or move an alias. Conflict when a key of release 0.1.0 has the alias for its id."""
        arn = _alias_arn(scope, alias)
        if self.holds(KmsKeyId(alias)):
            raise Conflict(f"There is a key whose id is {alias}; it would be hidden by an alias.")
        with self._lock():
            self._read(key_id)
            self._write_alias(arn, key_id)

    def wrap(self, key_id: KmsKeyId, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """The plaintext sealed under the newest material: magic, version, nonce, AES-256-GCM."""
        if len(plaintext) > LARGEST_PLAINTEXT:
            raise InvalidRequest(f"At most {LARGEST_PLAINTEXT} bytes can be wrapped, not {len(plaintext)}.")
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

    def rotate(self, key_id: KmsKeyId) -> KeyDescription:
        """Append material to an enabled key."""
        return self._change(key_id, _with_new_material)

    def enable(self, key_id: KmsKeyId) -> KeyDescription:
        """Allow the key's use."""
        return self._change(key_id, lambda key: msgspec.structs.replace(key, state=KeyState.ENABLED))

    def disable(self, key_id: KmsKeyId) -> KeyDescription:
        """Forbid the key's use. InvalidRequest for the service's own key: nobody could enable it again."""
        if key_id == AWS_OWNED_KMS_KEY:
            raise InvalidRequest(
                f"The key {key_id} can't be disabled: the service keeps its own access keys under it."
            )
        return self._change(key_id, lambda key: msgspec.structs.replace(key, state=KeyState.DISABLED))

    def _change(self, key_id: KmsKeyId, changed: Callable[[_KeyFile], _KeyFile]) -> KeyDescription:
        with self._lock():
            before = self._read(key_id)
            after = changed(before)
            if after != before:
                with _translated(f"The key {key_id}"):
                    replace_file(self._path(key_id), msgspec.json.encode(after))
        return _described(after)

    def _is_own_text(self, text: KmsKeyId, scope: Scope) -> bool:
        """Whether the text is itself the id of a key that this scope may name."""
        return text == AWS_OWNED_KMS_KEY or (scope_of(text) in {None, scope} and self.holds(text))

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return locked(self._directory)

    def _path(self, key_id: KmsKeyId) -> Path:
        return self._directory / _digest(key_id)

    @property
    def _aliases(self) -> Path:
        return self._directory / "aliases"

    def _enabled(self, key_id: KmsKeyId) -> _KeyFile:
        key = self._read(key_id)
        require_enabled(_described(key))
        return key

    def _read(self, key_id: KmsKeyId) -> _KeyFile:
        try:
            key = msgspec.json.decode(self._path(key_id).read_bytes(), type=_KeyFile)
        except FileNotFoundError:
            raise missing_key(key_id) from None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise KeyUnavailable(f"The key {key_id} cannot be read.", key=key_id) from error
        # A file that was renamed, or emptied of its material, is not this key.
        if key.key_id != key_id or not key.materials or any(len(one) != 32 for one in key.materials):
            raise KeyUnavailable(f"The stored form of the key {key_id} is not valid.", key=key_id)
        return key

    def _stored(self) -> Iterator[_KeyFile]:
        for path in self._files(self._directory):
            with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
                yield msgspec.json.decode(path.read_bytes(), type=_KeyFile)

    def _stored_aliases(self) -> Iterator[_AliasFile]:
        for path in self._files(self._aliases):
            with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
                yield msgspec.json.decode(path.read_bytes(), type=_AliasFile)

    def _files(self, directory: Path) -> list[Path]:
        if not directory.is_dir():
            return []
        return [path for path in directory.iterdir() if path.is_file() and not path.name.startswith(".")]

    def _alias(self, arn: KmsKeyId) -> KmsKeyId | None:
        """The key that an alias stands for. KeyUnavailable when that cannot be told."""
        path = self._aliases / _digest(arn)
        try:
            stored = msgspec.json.decode(path.read_bytes(), type=_AliasFile)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise KeyUnavailable(f"The alias {arn} cannot be read.", key=arn) from error
        if stored.alias != arn:
            raise KeyUnavailable(f"The stored form of the alias {arn} is not valid.", key=arn)
        return KmsKeyId(stored.key_id)

    def _write_alias(self, arn: KmsKeyId, key_id: KmsKeyId) -> None:
        with _translated(f"The alias {arn}"):
            make_directory(self._aliases)
            stored = _AliasFile(alias=arn, key_id=key_id)
            replace_file(self._aliases / _digest(arn), msgspec.json.encode(stored))


def _with_new_material(key: _KeyFile) -> _KeyFile:
    require_enabled(_described(key))
    return msgspec.structs.replace(key, materials=[*key.materials, AESGCM.generate_key(256)])


def _described(key: _KeyFile) -> KeyDescription:
    return KeyDescription(
        key_id=KmsKeyId(key.key_id), state=key.state, version=len(key.materials), created_at=key.created_at
    )


def _alias_arn(scope: Scope, alias: str) -> KmsKeyId:
    return KeyName(scope=scope, resource=parse_alias(alias)).arn


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _authenticated(header: bytes, key_id: str, context: Mapping[str, str]) -> bytes:
    """Everything a blob is bound to, encoded so that no two bindings share their bytes."""
    return header + msgspec.json.encode([key_id, sorted(context.items())])


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        translate(error, what)

"""The repository's own identity, and its data keys."""

import re
import threading
import uuid
from collections.abc import Callable
from typing import Literal

import msgspec

from stillframe.domain.clock import IdSource
from stillframe.domain.identifiers import KmsKeyId
from stillframe.errors import (
    Conflict,
    DataError,
    FormatUnknown,
    ObjectMissing,
    StoredDataCorrupt,
    StoreUnavailable,
)
from stillframe.kms import KeyManagement
from stillframe.objectstore import ObjectStore
from stillframe.repository.crypto import DataKey, key_reference
from stillframe.repository.documents import replace_object
from stillframe.repository.format import (
    ATTRIBUTES,
    BLOCK,
    CENSUS,
    CONDEMNED,
    CONFIG_NAME,
    EPOCHS,
    INDEX,
    KEY_BYTES,
    KEYS,
    NODES,
    PACKS,
    PINS,
    RETIRED,
    SNAPSHOTS,
    VERIFIED,
)

_REFERENCE = re.compile(r"[0-9a-f]{32}")


class RepositoryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`repository.json`: readable by anybody, written once."""

    format: Literal["stillframe-repository"] = "stillframe-repository"
    version: Literal[1] = 1
    id: uuid.UUID
    block_size: int


class _WrappedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`keys/<reference>`: a data key, wrapped. Only `wrapped` changes when the KMS key is rotated."""

    format: Literal["stillframe-data-key"] = "stillframe-data-key"
    version: Literal[1] = 1
    reference: str
    kms_key_id: str
    wrapped: bytes


def open_config(store: ObjectStore, *, ids: IdSource) -> RepositoryConfig:
    """The repository's identity, created if the store is empty; several that create at once agree.

    Raises StoredDataCorrupt when the store holds a repository that has lost its identity, StoreUnavailable when it
    does not give the same one twice.
    """
    known = _stored_config(store)
    if known is None and _has_content(store):
        # Somebody may have created it between the two looks.
        known = _stored_config(store)
        if known is None:
            raise StoredDataCorrupt(
                f"{CONFIG_NAME} is missing from a repository that has content.",
                hint=f"Put {CONFIG_NAME} back from a copy; it is not secret.",
            )
    if known is not None:
        return known
    config = RepositoryConfig(id=ids(), block_size=BLOCK)
    try:
        store.put(CONFIG_NAME, msgspec.json.encode(config), if_absent=True)
    except Conflict:
        known = _stored_config(store)
        if known is None:
            raise StoreUnavailable(
                f"The object store has {CONFIG_NAME} and does not give it.", object=CONFIG_NAME
            ) from None
        return known
    return config


def _stored_config(store: ObjectStore) -> RepositoryConfig | None:
    """Read twice: it has no digest, and all that is made under a wrong identity is lost to the right one."""
    try:
        first, second = store.get(CONFIG_NAME), store.get(CONFIG_NAME)
    except ObjectMissing:
        return None
    if first != second:
        raise StoreUnavailable(
            f"The object store gives {CONFIG_NAME} in two different ways.", object=CONFIG_NAME
        )
    return _decoded(first)


def _has_content(store: ObjectStore) -> bool:
    """Whether a new identity would make unreadable, and garbage to a sweep, what is there."""
    prefixes = (
        *(KEYS, PACKS, NODES, SNAPSHOTS, ATTRIBUTES, EPOCHS, PINS, RETIRED, CONDEMNED, VERIFIED, INDEX),
        CENSUS,
    )
    return any(next(iter(store.list(prefix)), None) is not None for prefix in prefixes)


def _decoded(data: bytes) -> RepositoryConfig:
    try:
        config = msgspec.json.decode(data, type=RepositoryConfig)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatUnknown(f"{CONFIG_NAME} cannot be read by this release: {error}.") from None
    if msgspec.json.encode(config) != data:
        raise StoredDataCorrupt(f"{CONFIG_NAME} was changed: it is not in its one canonical form.")
    if config.block_size != BLOCK:
        raise FormatUnknown(f"The repository keeps pages of {config.block_size} bytes, not {BLOCK}.")
    return config


class DataKeys:
    """The data keys of one repository. Safe to use from several threads."""

    def __init__(
        self,
        store: ObjectStore,
        keys: KeyManagement,
        *,
        config: RepositoryConfig,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._keys = keys
        self._config = config
        self._entropy = entropy
        self._lock = threading.Lock()
        self._opened: dict[str, DataKey] = {}

    def __repr__(self) -> str:
        return f"DataKeys({self._config.id})"

    def ensure(self, kms_key_id: KmsKeyId) -> DataKey:
        """The data key of a KMS key, minted if there is none; all who mint at once get the same.

        Raises KeyUnavailable when the KMS key is missing or disabled, even if its data key is known here, and
        StoredDataCorrupt, with nothing minted, when all keys that are there are those of another identity.
        """
        reference = key_reference(self._config.id.bytes, kms_key_id)
        if not self._exists(reference):
            self._require_own_keys()
            self._mint(reference, kms_key_id)
        return self.unwrap(reference)

    def unwrap(self, reference: str) -> DataKey:
        """The data key of this reference, asked of the key management again.

        Raises KeyUnavailable, ObjectMissing, StoredDataCorrupt, FormatUnknown.
        """
        stored = self._stored(reference)
        material = self._keys.unwrap(KmsKeyId(stored.kms_key_id), stored.wrapped, self._context(reference))
        if len(material) != KEY_BYTES:
            raise StoredDataCorrupt(f"The data key {reference} has another length.")
        key = DataKey(material, reference=reference)
        with self._lock:
            return self._opened.setdefault(reference, key)

    def cached(self, reference: str) -> DataKey:
        """As `unwrap`, without asking again for a key that this process has opened before."""
        with self._lock:
            known = self._opened.get(reference)
        return known or self.unwrap(reference)

    def rewrap(self, kms_key_id: KmsKeyId) -> bool:
        """Wrap the data key of a KMS key again, under its newest material; False when there is none.

        The data key stays the same, and the stored form changes in one atomic overwrite, after what shall take
        its place was opened again. Raises as `unwrap`.
        """
        reference = key_reference(self._config.id.bytes, kms_key_id)
        if not self._exists(reference):
            return False
        stored, context = self._stored(reference), self._context(reference)
        material = self._keys.unwrap(kms_key_id, stored.wrapped, context)
        wrapped = self._keys.wrap(kms_key_id, material, context)
        if self._keys.unwrap(kms_key_id, wrapped, context) != material:
            raise StoredDataCorrupt(f"The key {kms_key_id} does not open what it has wrapped.")
        replacement = msgspec.structs.replace(stored, wrapped=wrapped)
        replace_object(self._store, KEYS + reference, msgspec.json.encode(replacement))
        return True

    def references(self) -> list[str]:
        """The references of all data keys of the repository."""
        return [stored.name.removeprefix(KEYS) for stored in self._store.list(KEYS)]

    def kms_key_id(self, reference: str) -> KmsKeyId:
        """The KMS key a data key is wrapped under."""
        return KmsKeyId(self._stored(reference).kms_key_id)

    def _exists(self, reference: str) -> bool:
        try:
            self._store.size(KEYS + reference)
        except ObjectMissing:
            return False
        return True

    def _require_own_keys(self) -> None:
        """Before minting: under a wrong identity every KMS key looks as if it had no data key yet."""
        foreign = ""
        for reference in self.references():
            try:
                stored = self._decoded(reference)
            except DataError:
                continue
            if self._is_named_for(stored):
                return
            foreign = reference
        if foreign:
            raise StoredDataCorrupt(
                f"The data key {foreign} is none of the repository {self._config.id}, nor is any other one.",
                hint=f"If it stays so, {CONFIG_NAME} was changed: put it back from a copy.",
                object=CONFIG_NAME,
            )

    def _mint(self, reference: str, kms_key_id: KmsKeyId) -> None:
        wrapped = self._keys.wrap(kms_key_id, self._entropy(KEY_BYTES), self._context(reference))
        key = _WrappedKey(reference=reference, kms_key_id=kms_key_id, wrapped=wrapped)
        try:
            self._store.put(KEYS + reference, msgspec.json.encode(key), if_absent=True)
        except Conflict:
            # Somebody else minted it in this moment, or our own reply was lost: the stored one is the key.
            return

    def _stored(self, reference: str) -> _WrappedKey:
        stored = self._decoded(reference)
        if not self._is_named_for(stored):
            raise StoredDataCorrupt(f"The data key {reference} belongs to another KMS key.")
        return stored

    def _is_named_for(self, stored: _WrappedKey) -> bool:
        """Whether a data key has the name that the repository's and the KMS key's ids give it."""
        return key_reference(self._config.id.bytes, stored.kms_key_id) == stored.reference

    def _decoded(self, reference: str) -> _WrappedKey:
        if not _REFERENCE.fullmatch(reference):
            raise StoredDataCorrupt(f"{reference[:64]!r} is not the reference of a data key.")
        try:
            data = self._store.get(KEYS + reference)
            stored = msgspec.json.decode(data, type=_WrappedKey)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise FormatUnknown(f"The data key {reference} cannot be read by this release.") from None
        # The wrapped key is bound to the reference by its context; the rest of the document by these two.
        if msgspec.json.encode(stored) != data or stored.reference != reference:
            raise StoredDataCorrupt(f"The stored data key {reference} was changed.")
        return stored

    def _context(self, reference: str) -> dict[str, str]:
        return {"stillframe:repository": str(self._config.id), "stillframe:data-key": reference}

"""What Stillframe needs of a key-management service, shaped like AWS KMS so that the real one fits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from stillframe.domain.identifiers import KmsKeyId, Scope
from stillframe.errors import KeyUnavailable

LARGEST_PLAINTEXT = 4096
"""Bytes that one call wraps (KMS API reference: Encrypt, for symmetric keys)."""


class KeyState(StrEnum):
    """Whether a key may be used; KMS's own words (KMS API reference: KeyMetadata). Only ENABLED ones may."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"
    CREATING = "Creating"
    UPDATING = "Updating"
    PENDING_DELETION = "PendingDeletion"
    PENDING_REPLICA_DELETION = "PendingReplicaDeletion"
    PENDING_IMPORT = "PendingImport"
    UNAVAILABLE = "Unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDescription:
    """A key without its material.

    `version` is that of the newest material, counted from 1; None where the key management does not tell.
    """

    key_id: KmsKeyId
    state: KeyState
    version: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedKey:
    """What a text named. `name` is what to remember when an alias shall be followed wherever it moves."""

    name: KmsKeyId
    key: KeyDescription


class KeyManagement(Protocol):
    """Wraps and unwraps small plaintexts (at most 4 KiB, as KMS Encrypt) under keys that never leave it.

    A `key_id` is canonical: what `resolve` or `create` gave, or AWS_OWNED_KMS_KEY. `context` is KMS's encryption
    context: not secret, authenticated, and needed again, equal, to unwrap. Every method raises KeyUnavailable
    when the key is missing, disabled (where it matters), or cannot be read, and KeyManagementUnavailable when
    nobody answers.
    """

    def create(
        self, scope: Scope, *, alias: str | None = None, chosen_id: str | None = None
    ) -> KeyDescription:
        """A new key of this account and Region, enabled. Raises Conflict (alias or id taken), InvalidRequest."""
        ...

    def ensure_key(self, key_id: KmsKeyId) -> KeyDescription:
        """The key of this id, minted if there is none. Of several that mint at once, all get the same key.

        For the service's own key; what a user names is never minted by naming it.
        """
        ...

    def resolve(self, text: str, scope: Scope) -> ResolvedKey:
        """The key that an id, alias or ARN names, in whatever state. Raises InvalidRequest for any other text."""
        ...

    def describe(self, key_id: KmsKeyId) -> KeyDescription:
        """State and version; a disabled key is described, a missing one raises."""
        ...

    def keys(self, scope: Scope) -> Sequence[KeyDescription]:
        """The keys of an account and Region, and those whose id tells neither, oldest first."""
        ...

    def aliases(self, key_id: KmsKeyId) -> Sequence[str]:
        """The aliases (`alias/…`) that stand for this key, in order."""
        ...

    def set_alias(self, scope: Scope, alias: str, key_id: KmsKeyId) -> None:
        """Let an alias stand for this key, and no longer for another one. Raises InvalidRequest, Conflict."""
        ...

    def wrap(self, key_id: KmsKeyId, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """The plaintext sealed under the newest material of the key."""
        ...

    def unwrap(self, key_id: KmsKeyId, blob: bytes, context: Mapping[str, str]) -> bytes:
        """What `wrap` was given, whichever version of the key it was under.

        Raises StoredDataCorrupt when the blob was changed, or key or context are not those of `wrap`.
        """
        ...

    def rotate(self, key_id: KmsKeyId) -> KeyDescription:
        """Give the key new material for what is wrapped from now on; what is wrapped already still opens."""
        ...

    def enable(self, key_id: KmsKeyId) -> KeyDescription:
        """Allow the key's use; one that is enabled stays so."""
        ...

    def disable(self, key_id: KmsKeyId) -> KeyDescription:
        """Forbid the key's use until it is enabled again; nothing is lost by it."""
        ...


def require_enabled(key: KeyDescription) -> None:
    """Raise KeyUnavailable unless the key may be used."""
    if key.state is KeyState.ENABLED:
        return
    if key.state is KeyState.DISABLED:
        raise KeyUnavailable(
            f"The key {key.key_id} is disabled.",
            hint="Enable it to use what it protects: `stillframe key enable`.",
            key=key.key_id,
        )
    raise KeyUnavailable(f"The key {key.key_id} can't be used: its state is {key.state}.", key=key.key_id)


def missing_key(text: str) -> KeyUnavailable:
    """The error for a key that does not exist."""
    return KeyUnavailable(
        f"The key {text} does not exist.",
        hint="`stillframe key list` shows the keys there are, `stillframe key create` makes one.",
        key=text,
    )

"""What Stillframe needs of a key-management service, shaped like AWS KMS so that the real one fits."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from stillframe.domain.identifiers import KmsKeyId


class KeyState(StrEnum):
    """Whether a key may be used; KMS's own words."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDescription:
    """A key without its material. `version` is that of the newest material, counted from 1."""

    key_id: KmsKeyId
    state: KeyState
    version: int
    created_at: datetime


class KeyManagement(Protocol):
    """Wraps and unwraps small plaintexts (at most 4 KiB, as KMS Encrypt) under keys that never leave it.

    `context` is KMS's encryption context: not secret, authenticated, and needed again, equal, to unwrap.
    Every method raises KeyUnavailable when the key is missing, disabled, or cannot be read.
    """

    def create_key(self, key_id: KmsKeyId) -> KeyDescription:
        """Mint a key under this id; Conflict if there is one."""
        ...

    def ensure_key(self, key_id: KmsKeyId) -> KeyDescription:
        """The key of this id, minted if there is none. Of several that mint at once, all get the same key."""
        ...

    def describe(self, key_id: KmsKeyId) -> KeyDescription:
        """State and version; a disabled key is described, a missing one raises."""
        ...

    def wrap(self, key_id: KmsKeyId, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """The plaintext sealed under the newest material of the key."""
        ...

    def unwrap(self, key_id: KmsKeyId, blob: bytes, context: Mapping[str, str]) -> bytes:
        """What `wrap` was given, whichever version of the key it was under.

        Raises StoredDataCorrupt when the blob was changed, or key or context are not those of `wrap`.
        """
        ...

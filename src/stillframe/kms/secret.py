"""Values that must not be shown, and how they are kept."""

import hmac

from stillframe.domain.identifiers import KmsKeyId
from stillframe.kms.port import KeyManagement


class Secret:
    """A text that prints as `***` wherever it lands; `reveal` at the one place that needs it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not serialised; seal it in a SecretBox")


class SecretBox:
    """Seals small secrets (at most 4 KiB of UTF-8) under one key, each for one named purpose.

    The purpose is authenticated: what was sealed as one user's password does not open as another's.
    """

    def __init__(self, keys: KeyManagement, key_id: KmsKeyId) -> None:
        self._keys = keys
        self._key_id = key_id

    def seal(self, secret: Secret, *, purpose: str) -> bytes:
        """Bytes that may be stored anywhere. Raises KeyUnavailable."""
        return self._keys.wrap(self._key_id, secret.reveal().encode(), {"purpose": purpose})

    def open(self, sealed: bytes, *, purpose: str) -> Secret:
        """What was sealed. Raises KeyUnavailable; StoredDataCorrupt for changed bytes, another purpose."""
        return Secret(self._keys.unwrap(self._key_id, sealed, {"purpose": purpose}).decode())

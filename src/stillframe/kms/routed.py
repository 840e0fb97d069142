"""Keys in KMS beside those of this machine.

The service's own key stays on this machine whatever is set: every request's signature is checked with it, and a
service that cannot start without somebody else's answer helps nobody. So do the keys that namespaces had before
KMS was chosen: what is wrapped under them must go on opening.
"""

from collections.abc import Mapping, Sequence

from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY, KmsKeyId, Scope, parse_kms_key_id
from stillframe.kms.local import LocalKeyManagement
from stillframe.kms.port import KeyDescription, KeyManagement, ResolvedKey


class RoutedKeyManagement:
    """The `KeyManagement` port: a key that the local directory holds is asked of it, any other of `remote`."""

    def __init__(self, local: LocalKeyManagement, remote: KeyManagement) -> None:
        self._local = local
        self._remote = remote

    def create(
        self, scope: Scope, *, alias: str | None = None, chosen_id: str | None = None
    ) -> KeyDescription:
        """A new key, always of the remote key management."""
        return self._remote.create(scope, alias=alias, chosen_id=chosen_id)

    def ensure_key(self, key_id: KmsKeyId) -> KeyDescription:
        """The service's own key is made here."""
        return self._home(key_id).ensure_key(key_id)

    def resolve(self, text: str, scope: Scope) -> ResolvedKey:
        """Aliases and bare ids are the remote's, unless they are the very id of a local key."""
        return self._home(parse_kms_key_id(text)).resolve(text, scope)

    def describe(self, key_id: KmsKeyId) -> KeyDescription:
        """State and version, from where the key is."""
        return self._home(key_id).describe(key_id)

    def keys(self, scope: Scope) -> Sequence[KeyDescription]:
        """Those of this machine, then the remote ones."""
        return [*self._local.keys(scope), *self._remote.keys(scope)]

    def aliases(self, key_id: KmsKeyId) -> Sequence[str]:
        """The aliases of a key, from where the key is."""
        return self._home(key_id).aliases(key_id)

    def set_alias(self, scope: Scope, alias: str, key_id: KmsKeyId) -> None:
        """An alias where the key is; one of a local key is not found any more while KMS is chosen."""
        self._home(key_id).set_alias(scope, alias, key_id)

    def wrap(self, key_id: KmsKeyId, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """The plaintext sealed where the key is."""
        return self._home(key_id).wrap(key_id, plaintext, context)

    def unwrap(self, key_id: KmsKeyId, blob: bytes, context: Mapping[str, str]) -> bytes:
        """What `wrap` was given."""
        return self._home(key_id).unwrap(key_id, blob, context)

    def rotate(self, key_id: KmsKeyId) -> KeyDescription:
        """New material where the key is."""
        return self._home(key_id).rotate(key_id)

    def enable(self, key_id: KmsKeyId) -> KeyDescription:
        """Allow the key's use."""
        return self._home(key_id).enable(key_id)

    def disable(self, key_id: KmsKeyId) -> KeyDescription:
        """Forbid the key's use."""
        return self._home(key_id).disable(key_id)

    def _home(self, key_id: KmsKeyId) -> KeyManagement:
        is_local = key_id == AWS_OWNED_KMS_KEY or self._local.holds(key_id)
        return self._local if is_local else self._remote

"""Keys: made, listed, rotated, disabled by root; and what a request may name as its `kmsKeyId`."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from stillframe.domain.access import Caller
from stillframe.domain.identifiers import AccountId, KmsKeyId, Region, Scope
from stillframe.errors import AccessDenied, StillframeError
from stillframe.kms import KeyDescription, ResolvedKey, require_enabled
from stillframe.kms.names import scope_of
from stillframe.service.foundation import Foundation
from stillframe.service.namespace_lookup import find_namespace
from stillframe.service.repositories import Repositories

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntry:
    """A key, and the aliases that stand for it now."""

    key: KeyDescription
    aliases: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RotatedKey:
    """A key with new material, and in how many repositories what it protects is wrapped under that already."""

    entry: KeyEntry
    rewrapped: int
    behind: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotKey:
    """The key of a new snapshot: `named` is what its namespace names, `key_id` what that meant at this moment."""

    named: KmsKeyId
    key_id: KmsKeyId


def usable_key(base: Foundation, scope: Scope, text: str) -> ResolvedKey:
    """The key that a request of this scope names. Raises KeyUnavailable (missing, disabled), InvalidRequest."""
    resolved = base.keys.resolve(text, scope)
    require_enabled(resolved.key)
    return resolved


def require_usable(base: Foundation, key_id: KmsKeyId) -> None:
    """Raise KeyUnavailable unless what is kept under this key can be read."""
    require_enabled(base.keys.describe(key_id))


def key_for_snapshot(base: Foundation, scope: Scope, namespace_name: str) -> SnapshotKey:
    """The key that a snapshot of this namespace is taken under. Raises NotFound, KeyUnavailable.

    An alias is followed now: one that is moved later changes later snapshots and no earlier one.
    """
    with base.catalog.transaction() as transaction:
        namespace = find_namespace(transaction, scope, namespace_name)
    key = usable_key(base, namespace.scope, namespace.kms_key_id).key
    return SnapshotKey(named=namespace.kms_key_id, key_id=key.key_id)


class Keys:
    """The keys of this service; an operation of ours, for the vendor has another service for it.

    Root keys only: the operator's account manages every key that it can name, any other account its own.
    """

    def __init__(self, foundation: Foundation, repositories: Repositories, *, operator: AccountId) -> None:
        self._base = foundation
        self._repositories = repositories
        self._operator = operator

    def create(self, caller: Caller, *, alias: str | None, chosen_id: str | None) -> KeyEntry:
        """A new key of the caller's account and Region. Raises AccessDenied, Conflict, InvalidRequest."""
        _require_root(caller)
        return self._entry(self._base.keys.create(caller.scope, alias=alias, chosen_id=chosen_id))

    def list(self, caller: Caller) -> Sequence[KeyEntry]:
        """The caller's keys, oldest first; for the operator also the service's own. Raises AccessDenied."""
        _require_root(caller)
        keys = self._base.keys.keys(caller.scope)
        return [self._entry(key) for key in keys if self._manages(caller, key.key_id)]

    def describe(self, caller: Caller, text: str) -> KeyEntry:
        """A key by id, alias or ARN. Raises AccessDenied, KeyUnavailable, InvalidRequest."""
        return self._entry(self._managed(caller, text))

    def assign(self, caller: Caller, *, alias: str, text: str) -> KeyEntry:
        """Let an alias stand for a key from now on. Raises as `describe`, and Conflict."""
        key = self._managed(caller, text)
        self._base.keys.set_alias(caller.scope, alias, key.key_id)
        return self._entry(key)

    def enable(self, caller: Caller, text: str) -> KeyEntry:
        """Allow a key's use. Raises as `describe`."""
        return self._entry(self._base.keys.enable(self._managed(caller, text).key_id))

    def disable(self, caller: Caller, text: str) -> KeyEntry:
        """Forbid a key's use: what is under it can't be read, nor snapshots be taken, until it is enabled again."""
        return self._entry(self._base.keys.disable(self._managed(caller, text).key_id))

    def rotate(self, caller: Caller, text: str) -> RotatedKey:
        """Give a key new material and wrap the repositories' data keys under it. Raises as `describe`.

        The old material goes on opening what is still under it, so a repository that could not be reached now is
        only behind, and follows with the next rotation.
        """
        managed = self._managed(caller, text)
        regions = self._repositories.regions()
        key = self._base.keys.rotate(managed.key_id)
        done = [self._rewrap(key.key_id, region) for region in regions]
        return RotatedKey(entry=self._entry(key), rewrapped=done.count(True), behind=done.count(None))

    def _rewrap(self, key_id: KmsKeyId, region: Region) -> bool | None:
        """Whether there was something to wrap; None when it could not be."""
        try:
            return self._repositories.of(region).rewrap(key_id)
        except StillframeError as error:
            log.warning("data_key_not_rewrapped", region=region, kind=error.kind, reason=error.message)
            return None

    def _entry(self, key: KeyDescription) -> KeyEntry:
        return KeyEntry(key=key, aliases=self._base.keys.aliases(key.key_id))

    def _managed(self, caller: Caller, text: str) -> KeyDescription:
        _require_root(caller)
        key = self._base.keys.resolve(text, caller.scope).key
        if not self._manages(caller, key.key_id):
            raise AccessDenied(f"User: {caller.arn} is not authorized to manage the key {text}.")
        return key

    def _manages(self, caller: Caller, key_id: KmsKeyId) -> bool:
        owner = scope_of(key_id)
        return caller.account == self._operator or (owner is not None and owner.account == caller.account)


def _require_root(caller: Caller) -> None:
    if not caller.arn.endswith(":root"):
        raise AccessDenied(f"User: {caller.arn} is not authorized to manage keys.")

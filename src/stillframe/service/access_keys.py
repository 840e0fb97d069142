"""Access keys of the API: made, listed, removed; found by the signature check."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from stillframe.catalog import Catalog
from stillframe.domain.access import AccessKey, Caller
from stillframe.domain.clock import Clock
from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY, AccountId, parse_account_id
from stillframe.errors import AccessDenied, Conflict, InvalidRequest, NotFound
from stillframe.kms import KeyManagement, Secret, SecretBox

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_LONGEST_USER_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new key with its secret, which is shown this once."""

    key: AccessKey
    secret: Secret


class AccessKeys:
    """The keys of all accounts on this service.

    Only root keys manage keys: the operator's account those of every account, any other its own.
    """

    def __init__(self, catalog: Catalog, keys: KeyManagement, clock: Clock, *, operator: AccountId) -> None:
        self._operator = operator
        self._catalog = catalog
        self._box = SecretBox(keys, AWS_OWNED_KMS_KEY)
        self._clock = clock

    def create(self, caller: Caller, *, user_name: str | None, account: str | None) -> IssuedKey:
        """A new key, of the caller's account unless the operator names another. Raises AccessDenied, InvalidRequest."""
        self._require_root(caller)
        owner = parse_account_id(account) if account else caller.account
        if owner != caller.account and not self._is_operator(caller):
            raise AccessDenied(
                f"User: {caller.arn} is not authorized to manage access keys of other accounts."
            )
        name = _check_user_name(user_name) if user_name else "root"
        return self.issue(account=owner, user_name=name, is_root=user_name is None)

    def list(self, caller: Caller) -> Sequence[AccessKey]:
        """The keys of the caller's account (of all accounts for the operator), oldest first. Raises AccessDenied."""
        self._require_root(caller)
        with self._catalog.transaction() as transaction:
            found = transaction.access_keys.list(order_by="created_at")
        return [key for key in found if self._manages(caller, key)]

    def delete(self, caller: Caller, access_key_id: str) -> None:
        """Remove a key; requests signed with it are refused from now on. Raises AccessDenied, NotFound, Conflict."""
        self._require_root(caller)
        with self._catalog.transaction() as transaction:
            key = transaction.access_keys.find(lock=True, access_key_id=access_key_id)
            if key is None or not self._manages(caller, key):
                raise NotFound(f"Access key {access_key_id} not found.", resource_name=access_key_id)
            roots = transaction.access_keys.count(is_root=True, account=self._operator)
            if key.is_root and key.account == self._operator and roots == 1:
                raise Conflict("The last root key can't be removed: nobody could manage keys any more.")
            transaction.access_keys.delete(access_key_id=access_key_id)

    def find(self, access_key_id: str) -> tuple[AccessKey, Secret] | None:
        """The key and its secret, for checking a signature."""
        with self._catalog.transaction() as transaction:
            key = transaction.access_keys.find(access_key_id=access_key_id)
        if key is None:
            return None
        return key, self._box.open(key.sealed_secret, purpose=f"access-key:{access_key_id}")

    def issue(
        self,
        *,
        account: AccountId,
        user_name: str,
        is_root: bool,
        access_key_id: str | None = None,
        secret: Secret | None = None,
    ) -> IssuedKey:
        """Store a key, generated unless given. Raises Conflict when the id is taken."""
        identifier = access_key_id or "AKIA" + "".join(secrets.choice(_ALPHABET) for _ in range(16))
        text = secret or Secret(secrets.token_urlsafe(30))
        key = AccessKey(
            access_key_id=identifier,
            account=account,
            user_name=user_name,
            sealed_secret=self._box.seal(text, purpose=f"access-key:{identifier}"),
            created_at=self._clock.now(),
            is_root=is_root,
        )
        with self._catalog.transaction() as transaction:
            transaction.access_keys.insert(key)
        return IssuedKey(key=key, secret=text)

    def _is_operator(self, caller: Caller) -> bool:
        return caller.account == self._operator

    def _manages(self, caller: Caller, key: AccessKey) -> bool:
        return self._is_operator(caller) or key.account == caller.account

    def _require_root(self, caller: Caller) -> None:
        if not caller.arn.endswith(":root"):
            raise AccessDenied(f"User: {caller.arn} is not authorized to manage access keys.")


def _check_user_name(name: str) -> str:
    if not 1 <= len(name) <= _LONGEST_USER_NAME or not all(
        c.isascii() and (c.isalnum() or c in "+=,.@_-") for c in name
    ):
        raise InvalidRequest("A user name has 1 to 64 letters, digits or the characters +=,.@_-.")
    return name

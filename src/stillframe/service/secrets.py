"""Admin passwords: chosen by the caller, generated and forgotten, or managed by the service."""

from dataclasses import dataclass

from stillframe.catalog import Transaction
from stillframe.domain.access import Caller, ManagedSecret
from stillframe.domain.database import check_password
from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY, NamespaceId
from stillframe.errors import NotFound
from stillframe.kms import Secret, SecretBox
from stillframe.postgres.scram import random_password, scram_verifier
from stillframe.service.foundation import Foundation
from stillframe.service.keys import usable_key


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminPassword:
    """What the catalog keeps of an admin password: the verifier, and the secret's row when the service manages it."""

    verifier: str
    secret: ManagedSecret | None = None


def chosen_password(password: Secret) -> AdminPassword:
    """A password the caller gave; InvalidRequest when it breaks the rules."""
    check_password(password.reveal())
    return AdminPassword(verifier=scram_verifier(password.reveal()))


def forgotten_password() -> AdminPassword:
    """A random password nobody knows, for namespaces made without one."""
    return AdminPassword(verifier=scram_verifier(random_password()))


def managed_password(
    base: Foundation,
    caller: Caller,
    *,
    namespace_id: NamespaceId,
    username: str,
    kms_key_id: str | None,
) -> AdminPassword:
    """A random password, sealed under the named key so that GetManagedSecret can show it.

    Raises KeyUnavailable and InvalidRequest for a key that can't be used or does not exist.
    """
    password = random_password()
    key = usable_key(base, caller.scope, kms_key_id).key.key_id if kms_key_id else AWS_OWNED_KMS_KEY
    identifier = base.new_id()
    secret = ManagedSecret(
        id=identifier,
        account=caller.account,
        region=caller.region,
        namespace_id=namespace_id,
        username=username,
        sealed_password=SecretBox(base.keys, key).seal(
            Secret(password), purpose=f"managed-secret:{identifier}"
        ),
        kms_key_id=key,
        created_at=base.clock.now(),
    )
    return AdminPassword(verifier=scram_verifier(password), secret=secret)


class ManagedSecrets:
    """Reading managed passwords back (an operation of ours: there is no second service to ask)."""

    def __init__(self, foundation: Foundation) -> None:
        self._base = foundation

    def reveal(self, caller: Caller, arn: str) -> tuple[str, Secret]:
        """User name and password of a managed secret of the caller's account. Raises NotFound."""
        with self._base.catalog.transaction() as transaction:
            secret = _find(transaction, caller, arn)
        if secret is None:
            raise NotFound(f"Secret {arn} not found.", resource_name=arn)
        box = SecretBox(self._base.keys, secret.kms_key_id)
        return secret.username, box.open(secret.sealed_password, purpose=f"managed-secret:{secret.id}")


def _find(transaction: Transaction, caller: Caller, arn: str) -> ManagedSecret | None:
    owned = transaction.managed_secrets.list(account=caller.account, region=caller.region)
    return next((secret for secret in owned if secret.arn == arn), None)

"""The root key of the first start, and the look-up behind the signature check."""

from stillframe.app.composition import Parts, access_keys
from stillframe.aws.sigv4 import Credential
from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY, parse_account_id
from stillframe.errors import InternalError, KeyUnavailable
from stillframe.kms import Secret
from stillframe.service.access_keys import IssuedKey


class StoredCredentials:
    """Access keys from the catalog."""

    def __init__(self, parts: Parts) -> None:
        self._keys = access_keys(parts.foundation)

    def find(self, access_key_id: str) -> Credential | None:
        """The key of that id."""
        try:
            found = self._keys.find(access_key_id)
        except KeyUnavailable as error:
            # No fault of the caller's, who named no key.
            raise InternalError("The key that access keys are kept under can't be used.") from error
        if found is None:
            return None
        key, secret = found
        return Credential(account=key.account, arn=key.caller_arn, secret=secret)


def ensure_root_key(parts: Parts) -> IssuedKey:
    """The first root key, made at the first start from the settings, else generated.

    Raises KeyUnavailable when the service's own key is lost.
    """
    keys, settings = access_keys(parts.foundation), parts.settings
    with parts.catalog.transaction() as transaction:
        roots = transaction.access_keys.list(is_root=True, order_by="created_at")
    _ensure_own_key(parts, may_make=not roots)
    if roots:
        found = keys.find(roots[0].access_key_id)
        assert found is not None
        return IssuedKey(key=found[0], secret=found[1])
    chosen = settings.secret_access_key
    return keys.issue(
        account=parse_account_id(settings.account_id),
        user_name="root",
        is_root=True,
        access_key_id=settings.access_key_id,
        secret=Secret(chosen.get_secret_value()) if chosen is not None else None,
    )


def _ensure_own_key(parts: Parts, *, may_make: bool) -> None:
    """Make the service's own key at the first start only: a new one would hide that the real one is lost."""
    try:
        parts.keys.describe(AWS_OWNED_KMS_KEY)
    except KeyUnavailable as error:
        if not may_make or next(parts.repositories.existing(), None) is not None:
            raise KeyUnavailable(
                error.message,
                hint=f"Bring the files of {parts.settings.paths.keys} back from wherever they were kept safe.",
            ) from error
        parts.keys.ensure_key(AWS_OWNED_KMS_KEY)

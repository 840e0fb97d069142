"""Keys in AWS KMS, or in anything that speaks its protocol, through botocore.

A key belongs to a Region, and every Region has its own endpoint, so there is a client for each. Whose keys they
are is decided by the credentials; what may be done with them, by the keys' policies.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from stillframe.domain.identifiers import KmsKeyId, Region, Scope
from stillframe.errors import (
    Conflict,
    InvalidRequest,
    KeyManagementUnavailable,
    KeyUnavailable,
    QuotaExceeded,
    StillframeError,
    StoredDataCorrupt,
)
from stillframe.kms.names import KeyName, parse_alias, parse_key_name, scope_of
from stillframe.kms.port import (
    LARGEST_PLAINTEXT,
    KeyDescription,
    KeyState,
    ResolvedKey,
    missing_key,
    require_enabled,
)
from stillframe.kms.secret import Secret

_LARGEST_BLOB = 6144
_CONNECT_SECONDS, _READ_SECONDS, ATTEMPTS = 3.0, 10.0, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsCredentials:
    """An access key for KMS; without one the SDK looks for credentials in its usual places."""

    access_key_id: str
    secret_access_key: Secret


class AwsKeyManagement:
    """The `KeyManagement` port on KMS. Key ids are ARNs of keys. Safe to use from several threads."""

    def __init__(
        self,
        *,
        endpoint_url: str | None = None,
        credentials: AwsCredentials | None = None,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._endpoint_url = endpoint_url
        self._credentials = credentials
        self._attempts = attempts
        self._lock = threading.Lock()
        self._clients: dict[Region, Any] = {}

    def create(
        self, scope: Scope, *, alias: str | None = None, chosen_id: str | None = None
    ) -> KeyDescription:
        """A new symmetric key in the account of the credentials. InvalidRequest for a chosen id: KMS chooses it."""
        if chosen_id is not None:
            raise InvalidRequest("AWS KMS chooses the ids of its keys; only an alias can be given.")
        client = self._client(scope.region)
        if alias is not None and self._metadata(client, parse_alias(alias)) is not None:
            raise Conflict(f"The alias {alias} already exists.")
        with _translated("A new key"):
            created = client.create_key(Description="Snapshots of Stillframe")["KeyMetadata"]
            if alias is not None:
                client.create_alias(AliasName=alias, TargetKeyId=created["KeyId"])
        return _described(created)

    def ensure_key(self, key_id: KmsKeyId) -> KeyDescription:
        """The key of this id; a missing one can't be minted here, for KMS chooses the ids of its keys."""
        return self.describe(key_id)

    def resolve(self, text: str, scope: Scope) -> ResolvedKey:
        """The key that is meant, when it is a symmetric one for encryption, of the scope's Region."""
        name = parse_key_name(text, scope)
        if name.scope.region != scope.region:
            raise InvalidRequest(f"The key {text} belongs to another Region than {scope.region}.")
        # An ARN goes as it is, so that KMS checks the account too.
        asked = name.arn if text.startswith("arn:") else name.id
        metadata = self._metadata(self._client(scope.region), asked)
        if metadata is None:
            raise missing_key(text)
        _require_symmetric(text, metadata)
        key = _described(metadata)
        return ResolvedKey(name=_lasting_name(name, key), key=key)

    def describe(self, key_id: KmsKeyId) -> KeyDescription:
        """State of a key; its version is not told by KMS."""
        metadata = self._metadata(self._client_of(key_id), key_id)
        if metadata is None or metadata["Arn"] != key_id:
            raise missing_key(key_id)
        return _described(metadata)

    def keys(self, scope: Scope) -> Sequence[KeyDescription]:
        """The customer managed keys of a Region, in the account of the credentials."""
        client = self._client(scope.region)
        with _translated("The list of keys"):
            pages = client.get_paginator("list_keys").paginate()
            found = [
                client.describe_key(KeyId=key["KeyArn"])["KeyMetadata"]
                for page in pages
                for key in page["Keys"]
            ]
        own = [_described(metadata) for metadata in found if metadata.get("KeyManager") == "CUSTOMER"]
        return sorted(own, key=lambda key: (key.created_at, key.key_id))

    def aliases(self, key_id: KmsKeyId) -> Sequence[str]:
        """The aliases that stand for a key."""
        with _translated(f"The key {key_id}", key_id):
            pages = self._client_of(key_id).get_paginator("list_aliases").paginate(KeyId=key_id)
            return sorted(alias["AliasName"] for page in pages for alias in page["Aliases"])

    def set_alias(self, scope: Scope, alias: str, key_id: KmsKeyId) -> None:  # noqa: ARG002 - the port
        """Make or move an alias in the key's own account and Region, where alone KMS has aliases of it."""
        client = self._client_of(key_id)
        known = self._metadata(client, parse_alias(alias)) is not None
        with _translated(f"The alias {alias}", key_id):
            change = client.update_alias if known else client.create_alias
            change(AliasName=alias, TargetKeyId=key_id)

    def wrap(self, key_id: KmsKeyId, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """KMS Encrypt. One that does not refuse disabled keys by itself is asked for the state first."""
        if not 1 <= len(plaintext) <= LARGEST_PLAINTEXT:
            raise InvalidRequest(f"1 to {LARGEST_PLAINTEXT} bytes can be wrapped, not {len(plaintext)}.")
        require_enabled(self.describe(key_id))
        with _translated(f"The key {key_id}", key_id):
            answer = self._client_of(key_id).encrypt(
                KeyId=key_id, Plaintext=plaintext, EncryptionContext=dict(context)
            )
        blob: bytes = answer["CiphertextBlob"]
        return blob

    def unwrap(self, key_id: KmsKeyId, blob: bytes, context: Mapping[str, str]) -> bytes:
        """KMS Decrypt, of a blob that has to be under exactly this key."""
        require_enabled(self.describe(key_id))
        if not 1 <= len(blob) <= _LARGEST_BLOB:
            raise _foreign_blob(key_id)
        with _translated(f"The key {key_id}", key_id):
            answer = self._client_of(key_id).decrypt(
                KeyId=key_id, CiphertextBlob=blob, EncryptionContext=dict(context)
            )
        if answer["KeyId"] != key_id:
            # KMS refuses this by itself; what only speaks its protocol may not.
            raise _foreign_blob(key_id)
        plaintext: bytes = answer["Plaintext"]
        return plaintext

    def rotate(self, key_id: KmsKeyId) -> KeyDescription:
        """KMS RotateKeyOnDemand; KMS limits how often a key may be rotated (QuotaExceeded)."""
        require_enabled(self.describe(key_id))
        with _translated(f"The key {key_id}", key_id):
            self._client_of(key_id).rotate_key_on_demand(KeyId=_inner_id(key_id))
        return self.describe(key_id)

    def enable(self, key_id: KmsKeyId) -> KeyDescription:
        """KMS EnableKey."""
        with _translated(f"The key {key_id}", key_id):
            self._client_of(key_id).enable_key(KeyId=_inner_id(key_id))
        return self.describe(key_id)

    def disable(self, key_id: KmsKeyId) -> KeyDescription:
        """KMS DisableKey."""
        with _translated(f"The key {key_id}", key_id):
            self._client_of(key_id).disable_key(KeyId=_inner_id(key_id))
        return self.describe(key_id)

    def _metadata(self, client: Any, asked: str) -> Mapping[str, Any] | None:
        from botocore.exceptions import ClientError  # noqa: PLC0415 - as in _client

        with _translated(f"The key {asked}", asked):
            try:
                metadata: Mapping[str, Any] = client.describe_key(KeyId=asked)["KeyMetadata"]
            except ClientError as error:
                if _code(error) == "NotFoundException":
                    return None
                raise
        return metadata

    def _client_of(self, key_id: KmsKeyId) -> Any:
        scope = scope_of(key_id)
        if scope is None:
            raise missing_key(key_id)
        return self._client(scope.region)

    def _client(self, region: Region) -> Any:
        with self._lock:
            known = self._clients.get(region)
        if known is not None:
            return known
        made = self._make_client(region)
        with self._lock:
            return self._clients.setdefault(region, made)

    def _make_client(self, region: Region) -> Any:
        # Loaded at first use only: most services have no keys in KMS, and the SDK takes its time.
        from botocore.config import Config  # noqa: PLC0415
        from botocore.session import Session  # noqa: PLC0415

        given = self._credentials
        with _translated("The client of the key management"):
            return Session().create_client(
                "kms",
                region_name=region,
                endpoint_url=self._endpoint_url,
                aws_access_key_id=given.access_key_id if given else None,
                aws_secret_access_key=given.secret_access_key.reveal() if given else None,
                config=Config(
                    connect_timeout=_CONNECT_SECONDS,
                    read_timeout=_READ_SECONDS,
                    retries={"mode": "standard", "total_max_attempts": self._attempts},
                ),
            )


_PASSING = frozenset(
    {
        "DependencyTimeoutException",
        "KMSInternalException",
        "KeyUnavailableException",
        "Throttling",
        "ThrottlingException",
    }
)
_UNUSABLE = frozenset({"DisabledException", "KMSInvalidStateException", "InvalidKeyUsageException"})
_CORRUPT = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
_TAKEN = frozenset({"AlreadyExistsException", "ConflictException"})


@contextlib.contextmanager
def _translated(what: str, key_id: str = "") -> Iterator[None]:
    """Driver errors as ours; KMS's own messages are kept in the cause only, for they may name principals."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as in _make_client

    try:
        yield
    except ClientError as error:
        raise _meaning(_code(error), error, what, key_id) from error
    except BotoCoreError as error:
        raise _failure(error, what, key_id) from error


def _code(error: Any) -> str:
    return str(error.response["Error"].get("Code", ""))


def _meaning(code: str, error: Any, what: str, key_id: str) -> StillframeError:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    meaning: StillframeError
    if code == "NotFoundException":
        meaning = missing_key(key_id or what)
    elif code in _CORRUPT:
        meaning = _foreign_blob(key_id)
    elif code in _TAKEN:
        meaning = Conflict(f"{what} already exists.")
    elif code in _PASSING or status >= 500:
        meaning = _no_answer(f"answered {code or status}")
    elif code == "LimitExceededException":
        meaning = QuotaExceeded(f"{what}: the key management's own limit is reached.")
    else:
        meaning = _refused(code, what, key_id)
    return meaning


def _refused(code: str, what: str, key_id: str) -> KeyUnavailable:
    if code in _UNUSABLE:
        return KeyUnavailable(f"{what} can't be used in the state that it is in ({code}).", key=key_id)
    return KeyUnavailable(
        f"{what} is not accessible: the key management answered {code}.",
        hint="Check the credentials of the service, and the key's policy.",
        key=key_id,
    )


def _failure(error: Exception, what: str, key_id: str) -> StillframeError:
    from botocore.exceptions import (  # noqa: PLC0415 - as in _make_client
        CredentialRetrievalError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
    )

    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return KeyUnavailable(
            f"{what} is not accessible: there are no credentials for the key management.",
            hint="Give the service an access key, or let the SDK find one in its usual places.",
            key=key_id,
        )
    if isinstance(error, ParamValidationError):
        return InvalidRequest(f"{what} can't be asked for: a value has a form that KMS does not know.")
    return _no_answer(f"could not be asked ({type(error).__name__})")


def _no_answer(reason: str) -> KeyManagementUnavailable:
    return KeyManagementUnavailable(
        f"The key management {reason}.", hint="Check its endpoint, and repeat the request later."
    )


def _foreign_blob(key_id: str) -> StoredDataCorrupt:
    return StoredDataCorrupt(
        f"A value wrapped under the key {key_id} was changed, or belongs to something else."
    )


def _require_symmetric(text: str, metadata: Mapping[str, Any]) -> None:
    spec = metadata.get("KeySpec") or metadata.get("CustomerMasterKeySpec") or "SYMMETRIC_DEFAULT"
    if metadata.get("KeyUsage", "ENCRYPT_DECRYPT") != "ENCRYPT_DECRYPT" or spec != "SYMMETRIC_DEFAULT":
        raise InvalidRequest(f"The key {text} is not a symmetric key for encryption.")


def _inner_id(key_id: KmsKeyId) -> str:
    """The id inside its account: changes of a key are never made from another account."""
    return key_id.rpartition("/")[2]


def _lasting_name(name: KeyName, key: KeyDescription) -> KmsKeyId:
    """The alias in the account where it was found, else the key itself."""
    scope = scope_of(key.key_id)
    if not name.is_alias or scope is None:
        return key.key_id
    return KeyName(scope=scope, resource=name.resource).arn


def _described(metadata: Mapping[str, Any]) -> KeyDescription:
    return KeyDescription(
        key_id=KmsKeyId(metadata["Arn"]),
        state=KeyState(metadata["KeyState"]),
        version=None,
        created_at=metadata["CreationDate"].astimezone(UTC),
    )

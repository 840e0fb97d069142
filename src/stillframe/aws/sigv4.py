"""Who signed a request, and whether that is true: Signature Version 4 in the `Authorization` header.

The body is always hashed by us. The signature must cover `host`, `x-amz-date` and every other `x-amz-…`
header of the request, the target among them: what decides about the outcome can not be exchanged on the way.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol

from stillframe.aws.authorization import ALGORITHM, TERMINATOR, Authorization, CredentialScope, incomplete
from stillframe.aws.canonical import canonical_request, sha256_hex
from stillframe.aws.errors import ProtocolCode, ProtocolError
from stillframe.aws.messages import RawRequest
from stillframe.domain.access import Caller
from stillframe.domain.clock import Clock
from stillframe.domain.identifiers import AccountId, Region, parse_region
from stillframe.errors import InvalidRequest
from stillframe.kms import Secret

SKEW = timedelta(minutes=5)
"""How far the client's clock may be off, either way."""

_BASIC_FORMAT = "%Y%m%dT%H%M%SZ"
_BASIC_MOMENT = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_CACHED_KEYS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What is known about an access key. One with a session token is temporary, and needs it every time."""

    account: AccountId
    arn: str
    secret: Secret
    session_token: Secret | None = None
    expires_at: datetime | None = None


class CredentialStore(Protocol):
    """Where access keys are looked up; called once for every request, from several threads."""

    def find(self, access_key_id: str) -> Credential | None:
        """The key, or None if there is none of that id. The id is whatever the client sent."""
        ...


class SignatureVerifier:
    """Checks signatures against the keys of a store; safe to use from several threads."""

    def __init__(self, *, store: CredentialStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        # Bounded, and keyed by the secret itself: an exchanged secret never meets an old signing key.
        self._signing_key = lru_cache(maxsize=_CACHED_KEYS)(derive_signing_key)

    def authenticate(self, request: RawRequest, *, service: str) -> Caller:
        """The caller, or a ProtocolError with the code and the words that AWS has for each failure."""
        authorization = Authorization.parse(request.header("authorization"))
        region = _check_scope(authorization.scope, service=service)
        _check_signed_headers(request, authorization)
        timestamp = self._check_date(request, authorization.scope)
        credential = self._credential(request, authorization.scope)
        self._check_signature(request, authorization, credential=credential, timestamp=timestamp)
        return Caller(
            account=credential.account, region=region, arn=credential.arn, request_id=request.request_id
        )

    def _check_date(self, request: RawRequest, scope: CredentialScope) -> str:
        text = request.header("x-amz-date") or ""
        moment = _moment(text)
        if scope.date != text[:8]:
            raise _invalid(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                f"'{scope.date[:32]}' != '{text[:8]}', from '{text}'."
            )
        _check_skew(moment, self._clock.now())
        return text

    def _credential(self, request: RawRequest, scope: CredentialScope) -> Credential:
        credential = self._store.find(scope.access_key_id)
        if credential is None or not _token_matches(request.header("x-amz-security-token"), credential):
            raise ProtocolError(
                ProtocolCode.UNRECOGNIZED_CLIENT, "The security token included in the request is invalid."
            )
        if credential.expires_at is not None and credential.expires_at <= self._clock.now():
            raise ProtocolError(
                ProtocolCode.EXPIRED_TOKEN, "The security token included in the request is expired"
            )
        return credential

    def _check_signature(
        self, request: RawRequest, authorization: Authorization, *, credential: Credential, timestamp: str
    ) -> None:
        scope = authorization.scope
        canonical = canonical_request(
            request, signed_headers=authorization.signed_headers, payload_hash=_payload_hash(request)
        )
        hashed = sha256_hex(_wire_bytes(canonical))
        key = self._signing_key(credential.secret, scope.date, scope.region, scope.service)
        expected = hmac.new(key, f"{ALGORITHM}\n{timestamp}\n{scope}\n{hashed}".encode(), hashlib.sha256)
        if not hmac.compare_digest(expected.hexdigest().encode(), _wire_bytes(authorization.signature)):
            raise _mismatch()


def derive_signing_key(secret: Secret, date: str, region: str, service: str) -> bytes:
    """The key of one day, Region and service, derived from the secret."""
    key = f"AWS4{secret.reveal()}".encode()
    for part in (date, region, service, TERMINATOR):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _check_scope(scope: CredentialScope, *, service: str) -> Region:
    if scope.terminator != TERMINATOR:
        raise _invalid(f"Credential should be scoped with a valid terminator: '{TERMINATOR}'.")
    if scope.service != service:
        raise _invalid(f"Credential should be scoped to correct service: '{service}'.")
    try:
        return parse_region(scope.region)
    except InvalidRequest:
        raise _invalid("Credential should be scoped to a valid region.") from None


def _check_signed_headers(request: RawRequest, authorization: Authorization) -> None:
    amazon = {name for name, _ in request.headers if name.startswith("x-amz-")}
    if "x-amz-date" not in amazon:
        raise incomplete("Authorization header requires existence of a 'X-Amz-Date' header.")
    unsigned = sorted(({"host"} | amazon) - set(authorization.signed_headers))
    if unsigned:
        raise _invalid(
            " ".join(f"'{name}' must be a 'SignedHeader' in the AWS Authorization." for name in unsigned)
        )


def _moment(text: str) -> datetime:
    try:
        if not _BASIC_MOMENT.fullmatch(text):
            raise ValueError(text)
        return datetime.strptime(text, _BASIC_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise incomplete("Date must be in ISO-8601 'basic format', such as 20260102T030405Z.") from None


def _check_skew(moment: datetime, now: datetime) -> None:
    signed, current = _basic(moment), _basic(now)
    if moment < now - SKEW:
        limit = _basic(now - SKEW)
        raise _invalid(f"Signature expired: {signed} is now earlier than {limit} ({current} - 5 min.)")
    if moment > now + SKEW:
        limit = _basic(now + SKEW)
        raise _invalid(
            f"Signature not yet current: {signed} is still later than {limit} ({current} + 5 min.)"
        )


def _basic(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_BASIC_FORMAT)


def _token_matches(token: str | None, credential: Credential) -> bool:
    if token is None or credential.session_token is None:
        return token is None and credential.session_token is None
    return Secret(token) == credential.session_token


def _payload_hash(request: RawRequest) -> str:
    actual = sha256_hex(request.body)
    claimed = request.header("x-amz-content-sha256")
    if claimed in (None, actual):
        return actual
    # UNSIGNED-PAYLOAD too: whoever could change the body on the way could then make any request of it.
    raise _mismatch()


def _wire_bytes(text: str) -> bytes:
    # Headers were decoded as Latin-1, so this gives back the very bytes that came over the wire.
    return text.encode("latin-1", errors="replace")


def _mismatch() -> ProtocolError:
    return _invalid(
        "The request signature we calculated does not match the signature you provided. "
        "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
    )


def _invalid(message: str) -> ProtocolError:
    return ProtocolError(ProtocolCode.INVALID_SIGNATURE, message)

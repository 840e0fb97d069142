"""The `Authorization` header of Signature Version 4, taken apart."""

from dataclasses import dataclass
from typing import Self

from stillframe.aws.errors import ProtocolCode, ProtocolError

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"

_PARAMETERS = ("Credential", "SignedHeaders", "Signature")


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialScope:
    """`<key>/<yyyymmdd>/<region>/<service>/<terminator>`: which key signed, and what for."""

    access_key_id: str
    date: str
    region: str
    service: str
    terminator: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take the five parts apart, or raise a ProtocolError with the code IncompleteSignatureException."""
        parts = text.split("/")
        if len(parts) != 5 or not all(parts):
            raise incomplete(
                "Credential must have exactly 5 slash-delimited elements: keyid/date/region/service/term."
            )
        key, date, region, service, terminator = parts
        return cls(access_key_id=key, date=date, region=region, service=service, terminator=terminator)

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/{self.terminator}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """What the client claims: the scope, the lower-case names of the headers it signed, and the signature."""

    scope: CredentialScope
    signed_headers: tuple[str, ...]
    signature: str

    @classmethod
    def parse(cls, header: str | None) -> Self:
        """Read the header.

        Raises a ProtocolError with the code MissingAuthenticationTokenException when there is none, with
        IncompleteSignatureException when a part is missing or malformed.
        """
        if not header or not header.strip():
            raise ProtocolError(
                ProtocolCode.MISSING_AUTHENTICATION, "Request is missing Authentication Token"
            )
        algorithm, _, rest = header.strip().partition(" ")
        if algorithm != ALGORITHM:
            raise incomplete(f"The Authorization header must begin with the algorithm {ALGORITHM}.")
        given = _parameters(rest)
        return cls(
            scope=CredentialScope.parse(given["Credential"]),
            signed_headers=tuple(given["SignedHeaders"].lower().split(";")),
            signature=given["Signature"],
        )


def incomplete(message: str) -> ProtocolError:
    """A signature that lacks a part or has one of the wrong form."""
    return ProtocolError(ProtocolCode.INCOMPLETE_SIGNATURE, message)


def _parameters(text: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name in given:
            # Not repeated: a header this broken may hold a secret in the wrong place.
            raise incomplete("The Authorization header has a part that is not a key=value pair.")
        given[name] = value
    missing = [name for name in _PARAMETERS if not given.get(name)]
    if missing:
        raise incomplete(" ".join(f"Authorization header requires '{name}' parameter." for name in missing))
    return given

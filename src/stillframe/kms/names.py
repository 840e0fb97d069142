"""The names a key goes by, and their one canonical form: the ARN of the key, or that of an alias of it."""

import contextlib
import re
from dataclasses import dataclass

from stillframe.domain.identifiers import KmsKeyId, Scope, parse_account_id, parse_kms_key_id, parse_region
from stillframe.errors import InvalidRequest

_ARN = re.compile(r"arn:aws:kms:(?P<region>[^:]+):(?P<account>[^:]+):(?P<resource>.+)")
_ALIAS = re.compile(r"alias/[A-Za-z0-9/_-]{1,250}")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyName:
    """A key or an alias, in full: `resource` is `key/<id>` or `alias/<name>`."""

    scope: Scope
    resource: str

    @property
    def is_alias(self) -> bool:
        """Whether it names whatever key the alias stands for."""
        return self.resource.startswith("alias/")

    @property
    def id(self) -> str:
        """The id of the key, or the alias with its prefix: what KMS takes inside one account and Region."""
        return self.resource if self.is_alias else self.resource.removeprefix("key/")

    @property
    def arn(self) -> KmsKeyId:
        """The canonical form."""
        return KmsKeyId(f"arn:aws:kms:{self.scope.region}:{self.scope.account}:{self.resource}")


def parse_key_name(text: str, scope: Scope) -> KeyName:
    """What an id, alias or ARN names; the first two mean one of this account and Region. InvalidRequest otherwise."""
    parse_kms_key_id(text)
    arn = _ARN.fullmatch(text)
    if arn is not None:
        scope = Scope(account=parse_account_id(arn["account"]), region=parse_region(arn["region"]))
        text = arn["resource"]
    resource = text if text.startswith(("alias/", "key/")) else f"key/{text}"
    return KeyName(scope=scope, resource=resource)


def scope_of(key_id: KmsKeyId) -> Scope | None:
    """The account and Region in a key's ARN; None for a key that is named in another way."""
    arn = _ARN.fullmatch(key_id)
    if arn is None:
        return None
    with contextlib.suppress(InvalidRequest):
        return Scope(account=parse_account_id(arn["account"]), region=parse_region(arn["region"]))
    return None


def parse_alias(text: str) -> str:
    """An alias that a user may give: `alias/` and 1-250 characters, as KMS has it. InvalidRequest otherwise."""
    if not _ALIAS.fullmatch(text) or text.startswith("alias/aws/"):
        raise InvalidRequest(
            f"{text[:64]!r} is not an alias: it must be alias/ and 1 to 250 letters, digits or the characters "
            "/_-, and must not begin with alias/aws/."
        )
    return text


def parse_new_id(text: str) -> str:
    """The id that a new key shall have: a UUID in lower case. InvalidRequest otherwise."""
    if not _ID.fullmatch(text):
        raise InvalidRequest(f"{text[:64]!r} is not the id of a key: it must be a UUID in lower case.")
    return text

"""Names, numbers and ARNs, each parsed once at the edge and then trusted.

Rules for names come from the service model of the API and the pages it points to; where nobody has published
one, the widest rule of the published siblings is taken (docs/reference/compatibility.md).
"""

import re
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, Self

from stillframe.errors import InvalidRequest

AccountId = NewType("AccountId", str)
Region = NewType("Region", str)
NamespaceName = NewType("NamespaceName", str)
WorkgroupName = NewType("WorkgroupName", str)
SnapshotName = NewType("SnapshotName", str)
NamespaceId = NewType("NamespaceId", uuid.UUID)
WorkgroupId = NewType("WorkgroupId", uuid.UUID)
SnapshotId = NewType("SnapshotId", uuid.UUID)
IncarnationId = NewType("IncarnationId", uuid.UUID)
LineageId = NewType("LineageId", uuid.UUID)
KmsKeyId = NewType("KmsKeyId", str)

AWS_OWNED_KMS_KEY = KmsKeyId("AWS_OWNED_KMS_KEY")
"""The key of namespaces that named none; kept by the local key management."""

_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]{1,2}")
_SNAPSHOT_NAME = re.compile(r"[a-z0-9-]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose state: one account in one Region. Scopes never see each other's resources unless shared."""

    account: AccountId
    region: Region


def parse_account_id(text: str) -> AccountId:
    """Twelve digits, or InvalidRequest."""
    if not _ACCOUNT.fullmatch(text):
        raise InvalidRequest(f"{text!r} is not an account id: it must be 12 digits")
    return AccountId(text)


def parse_region(text: str) -> Region:
    """A Region's name such as `eu-central-1`, or InvalidRequest."""
    if not _REGION.fullmatch(text):
        raise InvalidRequest(f"{text!r} is not the name of a Region")
    return Region(text)


def parse_snapshot_name(text: str) -> SnapshotName:
    """1-255 lower-case letters, digits and hyphens, or InvalidRequest."""
    if not _SNAPSHOT_NAME.fullmatch(text):
        raise InvalidRequest(
            "The snapshot name must contain 1 to 255 lowercase letters, digits or hyphens.",
        )
    return SnapshotName(text)


class ResourceKind(StrEnum):
    """The resources that have an ARN; values are the ARN's own words."""

    NAMESPACE = "namespace"
    WORKGROUP = "workgroup"
    SNAPSHOT = "snapshot"
    RECOVERY_POINT = "recoverypoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arn:
    """`arn:aws:redshift-serverless:<region>:<account>:<kind>/<uuid>` (service authorization reference)."""

    region: Region
    account: AccountId
    kind: ResourceKind
    id: uuid.UUID

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an ARN of this service; raise InvalidRequest for any other text."""
        parts = text.split(":", 5)
        try:
            prefix, partition, service, region, account, resource = parts
            kind, _, identifier = resource.partition("/")
            if (prefix, partition, service) != ("arn", "aws", "redshift-serverless"):
                raise ValueError(text)
            arn = cls(
                region=parse_region(region),
                account=parse_account_id(account),
                kind=ResourceKind(kind),
                id=uuid.UUID(identifier),
            )
        except (ValueError, InvalidRequest):
            raise InvalidRequest(f"The ARN {text[:1011]} is not valid.") from None
        if str(arn) != text:
            raise InvalidRequest(f"The ARN {text[:1011]} is not valid.")
        return arn

    @classmethod
    def of(cls, scope: Scope, kind: ResourceKind, identifier: uuid.UUID) -> Self:
        """The ARN of a resource in this scope."""
        return cls(region=scope.region, account=scope.account, kind=kind, id=identifier)

    @property
    def scope(self) -> Scope:
        """The account and Region the resource belongs to."""
        return Scope(account=self.account, region=self.region)

    def __str__(self) -> str:
        return f"arn:aws:redshift-serverless:{self.region}:{self.account}:{self.kind}/{self.id}"


_KMS_KEY = re.compile(
    r"(arn:aws:kms:[a-z0-9-]+:[0-9]{12}:)?(key/)?(mrk-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|(arn:aws:kms:[a-z0-9-]+:[0-9]{12}:)?alias/[A-Za-z0-9/_-]{1,250}"
    r"|mrk-[0-9a-f]{32}"
)


def parse_kms_key_id(text: str) -> KmsKeyId:
    """A key's id, alias or ARN, or `AWS_OWNED_KMS_KEY`; InvalidRequest for anything else."""
    if text != AWS_OWNED_KMS_KEY and not _KMS_KEY.fullmatch(text):
        raise InvalidRequest(f"{text[:64]} is not the id, alias or ARN of a KMS key.")
    return KmsKeyId(text)


def managed_secret_arn(scope: Scope, identifier: uuid.UUID) -> str:
    """The name of an admin password that the service chose: shaped like a secret's ARN, which clients parse."""
    return f"arn:aws:secretsmanager:{scope.region}:{scope.account}:secret:redshift!{identifier}"

"""Who may call: access keys of the API, and database users that expire."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from stillframe.domain.identifiers import (
    AccountId,
    KmsKeyId,
    NamespaceId,
    Region,
    Scope,
    managed_secret_arn,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """A key that signs API requests. The secret is sealed under a key of the local key management."""

    access_key_id: str
    account: AccountId
    user_name: str
    sealed_secret: bytes
    created_at: datetime
    is_root: bool = False

    @property
    def caller_arn(self) -> str:
        """How the caller is named in messages and in database users."""
        if self.is_root:
            return f"arn:aws:iam::{self.account}:root"
        return f"arn:aws:iam::{self.account}:user/{self.user_name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseUser:
    """A database login that GetCredentials handed out; its password is sealed so that it can be repeated."""

    namespace_id: NamespaceId
    role: str
    sealed_password: bytes
    expires_at: datetime
    next_refresh_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedSecret:
    """An admin password that the service chose (`manageAdminPassword`)."""

    id: uuid.UUID
    account: AccountId
    region: Region
    namespace_id: NamespaceId
    username: str
    sealed_password: bytes
    kms_key_id: KmsKeyId
    created_at: datetime

    @property
    def arn(self) -> str:
        """What `adminPasswordSecretArn` shows."""
        return managed_secret_arn(Scope(account=self.account, region=self.region), self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A label on a resource that has an ARN."""

    resource_arn: str
    key: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePolicy:
    """A policy document that the owner of a resource attached to it, as the caller wrote it."""

    resource_arn: str
    account: AccountId
    region: Region
    policy: str
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a request, in which Region, and the request's id for the logs of all work it causes."""

    account: AccountId
    region: Region
    arn: str
    request_id: str

    @property
    def scope(self) -> Scope:
        """The account and Region whose resources the request is about."""
        return Scope(account=self.account, region=self.region)

    @property
    def database_role(self) -> str:
        """The database user this caller becomes (user guide: `IAM:` for users, `IAMR:` for roles)."""
        name = self.arn.rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        return f"IAMR:{name}" if ":assumed-role/" in self.arn else f"IAM:{name}"

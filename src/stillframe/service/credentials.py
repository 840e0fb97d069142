"""GetCredentials: a database user that really logs in, until it expires."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from stillframe.domain.access import Caller, DatabaseUser
from stillframe.domain.database import parse_database_name
from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY, NamespaceId
from stillframe.domain.workgroup import WorkgroupStatus
from stillframe.errors import InvalidRequest, NotFound
from stillframe.kms import Secret, SecretBox
from stillframe.postgres.connection import connect
from stillframe.postgres.roles import grant_temporary_login
from stillframe.postgres.scram import random_password, scram_verifier
from stillframe.service.foundation import Foundation
from stillframe.service.servers import Servers
from stillframe.service.workgroups import find_workgroup

SHORTEST, LONGEST, DEFAULT = 900, 3600, 900
"""Seconds a password may live (API reference: GetCredentials)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseCredentials:
    """What the caller connects with."""

    role: str
    password: Secret
    expires_at: datetime
    next_refresh_at: datetime


class Credentials:
    """Database users of API callers: `IAM:<user>`, member of PUBLIC only."""

    def __init__(self, foundation: Foundation, servers: Servers) -> None:
        self._base = foundation
        self._servers = servers
        self._box = SecretBox(foundation.keys, AWS_OWNED_KMS_KEY)

    def get(
        self, caller: Caller, *, workgroup_name: str | None, db_name: str | None, seconds: int | None
    ) -> DatabaseCredentials:
        """A login for this caller; the same password is repeated until its refresh time.

        Raises NotFound (workgroup), InvalidRequest (range, database's name, workgroup not AVAILABLE).
        """
        duration = _check_duration(seconds)
        if db_name is not None:
            parse_database_name(db_name)
        if workgroup_name is None:
            raise NotFound(
                "Custom domain names are not offered by this service.", resource_name="customDomainName"
            )
        with self._base.catalog.transaction() as transaction:
            workgroup = find_workgroup(transaction, caller.scope, workgroup_name)
            namespace = transaction.namespaces.find(id=workgroup.namespace_id)
            known = transaction.database_users.find(
                namespace_id=workgroup.namespace_id, role=caller.database_role
            )
        if namespace is None or workgroup.status is not WorkgroupStatus.AVAILABLE:
            raise InvalidRequest(f"Serverless workgroup {workgroup_name} is not available.")
        user, password = self._current(known, duration) or self._new(
            namespace.id, caller.database_role, duration
        )
        with connect(self._servers.current(namespace)) as session:
            grant_temporary_login(
                session,
                name=user.role,
                verifier=scram_verifier(password.reveal()),
                valid_until=user.expires_at,
                admin=namespace.admin_username,
            )
        with self._base.catalog.transaction() as transaction:
            transaction.database_users.upsert(user)
        return DatabaseCredentials(
            role=user.role,
            password=password,
            expires_at=user.expires_at,
            next_refresh_at=user.next_refresh_at,
        )

    def _current(self, known: DatabaseUser | None, duration: timedelta) -> tuple[DatabaseUser, Secret] | None:
        now = self._base.clock.now()
        if (
            known is None
            or now >= known.next_refresh_at
            or now + duration > known.expires_at + timedelta(minutes=5)
        ):
            return None
        return known, self._box.open(known.sealed_password, purpose=_purpose(known))

    def _new(self, namespace_id: NamespaceId, role: str, duration: timedelta) -> tuple[DatabaseUser, Secret]:
        password = Secret(random_password())
        now = self._base.clock.now()
        user = DatabaseUser(
            namespace_id=namespace_id,
            role=role,
            sealed_password=b"",
            expires_at=now + duration,
            next_refresh_at=now + duration / 2,
        )
        return replace(user, sealed_password=self._box.seal(password, purpose=_purpose(user))), password


def _purpose(user: DatabaseUser) -> str:
    return f"database-user:{user.namespace_id}:{user.role}"


def _check_duration(seconds: int | None) -> timedelta:
    duration = DEFAULT if seconds is None else seconds
    if not SHORTEST <= duration <= LONGEST:
        raise InvalidRequest(f"The duration must be between {SHORTEST} and {LONGEST} seconds.")
    return timedelta(seconds=duration)

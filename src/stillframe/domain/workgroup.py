"""A workgroup: the running server of a namespace and the endpoint that clients connect to."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from stillframe.domain.identifiers import (
    AccountId,
    Arn,
    NamespaceId,
    NamespaceName,
    Region,
    ResourceKind,
    Scope,
    WorkgroupId,
    WorkgroupName,
)

DEFAULT_PORT = 5439
ALLOWED_PORTS = (range(5431, 5456), range(8191, 8216))
"""The port ranges a workgroup may listen on (API reference: CreateWorkgroup)."""


class WorkgroupStatus(StrEnum):
    """The API's words."""

    CREATING = "CREATING"
    AVAILABLE = "AVAILABLE"
    MODIFYING = "MODIFYING"
    DELETING = "DELETING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workgroup:
    """One row of the catalog.

    `requested_port` is what the caller asked for, `port` where the endpoint really listens (None until it does):
    they differ when the requested one was taken on this host.
    """

    id: WorkgroupId
    account: AccountId
    region: Region
    name: WorkgroupName
    namespace_id: NamespaceId
    namespace_name: NamespaceName
    status: WorkgroupStatus
    created_at: datetime
    base_capacity: int
    max_capacity: int | None = None
    config_parameters: tuple[tuple[str, str], ...] = ()
    enhanced_vpc_routing: bool = False
    extra_compute: bool = False
    ip_address_type: str = "ipv4"
    price_performance_status: str | None = None
    price_performance_level: int | None = None
    publicly_accessible: bool = False
    security_group_ids: tuple[str, ...] = ()
    subnet_ids: tuple[str, ...] = ()
    track_name: str = "current"
    requested_port: int = DEFAULT_PORT
    port: int | None = None
    server_version: str | None = None
    operation_id: uuid.UUID | None = None

    @property
    def scope(self) -> Scope:
        """Whose it is."""
        return Scope(account=self.account, region=self.region)

    @property
    def arn(self) -> str:
        """Its ARN, made of its UUID."""
        return str(Arn.of(self.scope, ResourceKind.WORKGROUP, self.id))

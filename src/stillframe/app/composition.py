"""From settings to objects: the one place that knows every class."""

import uuid
from dataclasses import dataclass

from stillframe.app.catalog_server import catalog_cluster, catalog_conninfo
from stillframe.app.clock import clock_for
from stillframe.aws.handlers import UseCases
from stillframe.catalog import Catalog
from stillframe.config import Settings
from stillframe.domain.clock import Clock
from stillframe.domain.identifiers import parse_account_id
from stillframe.domain.operation import OperationKind
from stillframe.endpoint.client import EndpointClient
from stillframe.endpoint.gateway import EndpointGateway
from stillframe.kms import KeyManagement, LocalKeyManagement
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.machine import Machine, find_machine
from stillframe.service.access_keys import AccessKeys
from stillframe.service.credentials import Credentials
from stillframe.service.endpoints import Endpoints
from stillframe.service.foundation import Foundation
from stillframe.service.inspection import Inspection
from stillframe.service.jobs.capturing import Capturer, CreateSnapshot
from stillframe.service.jobs.provisioning import (
    CreateWorkgroup,
    DeleteNamespace,
    DeleteWorkgroup,
    StartServer,
    UpdateNamespace,
    UpdateWorkgroup,
)
from stillframe.service.jobs.restoring import RestoreFromSnapshot, RestoreTools
from stillframe.service.jobs.restoring_table import RestoreTableFromSnapshot
from stillframe.service.jobs.runner import Handler, Runner
from stillframe.service.namespaces import Namespaces
from stillframe.service.policies import ResourcePolicies
from stillframe.service.private_copies import PrivateCopies
from stillframe.service.repositories import Repositories
from stillframe.service.restores import Restores
from stillframe.service.retention import Retention
from stillframe.service.secrets import ManagedSecrets
from stillframe.service.servers import Servers
from stillframe.service.snapshots import Snapshots
from stillframe.service.supervision import Supervisor
from stillframe.service.table_restores import TableRestores
from stillframe.service.tags import Tags
from stillframe.service.workgroups import Workgroups


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the API process and the worker process have in common."""

    settings: Settings
    clock: Clock
    keys: KeyManagement
    catalog: Catalog
    catalog_cluster: Cluster
    endpoints: Endpoints
    foundation: Foundation
    repositories: Repositories
    servers: Servers

    def snapshots(self) -> Snapshots:
        """The snapshot use cases."""
        return Snapshots(self.foundation, self.repositories)


def build_parts(settings: Settings, machine: Machine | None = None) -> Parts:
    """Everything both processes need; starts and connects nothing. Raises OperatorError when PostgreSQL is missing."""
    machine = machine or find_machine(settings.postgres_bin, server_user=settings.server_user)
    cluster = catalog_cluster(settings, machine)
    clock = clock_for(settings.clock_offset_file)
    keys = LocalKeyManagement(settings.paths.keys)
    foundation = Foundation(
        catalog=Catalog(catalog_conninfo(cluster)),
        clock=clock,
        new_id=uuid.uuid4,
        settings=settings,
        keys=keys,
    )
    endpoints = EndpointGateway(endpoint_client(settings, switch_user=machine.identity.switch))
    return Parts(
        settings=settings,
        clock=clock,
        keys=keys,
        catalog=foundation.catalog,
        catalog_cluster=cluster,
        endpoints=endpoints,
        foundation=foundation,
        repositories=Repositories(settings, keys, clock),
        servers=Servers(foundation, machine, endpoints),
    )


def endpoint_client(settings: Settings, *, switch_user: bool) -> EndpointClient:
    """The client of this data directory's endpoint process."""
    return EndpointClient(settings.paths.endpoint_socket, user=settings.server_user if switch_user else None)


def build_use_cases(parts: Parts) -> UseCases:
    """All use cases of the API."""
    base, snapshots = parts.foundation, parts.snapshots()
    return UseCases(
        namespaces=Namespaces(base),
        workgroups=Workgroups(base),
        snapshots=snapshots,
        restores=Restores(base, parts.repositories),
        table_restores=TableRestores(base),
        tags=Tags(base, parts.repositories),
        policies=ResourcePolicies(base),
        credentials=Credentials(base, parts.servers),
        access_keys=access_keys(base),
        secrets=ManagedSecrets(base),
        inspection=Inspection(base, parts.repositories),
    )


def access_keys(base: Foundation) -> AccessKeys:
    """The access keys; root of the configured account manages those of every account."""
    operator = parse_account_id(base.settings.account_id)
    return AccessKeys(base.catalog, base.keys, base.clock, operator=operator)


def build_runner(parts: Parts) -> Runner:
    """The runner with a handler for every kind of operation."""
    base, servers = parts.foundation, parts.servers
    capturer = Capturer(base, servers, parts.repositories)
    tools = RestoreTools(servers=servers, endpoints=parts.endpoints, repositories=parts.repositories)
    copies = PrivateCopies(base, servers, parts.repositories)
    handlers: dict[OperationKind, Handler] = {
        OperationKind.CREATE_WORKGROUP: CreateWorkgroup(base, servers),
        OperationKind.UPDATE_WORKGROUP: UpdateWorkgroup(base, servers),
        OperationKind.DELETE_WORKGROUP: DeleteWorkgroup(base, servers, parts.endpoints),
        OperationKind.UPDATE_NAMESPACE: UpdateNamespace(base, servers),
        OperationKind.DELETE_NAMESPACE: DeleteNamespace(base, servers, capturer),
        OperationKind.START_SERVER: StartServer(base, servers),
        OperationKind.CREATE_SNAPSHOT: CreateSnapshot(base, capturer),
        OperationKind.RESTORE_FROM_SNAPSHOT: RestoreFromSnapshot(base, tools),
        OperationKind.RESTORE_TABLE_FROM_SNAPSHOT: RestoreTableFromSnapshot(base, servers, copies),
    }
    return Runner(base, handlers)


def build_supervisor(parts: Parts) -> Supervisor:
    """The one who compares machine and catalog."""
    return Supervisor(parts.foundation, parts.servers, parts.endpoints)


def build_retention(parts: Parts) -> Retention:
    """The periodic sweep."""
    return Retention(parts.foundation, parts.snapshots(), parts.repositories, parts.servers)

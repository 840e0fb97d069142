"""From settings to objects: the one place that knows every class."""

import uuid
from dataclasses import dataclass

from stillframe.app.catalog_server import catalog_cluster, catalog_conninfo
from stillframe.app.clock import clock_for
from stillframe.app.programs import ProgramLauncher
from stillframe.aws.handlers import UseCases
from stillframe.catalog import Catalog
from stillframe.config import Settings
from stillframe.domain.clock import Clock
from stillframe.domain.identifiers import parse_account_id
from stillframe.domain.operation import OperationKind
from stillframe.endpoint.client import EndpointClient
from stillframe.endpoint.gateway import EndpointGateway
from stillframe.kms import KeyManagement
from stillframe.kms.opening import key_management
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.machine import Machine, find_machine
from stillframe.service.access_keys import AccessKeys
from stillframe.service.credentials import Credentials
from stillframe.service.endpoints import Endpoints
from stillframe.service.foundation import Foundation
from stillframe.service.hydrations import Hydrations, HydratorLauncher
from stillframe.service.inspection import Inspection
from stillframe.service.jobs.capturing import Capturer, CreateSnapshot
from stillframe.service.jobs.opening import CloseSnapshotJob, OpenCopies, OpenSnapshotJob
from stillframe.service.jobs.proving import ProveSnapshot
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
from stillframe.service.keys import Keys
from stillframe.service.layout import Layouts
from stillframe.service.namespaces import Namespaces
from stillframe.service.open_snapshots import OpenSnapshots
from stillframe.service.policies import ResourcePolicies
from stillframe.service.private_copies import PrivateCopies
from stillframe.service.proofs import ProofRecord, Proofs, ProofSchedule
from stillframe.service.repositories import Repositories
from stillframe.service.restore_progress import RestoreProgress
from stillframe.service.restores import Restores
from stillframe.service.retention import Retention
from stillframe.service.secrets import ManagedSecrets
from stillframe.service.servers import Servers
from stillframe.service.snapshots import Snapshots
from stillframe.service.supervision import Supervisor
from stillframe.service.table_restores import TableRestores
from stillframe.service.tags import Tags
from stillframe.service.verifications import VerificationSchedule
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
    hydrations: Hydrations
    servers: Servers

    def snapshots(self) -> Snapshots:
        """The snapshot use cases."""
        return Snapshots(self.foundation, self.repositories)


def build_parts(
    settings: Settings, machine: Machine | None = None, launcher: HydratorLauncher | None = None
) -> Parts:
    """Everything both processes need; starts and connects nothing. Raises OperatorError when PostgreSQL is missing.

    `launcher` starts hydrators; without one they are programs of their own.
    """
    machine = machine or find_machine(settings.postgres_bin, server_user=settings.server_user)
    cluster = catalog_cluster(settings, machine)
    clock = clock_for(settings.clock_offset_file)
    keys = key_management(settings, clock)
    foundation = Foundation(
        catalog=Catalog(catalog_conninfo(cluster)),
        clock=clock,
        new_id=uuid.uuid4,
        settings=settings,
        keys=keys,
    )
    endpoints = EndpointGateway(endpoint_client(settings, switch_user=machine.identity.switch))
    repositories = Repositories(settings, keys, clock)
    launcher = launcher or ProgramLauncher(settings)
    hydrations = Hydrations(foundation, machine, repositories, launcher)
    return Parts(
        settings=settings,
        clock=clock,
        keys=keys,
        catalog=foundation.catalog,
        catalog_cluster=cluster,
        endpoints=endpoints,
        foundation=foundation,
        repositories=repositories,
        hydrations=hydrations,
        servers=Servers(foundation, machine, endpoints, hydrations),
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
        open_snapshots=OpenSnapshots(base),
        proofs=Proofs(base),
        tags=Tags(base, parts.repositories),
        policies=ResourcePolicies(base),
        credentials=Credentials(base, parts.servers),
        access_keys=access_keys(base),
        keys=Keys(base, parts.repositories, operator=parse_account_id(base.settings.account_id)),
        secrets=ManagedSecrets(base),
        inspection=Inspection(base, parts.repositories),
        restore_progress=RestoreProgress(base, parts.servers),
    )


def access_keys(base: Foundation) -> AccessKeys:
    """The access keys; root of the configured account manages those of every account."""
    operator = parse_account_id(base.settings.account_id)
    return AccessKeys(base.catalog, base.keys, base.clock, operator=operator)


def build_runner(parts: Parts) -> Runner:
    """The runner with a handler for every kind of operation."""
    base, servers = parts.foundation, parts.servers
    capturer = Capturer(base, servers, parts.repositories)
    tools = RestoreTools(servers=servers, endpoints=parts.endpoints, layouts=build_layouts(parts))
    copies = build_private_copies(parts)
    open_copies = build_open_copies(parts)
    record = ProofRecord(base, parts.repositories)
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
        OperationKind.OPEN_SNAPSHOT: OpenSnapshotJob(base, open_copies),
        OperationKind.CLOSE_SNAPSHOT: CloseSnapshotJob(base, open_copies),
        OperationKind.PROVE_SNAPSHOT: ProveSnapshot(base, servers, parts.repositories, copies, record),
    }
    return Runner(base, handlers)


def build_layouts(parts: Parts) -> Layouts:
    """What makes running servers out of snapshots."""
    return Layouts(parts.foundation, parts.servers.machine, parts.repositories, parts.hydrations)


def build_private_copies(parts: Parts) -> PrivateCopies:
    """What makes and removes private copies of snapshots."""
    return PrivateCopies(parts.foundation, parts.servers, build_layouts(parts), parts.hydrations)


def build_open_copies(parts: Parts) -> OpenCopies:
    """The copies that clients connect to."""
    return OpenCopies(parts.foundation, parts.servers, build_private_copies(parts), parts.endpoints)


def build_proof_schedule(parts: Parts) -> ProofSchedule:
    """The one who sees to it that every snapshot is proven."""
    return ProofSchedule(parts.foundation)


def build_verification_schedule(parts: Parts) -> VerificationSchedule:
    """The one who reads every stored byte again, every so often."""
    return VerificationSchedule(parts.foundation, parts.repositories)


def build_supervisor(parts: Parts) -> Supervisor:
    """The one who compares machine and catalog."""
    return Supervisor(parts.foundation, parts.servers, parts.endpoints, parts.hydrations)


def build_retention(parts: Parts) -> Retention:
    """The periodic sweep."""
    return Retention(parts.foundation, parts.snapshots(), parts.repositories, parts.servers, parts.hydrations)

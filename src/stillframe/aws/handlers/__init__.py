"""From the wire's names to one call of a use case, and back: a module for each resource, a table for them all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from stillframe.aws.dispatch import Handlers
from stillframe.aws.handlers.access import AccessHandlers
from stillframe.aws.handlers.keys import KeyHandlers
from stillframe.aws.handlers.namespaces import NamespaceHandlers
from stillframe.aws.handlers.open_snapshots import OpenSnapshotHandlers
from stillframe.aws.handlers.operations import OperationHandlers
from stillframe.aws.handlers.proofs import ProofHandlers
from stillframe.aws.handlers.restore_progress import RestoreProgressHandlers
from stillframe.aws.handlers.snapshots import SnapshotHandlers
from stillframe.aws.handlers.table_restores import TableRestoreHandlers
from stillframe.aws.handlers.tags import TagHandlers
from stillframe.aws.handlers.workgroups import WorkgroupHandlers
from stillframe.service.access_keys import AccessKeys
from stillframe.service.credentials import Credentials
from stillframe.service.inspection import Inspection
from stillframe.service.keys import Keys
from stillframe.service.namespaces import Namespaces
from stillframe.service.open_snapshots import OpenSnapshots
from stillframe.service.policies import ResourcePolicies
from stillframe.service.proofs import Proofs
from stillframe.service.restore_progress import RestoreProgress
from stillframe.service.restores import Restores
from stillframe.service.secrets import ManagedSecrets
from stillframe.service.snapshots import Snapshots
from stillframe.service.table_restores import TableRestores
from stillframe.service.tags import Tags
from stillframe.service.workgroups import Workgroups


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """All use cases of one service, as the handlers call them."""

    namespaces: Namespaces
    workgroups: Workgroups
    snapshots: Snapshots
    restores: Restores
    table_restores: TableRestores
    open_snapshots: OpenSnapshots
    proofs: Proofs
    tags: Tags
    policies: ResourcePolicies
    credentials: Credentials
    access_keys: AccessKeys
    keys: Keys
    secrets: ManagedSecrets
    inspection: Inspection
    restore_progress: RestoreProgress


def build_handlers(use_cases: UseCases, now: Callable[[], datetime]) -> Handlers:
    """The handler of every operation that is built, by the operation's name."""
    snapshots = SnapshotHandlers(use_cases.snapshots, use_cases.restores, now)
    groups: tuple[Mapping[str, object], ...] = (
        NamespaceHandlers(use_cases.namespaces).table(),
        WorkgroupHandlers(use_cases.workgroups).table(),
        snapshots.table(),
        TableRestoreHandlers(use_cases.table_restores).table(),
        TagHandlers(use_cases.tags, use_cases.policies).table(),
        AccessHandlers(use_cases.credentials, use_cases.access_keys, use_cases.secrets).table(),
        KeyHandlers(use_cases.keys).table(),
        OperationHandlers(use_cases.inspection, snapshots).table(),
        RestoreProgressHandlers(use_cases.restore_progress).table(),
        OpenSnapshotHandlers(use_cases.open_snapshots).table(),
        ProofHandlers(use_cases.proofs, use_cases.inspection).table(),
    )
    return {name: handler for group in groups for name, handler in group.items()}  # type: ignore[misc]

"""From the wire's names to one call of a use case, and back: a module for each resource, a table for them all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from stillframe.aws.dispatch import Handlers
from stillframe.aws.handlers.access import AccessHandlers
from stillframe.aws.handlers.namespaces import NamespaceHandlers
from stillframe.aws.handlers.operations import OperationHandlers
from stillframe.aws.handlers.snapshots import SnapshotHandlers
from stillframe.aws.handlers.table_restores import TableRestoreHandlers
from stillframe.aws.handlers.tags import TagHandlers
from stillframe.aws.handlers.workgroups import WorkgroupHandlers
from stillframe.service.access_keys import AccessKeys
from stillframe.service.credentials import Credentials
from stillframe.service.inspection import Inspection
from stillframe.service.namespaces import Namespaces
from stillframe.service.policies import ResourcePolicies
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
    tags: Tags
    policies: ResourcePolicies
    credentials: Credentials
    access_keys: AccessKeys
    secrets: ManagedSecrets
    inspection: Inspection


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
        OperationHandlers(use_cases.inspection, snapshots).table(),
    )
    return {name: handler for group in groups for name, handler in group.items()}  # type: ignore[misc]

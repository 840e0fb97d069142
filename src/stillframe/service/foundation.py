"""What every use case stands on, and the sentences the API's users match on."""

from dataclasses import dataclass

from stillframe.catalog import Catalog, Transaction
from stillframe.config import Settings
from stillframe.domain.clock import Clock, IdSource
from stillframe.domain.identifiers import Scope
from stillframe.domain.namespace import Namespace, NamespaceStatus
from stillframe.domain.workgroup import Workgroup, WorkgroupStatus
from stillframe.errors import Conflict, InvalidRequest, NotFound
from stillframe.kms import KeyManagement


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """Shared by all use cases of one service process; holds no state of its own."""

    catalog: Catalog
    clock: Clock
    new_id: IdSource
    settings: Settings
    keys: KeyManagement


def take_quota_turn(transaction: Transaction, kind: str, scope: Scope) -> None:
    """From here to the end of the transaction nobody else adds a `kind` to this account and Region."""
    transaction.take_turn(f"{kind} of {scope.account} in {scope.region}")


def not_found(kind: str, name: str) -> NotFound:
    """The vendor's sentence for a missing resource; Terraform looks for the kind in lower case."""
    return NotFound(f"Serverless {kind} {name} not found.", resource_name=name)


def already_exists(kind: str, name: str) -> Conflict:
    """CloudFormation maps exactly `already exists` to its AlreadyExists."""
    return Conflict(f"Serverless {kind} {name} already exists.")


def busy(kind: str) -> Conflict:
    """Holds both phrases that clients wait on: CloudFormation the first, Terraform the second."""
    return Conflict(
        f"There is an operation in progress on the {kind}. "
        f"There is an operation running on the {kind}. Try again later.",
    )


def several_changes() -> InvalidRequest:
    """The vendor changes one configuration a request."""
    return InvalidRequest(
        "Can't update multiple configurations at the same time. Update one configuration per request."
    )


def nothing_to_change() -> InvalidRequest:
    """An update that names no change."""
    return InvalidRequest("No configuration to update was given.")


def require_available(namespace: Namespace) -> None:
    """Raise Conflict unless the namespace is free for an operation."""
    if namespace.status is not NamespaceStatus.AVAILABLE:
        raise busy("namespace")


def require_workgroup_available(workgroup: Workgroup) -> None:
    """Raise Conflict unless the workgroup is free for an operation."""
    if workgroup.status is not WorkgroupStatus.AVAILABLE:
        raise busy("workgroup")

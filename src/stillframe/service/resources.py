"""Finding whatever an ARN names, for the operations that work on any resource."""

from stillframe.catalog import Transaction
from stillframe.domain.identifiers import Arn, ResourceKind, Scope
from stillframe.domain.snapshot import SHOWN
from stillframe.errors import NotFound


def require_resource(transaction: Transaction, scope: Scope, text: str) -> None:
    """Raise NotFound unless the ARN names a resource of this scope, InvalidRequest unless it is an ARN."""
    arn = Arn.parse(text)
    if arn.scope != scope or not _exists(transaction, arn):
        raise NotFound(f"Serverless {arn.kind} {text} not found.", resource_name=text)


def _exists(transaction: Transaction, arn: Arn) -> bool:
    match arn.kind:
        case ResourceKind.NAMESPACE:
            count = transaction.namespaces.count(id=arn.id, account=arn.account, region=arn.region)
        case ResourceKind.WORKGROUP:
            count = transaction.workgroups.count(id=arn.id, account=arn.account, region=arn.region)
        case ResourceKind.SNAPSHOT:
            count = transaction.snapshots.count(
                id=arn.id, account=arn.account, region=arn.region, status=SHOWN
            )
        case ResourceKind.RECOVERY_POINT:
            count = 0
    return count > 0

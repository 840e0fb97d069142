"""Finding a namespace by name, for every use case that names one."""

from stillframe.catalog import Transaction
from stillframe.domain.identifiers import Scope
from stillframe.domain.namespace import Namespace
from stillframe.service.foundation import not_found


def find_namespace(transaction: Transaction, scope: Scope, name: str, *, lock: bool = False) -> Namespace:
    """The namespace of that name in this scope, with its row locked if asked. Raises NotFound."""
    namespace = transaction.namespaces.find(lock=lock, account=scope.account, region=scope.region, name=name)
    if namespace is None:
        raise not_found("namespace", name)
    return namespace

"""How far the files of a restored namespace have arrived, behind its running server."""

from stillframe.domain.access import Caller
from stillframe.hydration import HydrationStatus
from stillframe.service.arrivals import hydration_status
from stillframe.service.foundation import Foundation
from stillframe.service.namespace_lookup import find_namespace
from stillframe.service.servers import Servers


class RestoreProgress:
    """DescribeNamespace."""

    def __init__(self, foundation: Foundation, servers: Servers) -> None:
        self._base = foundation
        self._servers = servers

    def of(self, caller: Caller, namespace_name: str) -> HydrationStatus | None:
        """How far it is; None when everything is there. Raises NotFound."""
        with self._base.catalog.transaction() as transaction:
            namespace = find_namespace(transaction, caller.scope, namespace_name)
        if namespace.incarnation_id is None:
            return None
        return hydration_status(self._servers.current(namespace))

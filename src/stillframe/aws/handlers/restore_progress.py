"""DescribeNamespace: what the vendor's API does not show of a namespace."""

from collections.abc import Mapping
from typing import Any

from stillframe.aws.dispatch import Handler
from stillframe.domain.access import Caller
from stillframe.service.restore_progress import RestoreProgress


class RestoreProgressHandlers:
    """Our operation about restores on the wire."""

    def __init__(self, progress: RestoreProgress) -> None:
        self._progress = progress

    def table(self) -> Mapping[str, Handler]:
        """Handlers by operation."""
        return {"DescribeNamespace": self.describe}

    def describe(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """DescribeNamespace."""
        name = members["namespaceName"]
        status = self._progress.of(caller, name)
        if status is None:
            return {"namespaceName": name}
        arrival = {
            "totalBytes": status.total_bytes,
            "arrivedBytes": status.arrived_bytes,
            "fetchedBytes": status.fetched_bytes,
            "localBytes": status.local_bytes,
            "filesLeft": status.files_left,
            "onDemandReads": status.on_demand_reads,
            "onDemandBytes": status.on_demand_bytes,
            "stalled": status.stalled,
        }
        return {"namespaceName": name, "arrival": arrival}

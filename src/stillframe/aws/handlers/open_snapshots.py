"""Looking into snapshots: our OpenSnapshot, ListOpenSnapshots and CloseSnapshot."""

from collections.abc import Mapping
from typing import Any

from stillframe.aws.dispatch import Handler
from stillframe.aws.handlers.snapshots import selector_of
from stillframe.domain.access import Caller
from stillframe.domain.open_snapshot import OpenSnapshot
from stillframe.service.open_snapshots import ADDRESS, OpenSnapshots


class OpenSnapshotHandlers:
    """The operations on open snapshots, on the wire."""

    def __init__(self, open_snapshots: OpenSnapshots) -> None:
        self._open_snapshots = open_snapshots

    def table(self) -> Mapping[str, Handler]:
        """Handlers by operation."""
        return {"OpenSnapshot": self.open, "ListOpenSnapshots": self.list, "CloseSnapshot": self.close}

    def open(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """OpenSnapshot."""
        opened = self._open_snapshots.open(
            caller,
            selector_of(members),
            seconds=members.get("durationSeconds"),
            temporary=members.get("temporary") or False,
        )
        return {"openSnapshot": present_open(opened.copy), "password": opened.password.reveal()}

    def list(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """ListOpenSnapshots."""
        wanted_id, wanted_name = members.get("openSnapshotId"), members.get("snapshotName")
        return {
            "openSnapshots": [
                present_open(copy)
                for copy in self._open_snapshots.list(caller)
                if wanted_id in {None, str(copy.id)} and wanted_name in {None, copy.snapshot_name}
            ]
        }

    def close(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """CloseSnapshot."""
        closing = self._open_snapshots.close(
            caller, snapshot_name=members.get("snapshotName"), copy_id=members.get("openSnapshotId")
        )
        return {"openSnapshots": [present_open(copy) for copy in closing]}


def present_open(copy: OpenSnapshot) -> Mapping[str, Any]:
    """An open snapshot; its address once there is one."""
    return {
        "openSnapshotId": str(copy.id),
        "snapshotName": copy.snapshot_name,
        "namespaceName": copy.namespace_name,
        "status": copy.status.value,
        "temporary": copy.temporary,
        "address": ADDRESS if copy.port is not None else None,
        "port": copy.port,
        "username": copy.username,
        "createdAt": copy.created_at,
        "expiresAt": copy.expires_at,
        "message": copy.message,
    }

"""The snapshot operations and RestoreFromSnapshot, with our CancelSnapshot."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from stillframe.aws.dispatch import Handler
from stillframe.aws.handlers.namespaces import present_namespace
from stillframe.aws.handlers.values import megabytes, page_of, tags_of
from stillframe.domain.access import Caller
from stillframe.domain.snapshot import Snapshot, SnapshotStatus
from stillframe.service.policies import RestoreAccess
from stillframe.service.restores import RestoreRequest, Restores
from stillframe.service.snapshots import SnapshotFilter, Snapshots, SnapshotSelector


class SnapshotHandlers:
    """The snapshot operations on the wire."""

    def __init__(self, snapshots: Snapshots, restores: Restores, now: Callable[[], datetime]) -> None:
        self._snapshots = snapshots
        self._restores = restores
        self._now = now

    def table(self) -> Mapping[str, Handler]:
        """Handlers by operation."""
        return {
            "CreateSnapshot": self.create,
            "GetSnapshot": self.get,
            "ListSnapshots": self.list,
            "UpdateSnapshot": self.update,
            "DeleteSnapshot": self.delete,
            "CancelSnapshot": self.cancel,
            "RestoreFromSnapshot": self.restore,
        }

    def create(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """CreateSnapshot."""
        snapshot = self._snapshots.create(
            caller,
            members["namespaceName"],
            name=members["snapshotName"],
            retention_days=members.get("retentionPeriod"),
            tags=tags_of(members),
        )
        return {"snapshot": self.present(snapshot)}

    def get(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """GetSnapshot."""
        return {"snapshot": self._present(*self._snapshots.get(caller, selector_of(members)))}

    def list(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """ListSnapshots."""
        chosen = SnapshotFilter(
            namespace_name=members.get("namespaceName"),
            namespace_arn=members.get("namespaceArn"),
            owner=members.get("ownerAccount"),
            created_from=members.get("startTime"),
            created_to=members.get("endTime"),
        )
        page = self._snapshots.list(caller, chosen, **page_of(members))
        return {
            "snapshots": self._present_all(page.items),
            "nextToken": page.next_token,
        }

    def update(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """UpdateSnapshot."""
        snapshot = self._snapshots.update(
            caller, members["snapshotName"], retention_days=members.get("retentionPeriod")
        )
        return {"snapshot": self.present(snapshot)}

    def delete(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """DeleteSnapshot."""
        return {"snapshot": self.present(self._snapshots.delete(caller, members["snapshotName"]))}

    def cancel(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """CancelSnapshot."""
        return {"snapshot": self.present(self._snapshots.cancel(caller, members["snapshotName"]))}

    def restore(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """RestoreFromSnapshot."""
        accepted = self._restores.from_snapshot(
            caller,
            RestoreRequest(
                namespace_name=members["namespaceName"],
                workgroup_name=members["workgroupName"],
                snapshot=selector_of(members),
                manage_admin_password=members.get("manageAdminPassword") or False,
                secret_kms_key_id=members.get("adminPasswordSecretKmsKeyId"),
            ),
        )
        return {
            "namespace": present_namespace(accepted.namespace),
            "ownerAccount": accepted.snapshot.account,
            "snapshotName": accepted.snapshot.name,
        }

    def present(self, snapshot: Snapshot) -> Mapping[str, Any]:
        """The API's Snapshot."""
        return self._present_all([snapshot])[0]

    def _present_all(self, snapshots: Sequence[Snapshot]) -> Sequence[Mapping[str, Any]]:
        access = self._snapshots.restore_access(snapshots)
        return [self._present(*pair) for pair in zip(snapshots, access, strict=True)]

    def _present(self, snapshot: Snapshot, access: RestoreAccess) -> Mapping[str, Any]:
        """What is not known yet while a snapshot is CREATING is left out, never made up."""
        return {
            "snapshotArn": snapshot.arn,
            "snapshotName": snapshot.name,
            "status": snapshot.status.value,
            "namespaceArn": snapshot.namespace_arn,
            "namespaceName": snapshot.namespace_name,
            "ownerAccount": snapshot.account,
            "snapshotCreateTime": snapshot.created_at,
            "adminUsername": snapshot.admin_username,
            "adminPasswordSecretArn": snapshot.admin_secret_arn,
            "adminPasswordSecretKmsKeyId": snapshot.admin_secret_kms_key_id,
            "kmsKeyId": snapshot.kms_key_id,
            "snapshotRetentionPeriod": snapshot.retention_days,
            "snapshotRetentionStartTime": snapshot.retention_started_at,
            "snapshotRemainingDays": snapshot.remaining_days(self._now()),
            "accountsWithRestoreAccess": list(access.serverless),
            "accountsWithProvisionedRestoreAccess": list(access.provisioned),
            **_progress(snapshot),
        }


def selector_of(members: Mapping[str, Any]) -> SnapshotSelector:
    """How a request names a snapshot."""
    return SnapshotSelector(
        name=members.get("snapshotName"), arn=members.get("snapshotArn"), owner=members.get("ownerAccount")
    )


def _progress(snapshot: Snapshot) -> Mapping[str, Any]:
    """Sizes and times: those of the running copy, or, once it is complete, those that were measured."""
    if snapshot.status is SnapshotStatus.CREATING and snapshot.total_bytes is None:
        return {}
    running = snapshot.status in {SnapshotStatus.CREATING, SnapshotStatus.COPYING}
    complete = snapshot.status in {SnapshotStatus.AVAILABLE, SnapshotStatus.DELETED}
    remaining = 0 if complete else snapshot.progress.remaining_seconds
    return {
        "backupProgressInMegaBytes": megabytes(snapshot.done_bytes),
        "currentBackupRateInMegaBytesPerSecond": megabytes(snapshot.bytes_per_second) if running else 0.0,
        "elapsedTimeInSeconds": round(snapshot.elapsed_seconds),
        "estimatedSecondsToCompletion": None if remaining is None else round(remaining),
        "actualIncrementalBackupSizeInMegaBytes": megabytes(snapshot.stored_bytes),
        "totalBackupSizeInMegaBytes": megabytes(snapshot.logical_bytes or snapshot.total_bytes),
    }

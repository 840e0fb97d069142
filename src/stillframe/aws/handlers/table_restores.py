"""RestoreTableFromSnapshot, GetTableRestoreStatus, ListTableRestoreStatus."""

from collections.abc import Mapping
from typing import Any

from stillframe.aws.dispatch import Handler
from stillframe.aws.handlers.values import page_of
from stillframe.domain.access import Caller
from stillframe.domain.table_restore import TableRestore
from stillframe.service.table_restores import TableRequest, TableRestores

_MEGABYTE = 1048576


class TableRestoreHandlers:
    """The table restore operations on the wire."""

    def __init__(self, table_restores: TableRestores) -> None:
        self._table_restores = table_restores

    def table(self) -> Mapping[str, Handler]:
        """Handlers by operation."""
        return {
            "RestoreTableFromSnapshot": self.restore,
            "GetTableRestoreStatus": self.get,
            "ListTableRestoreStatus": self.list,
        }

    def restore(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """RestoreTableFromSnapshot."""
        request = TableRequest(
            namespace_name=members["namespaceName"],
            workgroup_name=members["workgroupName"],
            snapshot_name=members["snapshotName"],
            source_database=members["sourceDatabaseName"],
            source_schema=members.get("sourceSchemaName"),
            source_table=members["sourceTableName"],
            target_database=members.get("targetDatabaseName"),
            target_schema=members.get("targetSchemaName"),
            new_table=members["newTableName"],
            case_sensitive=members.get("activateCaseSensitiveIdentifier") or False,
        )
        return {"tableRestoreStatus": _present(self._table_restores.from_snapshot(caller, request))}

    def get(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """GetTableRestoreStatus."""
        found = self._table_restores.get(caller, members["tableRestoreRequestId"])
        return {"tableRestoreStatus": _present(found)}

    def list(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """ListTableRestoreStatus."""
        page = self._table_restores.list(
            caller,
            namespace_name=members.get("namespaceName"),
            workgroup_name=members.get("workgroupName"),
            **page_of(members),
        )
        return {
            "tableRestoreStatuses": [_present(restore) for restore in page.items],
            "nextToken": page.next_token,
        }


def _present(restore: TableRestore) -> Mapping[str, Any]:
    return {
        "tableRestoreRequestId": str(restore.id),
        "status": restore.status.value,
        "message": restore.message,
        "requestTime": restore.created_at,
        "namespaceName": restore.namespace_name,
        "workgroupName": restore.workgroup_name,
        "snapshotName": restore.snapshot_name,
        "sourceDatabaseName": restore.source_database,
        "sourceSchemaName": restore.source_schema,
        "sourceTableName": restore.source_table,
        "targetDatabaseName": restore.target_database,
        "targetSchemaName": restore.target_schema,
        "newTableName": restore.new_table,
        "progressInMegaBytes": _whole_megabytes(restore.done_bytes),
        "totalDataInMegaBytes": _whole_megabytes(restore.total_bytes),
    }


def _whole_megabytes(size: int | None) -> int | None:
    """Bytes as whole megabytes (2**20 bytes), begun ones counted, as the model wants whole numbers."""
    return None if size is None else -(-size // _MEGABYTE)

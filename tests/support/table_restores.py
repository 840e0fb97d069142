"""Asking for one table and waiting for it."""

from typing import Any

from support.service import Warehouse, wait_for

ENDED = {"SUCCEEDED", "FAILED", "CANCELED"}


def ask_for_table(
    warehouse: Warehouse, table: str, new_table: str, *, snapshot: str = "good", **options: Any
) -> dict[str, Any]:
    """RestoreTableFromSnapshot's answer."""
    asked: dict[str, Any] = warehouse.client.restore_table_from_snapshot(
        **{
            "namespaceName": warehouse.namespace,
            "workgroupName": warehouse.workgroup,
            "snapshotName": snapshot,
            "sourceDatabaseName": "dev",
            "sourceTableName": table,
            "newTableName": new_table,
        }
        | options
    )["tableRestoreStatus"]
    return asked


def ended_table_restore(client: Any, request_id: str) -> dict[str, Any]:
    """The request's status, once it has ended."""
    ended: dict[str, Any] = wait_for(
        lambda: client.get_table_restore_status(tableRestoreRequestId=request_id)["tableRestoreStatus"],
        lambda status: status["status"] in ENDED,
    )
    return ended


def bring_table(warehouse: Warehouse, table: str, new_table: str, **options: Any) -> dict[str, Any]:
    """Ask for a table, wait, and check that it came."""
    asked = ask_for_table(warehouse, table, new_table, **options)
    ended = ended_table_restore(warehouse.client, asked["tableRestoreRequestId"])
    assert ended["status"] == "SUCCEEDED", ended
    return ended


def refused_table(warehouse: Warehouse, table: str, new_table: str, **options: Any) -> str:
    """Ask for a table, wait, check that the request failed; its message."""
    asked = ask_for_table(warehouse, table, new_table, **options)
    ended = ended_table_restore(warehouse.client, asked["tableRestoreRequestId"])
    assert ended["status"] == "FAILED", ended
    assert leftovers(warehouse) == []
    return str(ended["message"])


def leftovers(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    """Roles of table restores that should be gone."""
    return warehouse.query("SELECT rolname FROM pg_roles WHERE starts_with(rolname, 'stillframe_table_')")

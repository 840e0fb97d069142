"""`stillframe namespace`: what there is, for people."""

from typing import Any

from cyclopts import App
from rich.console import RenderableType

from stillframe.cli.connection import Connection, connect
from stillframe.cli.options import DEFAULTS, Common
from stillframe.cli.output import facts, human_bytes, human_time, table
from stillframe.cli.workgroup import endpoint_text

app = App(name="namespace", help="Look at namespaces.")


@app.command(name="list")
def list_(*, common: Common = DEFAULTS) -> None:
    """List the namespaces of the Region."""
    namespaces = list(connect(common.data).every("list_namespaces", "namespaces"))
    common.terminal.result({"namespaces": namespaces}, lambda: _many(namespaces))


@app.command
def show(name: str, /, *, common: Common = DEFAULTS) -> None:
    """Show a namespace, the workgroup that serves it and what is going on in it."""
    connection = connect(common.data)
    document = describe(connection, name)
    common.terminal.result(document, lambda: _one(document))


def describe(connection: Connection, name: str) -> dict[str, Any]:
    """The namespace, its workgroup (or None), its operations that have not ended, the last one that failed, the last
    restore that succeeded, and how far its files have arrived (or None).
    """
    namespace = connection.call("get_namespace", namespaceName=name)["namespace"]
    workgroups = connection.every("list_workgroups", "workgroups")
    operations = list(connection.every_extension("list_operations", "operations", namespaceName=name))
    return {
        "namespace": namespace,
        "workgroup": next((group for group in workgroups if group.get("namespaceName") == name), None),
        "operations": [operation for operation in operations if operation["status"] in {"queued", "running"}],
        "arrival": connection.extend("describe_namespace", namespaceName=name).get("arrival"),
        "lastFailure": next((item for item in reversed(operations) if item["status"] == "failed"), None),
        "lastRestore": next((item for item in reversed(operations) if _is_done_restore(item)), None),
    }


def _many(namespaces: list[dict[str, Any]]) -> RenderableType:
    rows = [
        (item["namespaceName"], item["status"], item.get("dbName", "-"), human_time(item.get("creationDate")))
        for item in namespaces
    ]
    return table(("Namespace", "Status", "First database", "Created"), rows)


def _one(document: dict[str, Any]) -> RenderableType:
    namespace, workgroup = document["namespace"], document["workgroup"]
    busy = [f"{operation['kind']} ({operation.get('phase', '-')})" for operation in document["operations"]]
    return facts(
        {
            "Namespace": namespace["namespaceName"],
            "Status": namespace["status"],
            "First database": namespace.get("dbName"),
            "Admin user": namespace.get("adminUsername"),
            "Admin password": namespace.get("adminPasswordSecretArn"),
            "Key": namespace.get("kmsKeyId"),
            "ARN": namespace.get("namespaceArn"),
            "Created": human_time(namespace.get("creationDate")),
            "Workgroup": None
            if workgroup is None
            else f"{workgroup['workgroupName']} ({workgroup['status']})",
            "Endpoint": None if workgroup is None else endpoint_text(workgroup),
            "Going on": ", ".join(busy) or None,
            "Restored": _restore(document["lastRestore"]),
            "Restored files": _arrival(document["arrival"]),
            "Last failure": _failure(document["lastFailure"]),
        }
    )


def _is_done_restore(operation: dict[str, Any]) -> bool:
    return operation["status"] == "succeeded" and operation.get("restored") is not None


def _restore(operation: dict[str, Any] | None) -> str | None:
    if operation is None:
        return None
    restored = operation["restored"]
    local = f"; {human_bytes(restored['localBytes'])} from local files" if restored.get("localBytes") else ""
    return (
        f"{human_time(operation.get('finishedAt'))}, by {restored['strategy']}{local}. {restored['reason']}"
    )


def _arrival(arrival: dict[str, Any] | None) -> str | None:
    if arrival is None:
        return None
    share = arrival["arrivedBytes"] / max(arrival["totalBytes"], 1)
    stalled = f"; waiting: {arrival['stalled']}" if arrival.get("stalled") else ""
    there, total = human_bytes(arrival["arrivedBytes"]), human_bytes(arrival["totalBytes"])
    local = arrival.get("localBytes", 0)
    found = f"; {human_bytes(local)} taken from local files" if local else ""
    return f"arriving, {there} of {total} ({share:.0%}){found}{stalled}"


def _failure(operation: dict[str, Any] | None) -> str | None:
    if operation is None:
        return None
    reason = " ".join(filter(None, [operation.get("failure"), operation.get("hint")]))
    return f"{operation['kind']} at {human_time(operation.get('finishedAt'))}: {reason}"

"""`stillframe workgroup`: where clients connect, for people."""

from typing import Any

from cyclopts import App
from rich.console import RenderableType

from stillframe.cli.connection import connect
from stillframe.cli.options import DEFAULTS, Common
from stillframe.cli.output import table

app = App(name="workgroup", help="Look at workgroups.")


@app.command(name="list")
def list_(*, common: Common = DEFAULTS) -> None:
    """List the workgroups of the Region and the addresses of their databases."""
    workgroups = list(connect(common.data).every("list_workgroups", "workgroups"))
    common.terminal.result({"workgroups": workgroups}, lambda: _many(workgroups))


def endpoint_text(workgroup: dict[str, Any]) -> str:
    """`address:port` of a workgroup; a dash while it has none."""
    endpoint = workgroup.get("endpoint") or {}
    return f"{endpoint['address']}:{endpoint['port']}" if "port" in endpoint else "-"


def _many(workgroups: list[dict[str, Any]]) -> RenderableType:
    rows = [
        (
            item["workgroupName"],
            item["status"],
            item.get("namespaceName", "-"),
            endpoint_text(item),
            str(item.get("baseCapacity", "-")),
        )
        for item in workgroups
    ]
    return table(("Workgroup", "Status", "Namespace", "Endpoint", "Capacity"), rows, right=("Capacity",))

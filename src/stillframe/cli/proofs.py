"""`stillframe snapshot prove`, and what is shown about the health of snapshots."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Group, RenderableType
from rich.text import Text

from stillframe.cli.connection import Connection, connect
from stillframe.cli.options import DEFAULTS, Common
from stillframe.cli.output import alarming, human_bytes, human_seconds, human_time, table
from stillframe.cli.watching import describe_snapshot, wait_for_operation
from stillframe.errors import NotBuilt

PASSED = "passed"
_MOST_SHOWN = 20


def register(app: App) -> None:
    """Add the command to those of snapshots."""
    app.command(prove)


def prove(
    name: str,
    /,
    *,
    wait: Annotated[bool, Parameter(help="Show the proof until it ends, or return at once.")] = True,
    common: Common = DEFAULTS,
) -> int:
    """Prove that a snapshot restores: start it privately and check every relation in it. Status 1 if it fails."""
    connection, terminal = connect(common.data), common.terminal
    operation = connection.extend("prove_snapshot", snapshotName=name)["operation"]
    if not wait:
        terminal.result({"operation": operation}, lambda: f"The snapshot {name} is being proven.")
        return 0
    wait_for_operation(
        connection,
        namespace=None,
        request_id=operation["requestId"],
        title=f"Proof of {name}",
        terminal=terminal,
    )
    proof = describe_snapshot(connection, name).detail["proof"]
    terminal.result({"proof": proof}, lambda: one(name, proof))
    return 0 if proof["result"] == PASSED else 1


def one(name: str, proof: Mapping[str, Any]) -> RenderableType:
    """A proof: the verdict, what is wrong, and what was checked."""
    passed, took = proof["result"] == PASSED, human_seconds(proof.get("durationSeconds"))
    verdict = f"The snapshot {name} {'is proven' if passed else 'FAILED its proof'}, in {took}."
    parts: list[RenderableType] = [verdict if passed else alarming(verdict), *_sentences(proof)]
    databases = proof.get("databases") or []
    if databases:
        parts += ["", _databases(databases)]
    return Group(*parts)


def summary(proof: Mapping[str, Any] | None) -> str | Text | None:
    """A proof in one cell, with its first findings; None when there is none."""
    if proof is None:
        return None
    when = human_time(proof.get("provedAt"))
    text = "\n".join([f"{str(proof['result']).upper()} at {when}", *_sentences(proof)])
    return text if proof["result"] == PASSED else alarming(text)


def conditions(connection: Connection, namespace: str | None) -> dict[str, dict[str, Any]]:
    """What is known about the health of the account's snapshots, by ARN; nothing from a service that cannot tell."""
    found = connection.every_extension(
        "list_snapshot_conditions", "conditions", namespaceName=namespace, maxResults=100
    )
    try:
        return {condition["snapshotArn"]: condition for condition in found}
    except NotBuilt:
        return {}


def health(condition: Mapping[str, Any] | None) -> str | Text:
    """A condition in one word or three, for a table; red when it is a bad one."""
    if condition is None:
        return "-"
    words = [
        "DAMAGED" if condition.get("damaged") else None,
        {"passed": "proven", "failed": "PROOF FAILED"}.get(condition.get("proof", "")),
        "kept as last clean" if condition.get("protected") else None,
    ]
    text = ", ".join(word for word in words if word) or "-"
    return alarming(text) if condition.get("damaged") else text


def _sentences(proof: Mapping[str, Any]) -> Iterator[str]:
    findings = proof.get("findings") or []
    yield from (f"  {sentence}" for sentence in findings[:_MOST_SHOWN])
    if len(findings) > _MOST_SHOWN:
        yield f"  … and {len(findings) - _MOST_SHOWN} more: --output json has them."
    yield from (f"  (remark) {sentence}" for sentence in proof.get("remarks") or [])


def _databases(databases: list[Mapping[str, Any]]) -> RenderableType:
    rows = [
        (
            item["name"],
            str(item.get("tables", "-")),
            str(item.get("indexes", "-")),
            str(item.get("rows", "-")),
            human_bytes(item.get("bytes")),
        )
        for item in databases
    ]
    columns = ("Database", "Tables", "Indexes", "Rows", "Checked")
    return table(columns, rows, right=columns[1:])

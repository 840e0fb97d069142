"""`stillframe snapshot`: take, watch, list, look into, prove, restore and delete snapshots."""

import sys
from typing import Annotated, Any

from cyclopts import App, Parameter

from stillframe.cli import open_snapshots, proofs
from stillframe.cli import snapshot_views as views
from stillframe.cli.connection import connect
from stillframe.cli.options import DEFAULTS, Common
from stillframe.cli.watching import describe_snapshot, wait_for_operation, wait_for_snapshot
from stillframe.errors import InvalidRequest

app = App(name="snapshot", help="Take, watch, look into, prove, restore and delete snapshots.")

_INTERRUPTED = 130

open_snapshots.register(app)
proofs.register(app)


@app.command
def create(
    name: str,
    /,
    *,
    namespace: Annotated[str, Parameter(help="The namespace whose databases are captured, all of them.")],
    retention_days: Annotated[
        int | None, Parameter(help="1-3653, or -1 to keep it until it is deleted.")
    ] = None,
    tag: Annotated[
        tuple[str, ...], Parameter(negative="", help="A tag `key=value`; may be given several times.")
    ] = (),
    wait: Annotated[bool, Parameter(help="Show the capture until it ends, or return at once.")] = True,
    common: Common = DEFAULTS,
) -> int:
    """Take a snapshot of all databases of a namespace, while they are in use."""
    connection, terminal = connect(common.data), common.terminal
    connection.call(
        "create_snapshot",
        snapshotName=name,
        namespaceName=namespace,
        retentionPeriod=retention_days,
        tags=parse_tags(tag) or None,
    )
    try:
        state = (
            wait_for_snapshot(connection, name, terminal=terminal)
            if wait
            else describe_snapshot(connection, name)
        )
    except KeyboardInterrupt:
        terminal.remark(
            f"The capture goes on. See it with `stillframe snapshot show {name}`, "
            f"end it with `stillframe snapshot cancel {name}`."
        )
        return _INTERRUPTED
    terminal.result(views.document(state), lambda: views.created(state))
    return 0


@app.command(name="list")
def list_(
    *,
    namespace: Annotated[str | None, Parameter(help="Only snapshots of this namespace.")] = None,
    common: Common = DEFAULTS,
) -> None:
    """List the snapshots of the Region, newest first."""
    connection = connect(common.data)
    found = connection.every("list_snapshots", "snapshots", namespaceName=namespace, maxResults=100)
    snapshots = sorted(found, key=lambda snapshot: snapshot["snapshotCreateTime"], reverse=True)
    conditions = proofs.conditions(connection, namespace)
    document = {"snapshots": snapshots, "conditions": list(conditions.values())}
    common.terminal.result(document, lambda: views.many(snapshots, conditions))


@app.command
def show(name: str, /, *, common: Common = DEFAULTS) -> None:
    """Show all that is known about a snapshot: progress, sizes, databases, damage."""
    state = describe_snapshot(connect(common.data), name)
    common.terminal.result(views.document(state), lambda: views.one(state))


@app.command
def cancel(name: str, /, *, common: Common = DEFAULTS) -> None:
    """Stop a capture that is running; nothing of it is kept."""
    snapshot = connect(common.data).extend("cancel_snapshot", snapshotName=name)["snapshot"]
    common.terminal.result({"snapshot": snapshot}, lambda: f"The capture of {name} is being stopped.")


@app.command
def delete(name: str, /, *, common: Common = DEFAULTS) -> None:
    """Delete a snapshot for good. Other snapshots do not depend on it."""
    snapshot = connect(common.data).call("delete_snapshot", snapshotName=name)["snapshot"]
    common.terminal.result({"snapshot": snapshot}, lambda: f"The snapshot {name} is deleted.")


@app.command
def restore(
    name: str,
    /,
    *,
    namespace: Annotated[str, Parameter(help="The namespace whose databases are replaced.")],
    workgroup: Annotated[str, Parameter(help="Its workgroup.")],
    yes: Annotated[bool, Parameter(negative="", help="Do not ask.")] = False,
    common: Common = DEFAULTS,
) -> int:
    """Replace ALL databases of a namespace by those of a snapshot."""
    connection, terminal = connect(common.data), common.terminal
    if not (yes or _may_replace(name, namespace)):
        terminal.remark("Nothing was changed.")
        return 1
    answer = connection.call(
        "restore_from_snapshot", snapshotName=name, namespaceName=namespace, workgroupName=workgroup
    )
    try:
        state = wait_for_operation(
            connection,
            namespace=namespace,
            request_id=answer["ResponseMetadata"]["RequestId"],
            title=f"Restore of {name} into {namespace}",
            terminal=terminal,
        )
    except KeyboardInterrupt:
        terminal.remark(f"The restore goes on. See it with `stillframe namespace show {namespace}`.")
        return _INTERRUPTED
    terminal.result({"operation": state.operation}, lambda: views.restored(name, namespace, state))
    return 0


def parse_tags(texts: tuple[str, ...]) -> list[dict[str, Any]]:
    """`key=value` texts as the API's tags; InvalidRequest for a text without a key or an equals sign."""
    tags = []
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise InvalidRequest(f"{text!r} is not a tag.", hint="Write it as --tag key=value.")
        tags.append({"key": key, "value": value})
    return tags


def _may_replace(snapshot: str, namespace: str) -> bool:
    """Ask on a terminal; InvalidRequest where nobody can be asked."""
    warning = f"This replaces ALL databases of the namespace {namespace} by those of the snapshot {snapshot}."
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidRequest(warning, hint="Nobody can be asked here: say --yes if that is what you want.")
    sys.stderr.write(f"{warning}\nGo on? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}

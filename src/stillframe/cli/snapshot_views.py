"""What `stillframe snapshot` prints about snapshots."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from stillframe.cli.output import alarming, facts, human_bytes, human_rate, human_seconds, human_time, table
from stillframe.cli.proofs import health, summary
from stillframe.cli.watching import OperationState, SnapshotState

_MEGABYTE = 1024 * 1024
PROTECTED = "does not expire: the newest snapshot of the namespace is damaged, and this one may be needed"


def document(state: SnapshotState) -> dict[str, Any]:
    """The JSON form: the API's members under `snapshot`, ours under `detail`."""
    return {"snapshot": state.snapshot, "detail": state.detail}


def created(state: SnapshotState) -> str:
    """One sentence about a capture that has ended, or was just begun."""
    name, detail = state.snapshot["snapshotName"], state.detail
    if not state.has_ended:
        return f"The snapshot {name} is being taken."
    took = human_seconds(detail.get("elapsedSeconds"))
    return (
        f"The snapshot {name} is available: {human_bytes(detail.get('logicalBytes'))} of databases, "
        f"{human_bytes(detail.get('storedBytes'))} newly stored, in {took}."
    )


def restored(name: str, namespace: str, state: OperationState) -> str:
    """One sentence about a restore that has ended well."""
    begin, end = state.operation.get("startedAt"), state.operation.get("finishedAt")
    took = f" in {human_seconds((end - begin).total_seconds())}" if begin and end else ""
    return f"The namespace {namespace} is back at the snapshot {name}{took}."


def many(
    snapshots: Sequence[Mapping[str, Any]], conditions: Mapping[str, Mapping[str, Any]]
) -> RenderableType:
    """A table, one snapshot a line; `conditions` by ARN."""
    rows = [
        (
            item["snapshotName"],
            item["status"],
            item.get("namespaceName", "-"),
            human_time(item.get("snapshotCreateTime")),
            _size(item.get("totalBackupSizeInMegaBytes")),
            _size(item.get("actualIncrementalBackupSizeInMegaBytes")),
            _retention(item),
            health(conditions.get(item.get("snapshotArn", ""))),
        )
        for item in snapshots
    ]
    columns = ("Snapshot", "Status", "Namespace", "Taken", "Refers to", "Stored", "Kept", "Health")
    return table(columns, rows, right=("Refers to", "Stored"))


def one(state: SnapshotState) -> RenderableType:
    """All facts, and the databases in it."""
    parts: list[RenderableType] = [facts(_identity(state.snapshot) | _capture(state))]
    databases = state.detail.get("databases") or []
    if databases:
        rows = [(database["name"], human_bytes(database.get("sizeBytes"))) for database in databases]
        parts += ["", table(("Database", "Size"), rows, right=("Size",))]
    return Group(*parts)


def _identity(snapshot: Mapping[str, Any]) -> dict[str, str | Text | None]:
    return {
        "Snapshot": snapshot["snapshotName"],
        "Status": snapshot["status"],
        "Namespace": snapshot.get("namespaceName"),
        "ARN": snapshot.get("snapshotArn"),
        "Taken": human_time(snapshot.get("snapshotCreateTime")),
        "Kept": _retention(snapshot),
        "Admin user": snapshot.get("adminUsername"),
        "Key": snapshot.get("kmsKeyId"),
    }


def _capture(state: SnapshotState) -> dict[str, str | Text | None]:
    detail, is_running = state.detail, not state.has_ended
    return {
        "Progress": state.report.sentence if is_running else None,
        "Databases hold": _known(human_bytes, detail.get("logicalBytes")),
        "Newly stored": _known(human_bytes, detail.get("storedBytes")),
        "Took": None if is_running else _known(human_seconds, detail.get("elapsedSeconds")),
        "Rate": None if is_running else _known(human_rate, detail.get("bytesPerSecond") or None),
        "How": detail.get("mode"),
        "WAL": _wal(detail),
        "Server": _known(str, detail.get("serverVersion")),
        "Damage": alarming(detail["damage"]) if detail.get("damage") else None,
        "Protected": PROTECTED if detail.get("protected") else None,
        "Proof": summary(detail.get("proof")),
        "Open at": _opened(detail),
        "Failure": detail.get("failure"),
    }


def _opened(detail: Mapping[str, Any]) -> str | None:
    copies = [copy for copy in detail.get("openSnapshots") or [] if copy["status"] == "OPEN"]
    lines = [f"{copy['address']}:{copy['port']} until {human_time(copy['expiresAt'])}" for copy in copies]
    return "\n".join(lines) or None


def _wal(detail: Mapping[str, Any]) -> str | None:
    if not detail.get("startLsn"):
        return None
    return f"{detail['startLsn']} to {detail.get('stopLsn') or '?'}, timeline {detail.get('timeline', '?')}"


def _known(show: Any, value: Any) -> str | None:
    return None if value is None else str(show(value))


def _size(megabytes: float | None) -> str:
    return "-" if megabytes is None else human_bytes(megabytes * _MEGABYTE)


def _retention(snapshot: Mapping[str, Any]) -> str:
    period, remaining = snapshot.get("snapshotRetentionPeriod", -1), snapshot.get("snapshotRemainingDays")
    if period == -1:
        return "until deleted"
    return f"{period} days" if remaining is None else f"{period} days, {remaining} left"

"""The last page: what was measured."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from stillframe.cli.demo.fingerprint import Difference
from stillframe.cli.demo.stage import CaptureFacts, Facts
from stillframe.cli.output import human_bytes, human_rate, human_seconds, table


def to_document(facts: Facts) -> dict[str, Any]:
    """The JSON form: seconds and bytes."""
    return {
        "verified": facts.is_verified,
        "databases": facts.databases,
        "relations": facts.relations,
        "rows": facts.rows,
        "startSeconds": facts.start_seconds,
        "workgroupSeconds": facts.workgroup_seconds,
        "loadSeconds": facts.load_seconds,
        "firstSnapshot": _capture_document(facts.first_snapshot),
        "restoreSeconds": facts.restore_seconds,
        "secondSnapshot": _capture_document(facts.second_snapshot),
        "tableRestoreSeconds": facts.table_seconds,
        "tableRows": facts.table_rows,
        "lookInsideSeconds": facts.look_seconds,
        "proofSeconds": facts.proof_seconds,
        "totalSeconds": facts.total_seconds,
        "damage": [_difference_document(item) for item in facts.damage],
        "differences": [_difference_document(item) for item in facts.differences],
    }


def render(facts: Facts) -> RenderableType:
    """The table of results and the verdict."""
    rows = [
        ("Service ready", human_seconds(facts.start_seconds), ""),
        ("Namespace and workgroup", human_seconds(facts.workgroup_seconds), "a PostgreSQL server of its own"),
        ("Load", human_seconds(facts.load_seconds), f"{facts.rows:,} rows in {facts.databases} databases"),
        ("Snapshot of everything", *_capture_cells(facts.first_snapshot)),
        (
            "Restore to first query",
            human_seconds(facts.restore_seconds),
            f"{len(facts.damage)} damaged objects",
        ),
        ("Snapshot after one row", *_capture_cells(facts.second_snapshot)),
        ("One table back", human_seconds(facts.table_seconds), f"{facts.table_rows:,} rows"),
        ("Look inside", human_seconds(facts.look_seconds), "opened, asked, closed"),
        ("Proof", human_seconds(facts.proof_seconds), "every relation checked"),
        ("All of it", human_seconds(facts.total_seconds), ""),
    ]
    return Group("", table(("Step", "Time", ""), rows, right=("Time",)), "", _verdict(facts))


def _verdict(facts: Facts) -> Text:
    if facts.is_verified:
        return Text("Verified: everything that was there is there again.", style="green bold")
    lost = "\n".join(f"  {item.name}: {item.sentence}" for item in facts.differences)
    return Text(f"NOT verified. After the restore these differ:\n{lost}", style="red bold")


def _capture_cells(capture: CaptureFacts | None) -> tuple[str, str]:
    if capture is None:
        return "-", "was not taken"
    rate = f" ({human_rate(capture.read_bytes / capture.seconds)})" if capture.seconds else ""
    stored, read = human_bytes(capture.stored_bytes), human_bytes(capture.read_bytes)
    return human_seconds(capture.total_seconds), f"{read} read{rate}, {stored} stored"


def _capture_document(capture: CaptureFacts | None) -> dict[str, Any] | None:
    if capture is None:
        return None
    return {
        "captureSeconds": capture.seconds,
        "totalSeconds": capture.total_seconds,
        "readBytes": capture.read_bytes,
        "logicalBytes": capture.logical_bytes,
        "storedBytes": capture.stored_bytes,
    }


def _difference_document(difference: Difference) -> dict[str, Any]:
    return {
        "name": difference.name,
        "rowsBefore": difference.before.rows if difference.before else None,
        "rowsAfter": difference.after.rows if difference.after else None,
        "what": difference.sentence,
    }

"""Following captures and restores of a service until they end."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stillframe.cli.connection import Connection
from stillframe.cli.output import Terminal
from stillframe.cli.progress import Report, progress, watch
from stillframe.errors import Cancelled, DataError, NotFound, OperatorError, StillframeError

_ENDED = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotState:
    """A snapshot in one moment: the API's members and what our extension adds."""

    snapshot: Mapping[str, Any]
    detail: Mapping[str, Any]

    @property
    def report(self) -> Report:
        """How far the capture is."""
        return Report(
            phase=self.detail.get("phase") or self.snapshot["status"].lower(),
            done_bytes=self.detail.get("doneBytes") or 0,
            total_bytes=self.detail.get("totalBytes"),
            bytes_per_second=self.detail.get("bytesPerSecond"),
            remaining_seconds=self.detail.get("remainingSeconds"),
        )

    @property
    def has_ended(self) -> bool:
        """Whether the capture is over, in whatever way."""
        return bool(self.snapshot["status"] != "CREATING")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationState:
    """An operation in one moment, and for how many of the seconds we watch it its bytes were moving."""

    operation: Mapping[str, Any]
    moving_seconds: float = 0.0

    @property
    def report(self) -> Report:
        """How far the operation is; the rate is the mean for as long as bytes were moving."""
        done, total = self.operation.get("doneBytes") or 0, self.operation.get("totalBytes")
        if self.has_ended:
            return Report(phase="done", done_bytes=total or done, total_bytes=total)
        rate = done / self.moving_seconds if self.moving_seconds > 0 and done else None
        return Report(
            phase=self.operation.get("phase") or self.operation["status"],
            done_bytes=done,
            total_bytes=total,
            bytes_per_second=rate,
            remaining_seconds=max(0.0, (total - done) / rate) if rate and total else None,
        )

    @property
    def has_ended(self) -> bool:
        """Whether the operation will not change any more."""
        return self.operation["status"] in _ENDED


@dataclass(slots=True, kw_only=True)
class OperationWatch:
    """Looks at the operation that one request began."""

    connection: Connection
    namespace: str | None
    request_id: str
    now: Callable[[], float] = time.monotonic
    _page: str | None = None
    _began: float | None = None
    _moved_at: float = 0.0
    _done: int = 0

    def look(self) -> OperationState:
        """The operation as it is now; NotFound when the service does not know it."""
        while True:
            page = self._read_page()
            for operation in page["operations"]:
                if operation.get("requestId") == self.request_id:
                    return OperationState(operation=operation, moving_seconds=self._measure(operation))
            self._page = page.get("nextToken")  # operations only get more, so the next look begins there
            if self._page is None:
                raise NotFound(
                    f"The service does not list the operation that request {self.request_id} began.",
                    resource_name=self.request_id,
                )

    def _measure(self, operation: Mapping[str, Any]) -> float:
        now, done = self.now(), operation.get("doneBytes") or 0
        if self._began is None:
            self._began = self._moved_at = now
        if done > self._done:
            self._done, self._moved_at = done, now
        return self._moved_at - self._began

    def _read_page(self) -> Mapping[str, Any]:
        return self.connection.extend(
            "list_operations", namespaceName=self.namespace, maxResults=100, nextToken=self._page
        )


def describe_snapshot(connection: Connection, name: str) -> SnapshotState:
    """A snapshot as it is now."""
    answer = connection.extend("describe_snapshot", snapshotName=name)
    return SnapshotState(snapshot=answer["snapshot"], detail=answer.get("detail", {}))


def wait_for_snapshot(connection: Connection, name: str, *, terminal: Terminal) -> SnapshotState:
    """Show the capture until it ends; raise Cancelled or OperatorError when it did not become AVAILABLE."""
    with progress(terminal, f"Snapshot {name}") as view:
        state = watch(lambda: describe_snapshot(connection, name), view)
    status = state.snapshot["status"]
    if status == "CANCELLED":
        raise Cancelled(f"The snapshot {name} was cancelled.")
    if status != "AVAILABLE":
        raise OperatorError(
            f"The snapshot {name} is {status}: {state.detail.get('failure') or 'no reason is known'}"
        )
    return state


def wait_for_operation(
    connection: Connection, *, namespace: str | None, request_id: str, title: str, terminal: Terminal
) -> OperationState:
    """Show the operation that a request began until it ends; raise what made it fail, with its hint."""
    observer = OperationWatch(connection=connection, namespace=namespace, request_id=request_id)
    with progress(terminal, title) as view:
        state = watch(observer.look, view)
    if state.operation["status"] != "succeeded":
        raise _failure(title, state.operation)
    return state


def _failure(title: str, operation: Mapping[str, Any]) -> StillframeError:
    if operation["status"] == "cancelled":
        return Cancelled(f"{title} was cancelled.")
    kind = DataError if operation.get("failureKind") in _DATA_KINDS else OperatorError
    return kind(
        f"{title} failed: {operation.get('failure') or 'no reason is known'}", hint=operation.get("hint")
    )


_DATA_KINDS = frozenset(
    {"data", "object_missing", "stored_data_corrupt", "source_data_corrupt", "format_unknown"}
)

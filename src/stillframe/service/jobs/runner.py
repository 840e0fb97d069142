"""Carrying out operations: begin, run the handler of the kind, end, whatever happens."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from stillframe.backup.progress import Progress
from stillframe.catalog import Transaction
from stillframe.domain.cancel import CancelToken
from stillframe.domain.operation import ENDED, Operation, OperationKind, OperationStatus
from stillframe.errors import (
    Cancelled,
    CatalogUnavailable,
    InternalError,
    RetryLater,
    ServerUnavailable,
    StillframeError,
)
from stillframe.service.foundation import Foundation
from stillframe.service.jobs.watch import Watch

log = structlog.get_logger(__name__)

STOPPED = "The service was stopped while this was going on."

ATTEMPTS = 5
"""How often passing trouble (a server that does not start, a store that does not answer) is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an operation ended without success; `summary` is for people."""

    status: OperationStatus
    kind: str
    summary: str
    hint: str | None

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """What an error means for its operation. Errors that are no sentence of ours are not shown."""
        if isinstance(error, Cancelled):
            return cls(
                status=OperationStatus.CANCELLED, kind=error.kind, summary=error.message, hint=error.hint
            )
        if isinstance(error, StillframeError):
            return cls(status=OperationStatus.FAILED, kind=error.kind, summary=error.message, hint=error.hint)
        summary = "An internal error ended the operation; the service's log says more under its request id."
        return cls(status=OperationStatus.FAILED, kind=InternalError.kind, summary=summary, hint=None)


class Handler(Protocol):
    """One kind of operation. Both methods may be repeated after a crash at any point, and converge."""

    retries: bool
    """Whether passing trouble is tried again; otherwise the first trouble ends the operation."""

    def run(self, operation: Operation, watch: Watch) -> None:
        """Do the work and write, in one transaction, the states that show it done."""
        ...

    def give_up(self, operation: Operation, failure: Failure) -> None:
        """Undo what can be undone and write the states that show the failure."""
        ...


class Runner:
    """Runs operations by id, as the job queue hands them out: at most one a namespace at a time."""

    def __init__(self, foundation: Foundation, handlers: Mapping[OperationKind, Handler]) -> None:
        self._base = foundation
        self._handlers = handlers
        self._stopping = CancelToken()
        self._running: set[CancelToken] = set()

    def stop(self) -> None:
        """Ask all running work to end: the service is shutting down."""
        self._stopping.cancel(STOPPED)
        for token in tuple(self._running):
            token.cancel(STOPPED)

    def run(self, operation_id: uuid.UUID) -> None:
        """Carry out one operation. Raises RetryLater when the queue shall bring it again."""
        operation = self._begin(operation_id)
        if operation is None:
            return
        cancel = CancelToken()
        self._running.add(cancel)
        if self._stopping.cancelled:
            cancel.cancel(STOPPED)
        with structlog.contextvars.bound_contextvars(
            request_id=operation.request_id, operation=operation.kind.value, operation_id=str(operation.id)
        ):
            try:
                watch = Watch(progress=Progress(self._base.clock), cancel=cancel)
                self._carry_out(operation, watch)
            finally:
                self._running.discard(cancel)

    def _carry_out(self, operation: Operation, watch: Watch) -> None:
        handler = self._handlers[operation.kind]
        started = time.monotonic()
        log.info("operation_started", attempt=operation.attempts)
        try:
            handler.run(operation, watch)
        except CatalogUnavailable:
            raise
        except Exception as error:
            if isinstance(error, RetryLater) and handler.retries and operation.attempts < ATTEMPTS:
                log.warning("operation_will_be_retried", reason=str(error), attempt=operation.attempts)
                raise
            self._give_up(handler, operation, error)
            return
        self._end(operation)
        log.info("operation_succeeded", seconds=round(time.monotonic() - started, 3))

    def _give_up(self, handler: Handler, operation: Operation, error: Exception) -> None:
        failure = self._why(error)
        if failure.kind == InternalError.kind:
            log.error("operation_failed", kind=failure.kind, exc_info=error)
        else:
            log.warning("operation_failed", kind=failure.kind, reason=failure.summary)
        try:
            handler.give_up(operation, failure)
        except RetryLater:
            raise
        except Exception as second:
            # Whatever is in the way (a full disk, a server that does not start): nothing may stay half undone.
            log.error("operation_not_undone", exc_info=second)
            raise ServerUnavailable("What the operation had begun could not be undone yet") from second
        self._end(operation, failure)

    def _why(self, error: Exception) -> Failure:
        """The failure; work that ended because the service was stopped has failed: nobody cancelled it."""
        if isinstance(error, Cancelled) and self._stopping.cancelled:
            return replace(Failure.of(error), status=OperationStatus.FAILED, hint="Ask for it again.")
        return Failure.of(error)

    def _begin(self, operation_id: uuid.UUID) -> Operation | None:
        with self._base.catalog.transaction() as transaction:
            operation = transaction.operations.find(lock=True, id=operation_id)
            if operation is None or operation.status in ENDED:
                return None
            running = replace(
                operation,
                status=OperationStatus.RUNNING,
                attempts=operation.attempts + 1,
                started_at=operation.started_at or self._base.clock.now(),
            )
            transaction.operations.put(running)
        return running

    def _end(self, operation: Operation, failure: Failure | None = None) -> None:
        with self._base.catalog.transaction() as transaction:
            end_in(self._base, transaction, operation, failure)


def end_in(
    base: Foundation, transaction: Transaction, operation: Operation, failure: Failure | None = None
) -> None:
    """Write the operation's end (a success without `failure`), together with the states that show it.

    One that has ended stays as it is.
    """
    current = transaction.operations.find(lock=True, id=operation.id)
    if current is not None and current.status not in ENDED:
        transaction.operations.put(_ended(current, base, failure))


def _ended(operation: Operation, base: Foundation, failure: Failure | None) -> Operation:
    status = failure.status if failure else OperationStatus.SUCCEEDED
    return replace(
        operation,
        status=status,
        finished_at=base.clock.now(),
        phase=status.value,
        failure_kind=failure.kind if failure else None,
        failure=failure.summary if failure else None,
        hint=failure.hint if failure else None,
    )

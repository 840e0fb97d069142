"""Opening snapshots to look into them, telling which ones are open, and closing them.

A copy only reads the repository, so its namespace stays free for other operations meanwhile, and may even be gone.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from stillframe.catalog import Transaction
from stillframe.domain.access import Caller
from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY
from stillframe.domain.open_snapshot import (
    OCCUPYING,
    USABLE,
    OpenSnapshot,
    OpenSnapshotStatus,
    parse_duration,
)
from stillframe.domain.operation import OperationKind
from stillframe.domain.snapshot import Snapshot
from stillframe.errors import QuotaExceeded
from stillframe.kms import Secret, SecretBox
from stillframe.postgres.scram import random_password, scram_verifier
from stillframe.service.foundation import Foundation, not_found, take_quota_turn
from stillframe.service.operations import Work, enqueue
from stillframe.service.restores import require_restorable
from stillframe.service.snapshots import SnapshotSelector, find_snapshot

ADDRESS = "127.0.0.1"
"""Where open snapshots listen: whoever wants more makes a workgroup."""

_LOGIN = "stillframe_reader_"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSnapshot:
    """A copy and the password of its login."""

    copy: OpenSnapshot
    password: Secret


class OpenSnapshots:
    """OpenSnapshot, ListOpenSnapshots and CloseSnapshot, operations of ours."""

    def __init__(self, foundation: Foundation) -> None:
        self._base = foundation
        self._box = SecretBox(foundation.keys, AWS_OWNED_KMS_KEY)

    def open(
        self, caller: Caller, selector: SnapshotSelector, *, seconds: int | None, temporary: bool
    ) -> OpenedSnapshot:
        """A copy that is OPENING, or the caller's own that is there already; it stays open that long from now on.

        A `temporary` one is never given to a second caller. Raises NotFound, Conflict (the snapshot is not
        AVAILABLE), InvalidRequest (the duration), QuotaExceeded.
        """
        duration = timedelta(seconds=parse_duration(seconds))
        with self._base.catalog.transaction() as transaction:
            snapshot = find_snapshot(transaction, caller, selector)
            require_restorable(snapshot)
            take_quota_turn(transaction, "open snapshots", caller.scope)
            copy = self._prolonged(transaction, caller, snapshot, duration)
            if copy is None:
                copy = self._begun(transaction, caller, snapshot, duration, temporary=temporary)
        return OpenedSnapshot(
            copy=copy, password=self._box.open(copy.sealed_password, purpose=_purpose(copy.id))
        )

    def list(self, caller: Caller) -> Sequence[OpenSnapshot]:
        """The caller's account's copies, oldest first, also those that failed to open."""
        with self._base.catalog.transaction() as transaction:
            return transaction.open_snapshots.list(account=caller.account, region=caller.region)

    def close(
        self, caller: Caller, *, snapshot_name: str | None, copy_id: str | None
    ) -> Sequence[OpenSnapshot]:
        """The copies of that snapshot, or the one of that id, CLOSING; a job removes them. Raises NotFound."""
        with self._base.catalog.transaction() as transaction:
            found = [
                copy
                for copy in transaction.open_snapshots.list(
                    account=caller.account, region=caller.region, lock=True
                )
                if copy_id in {None, str(copy.id)} and snapshot_name in {None, copy.snapshot_name}
            ]
            if not found or (copy_id is None and snapshot_name is None):
                raise not_found("open snapshot", copy_id or snapshot_name or "")
            return [
                ask_to_close(self._base, transaction, copy, request_id=caller.request_id) for copy in found
            ]

    def _prolonged(
        self, transaction: Transaction, caller: Caller, snapshot: Snapshot, duration: timedelta
    ) -> OpenSnapshot | None:
        """The caller's copy of this snapshot that is there already, with its end moved."""
        found = transaction.open_snapshots.list(
            account=caller.account,
            region=caller.region,
            snapshot_id=snapshot.id,
            status=USABLE,
            temporary=False,
            lock=True,
        )
        if not found:
            return None
        longer = replace(found[0], expires_at=max(found[0].expires_at, self._base.clock.now() + duration))
        transaction.open_snapshots.put(longer)
        return longer

    def _begun(
        self,
        transaction: Transaction,
        caller: Caller,
        snapshot: Snapshot,
        duration: timedelta,
        *,
        temporary: bool,
    ) -> OpenSnapshot:
        there = transaction.open_snapshots.count(
            account=caller.account, region=caller.region, status=OCCUPYING
        )
        if there >= self._base.settings.quotas.open_snapshots:
            raise QuotaExceeded("The quota of open snapshots for this account and Region is reached.")
        copy = self._new_copy(caller, snapshot, duration, temporary=temporary)
        transaction.open_snapshots.insert(copy)
        _defer(self._base, transaction, copy, OperationKind.OPEN_SNAPSHOT, request_id=caller.request_id)
        return copy

    def _new_copy(
        self, caller: Caller, snapshot: Snapshot, duration: timedelta, *, temporary: bool
    ) -> OpenSnapshot:
        identifier, password, now = self._base.new_id(), Secret(random_password()), self._base.clock.now()
        return OpenSnapshot(
            id=identifier,
            account=caller.account,
            region=caller.region,
            snapshot_id=snapshot.id,
            snapshot_name=snapshot.name,
            namespace_id=snapshot.namespace_id,
            namespace_name=snapshot.namespace_name,
            status=OpenSnapshotStatus.OPENING,
            temporary=temporary,
            created_at=now,
            expires_at=now + duration,
            # Unlike any role that the snapshot may hold.
            username=_LOGIN + identifier.hex[:12],
            verifier=scram_verifier(password.reveal()),
            sealed_password=self._box.seal(password, purpose=_purpose(identifier)),
        )


def ask_to_close(
    base: Foundation, transaction: Transaction, copy: OpenSnapshot, *, request_id: str = ""
) -> OpenSnapshot:
    """Mark a copy as CLOSING and queue the job that removes it; the caller holds the row's lock."""
    return (
        copy
        if copy.status is OpenSnapshotStatus.CLOSING
        else queue_closing(base, transaction, copy, request_id=request_id)
    )


def queue_closing(
    base: Foundation, transaction: Transaction, copy: OpenSnapshot, *, request_id: str = ""
) -> OpenSnapshot:
    """The same for one that may be CLOSING already, because its job was lost."""
    closing = replace(copy, status=OpenSnapshotStatus.CLOSING)
    transaction.open_snapshots.put(closing)
    _defer(base, transaction, closing, OperationKind.CLOSE_SNAPSHOT, request_id=request_id)
    return closing


def _defer(
    base: Foundation, transaction: Transaction, copy: OpenSnapshot, kind: OperationKind, *, request_id: str
) -> None:
    work = Work(
        kind=kind,
        namespace_id=copy.namespace_id,
        subject_id=copy.id,
        # What is done to one copy happens in order; other copies, and the namespace, do not wait for it.
        lock=f"open snapshot {copy.id}",
        request_id=request_id,
    )
    enqueue(base, transaction, copy.scope, work)


def _purpose(copy_id: uuid.UUID) -> str:
    return f"open-snapshot:{copy_id}"

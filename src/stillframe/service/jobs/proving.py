"""The job that proves a snapshot: it is started, recovered, and every relation in it is checked and read."""

from dataclasses import asdict

from stillframe.backup.proof import ProofReport, prove
from stillframe.domain.operation import Operation
from stillframe.domain.proof import Proof, ProofResult
from stillframe.domain.snapshot import Snapshot, SnapshotStatus
from stillframe.errors import DataError, ServerUnavailable, StoreUnavailable
from stillframe.repository import Level
from stillframe.service.foundation import Foundation
from stillframe.service.jobs.reporting import publisher
from stillframe.service.jobs.runner import Failure, end_in
from stillframe.service.jobs.stalls import ended_when_stalled
from stillframe.service.jobs.watch import Watch, watching
from stillframe.service.private_copies import CopyPlace, PrivateCopies
from stillframe.service.proofs import ProofRecord
from stillframe.service.repositories import Repositories
from stillframe.service.servers import Servers

_STARTS = 2
"""A copy that does not start this often, without any other reason, is taken for one that cannot start."""


class ProveSnapshot:
    """One proof."""

    retries = True

    def __init__(
        self,
        foundation: Foundation,
        servers: Servers,
        repositories: Repositories,
        copies: PrivateCopies,
        record: ProofRecord,
    ) -> None:
        self._base = foundation
        self._servers = servers
        self._repositories = repositories
        self._copies = copies
        self._record = record

    def run(self, operation: Operation, watch: Watch) -> None:
        """Prove it, and keep what came out. A proof that was cut off begins anew.

        What is wrong with the snapshot is a result; only what keeps us from looking is raised.
        """
        snapshot = self._snapshot(operation)
        if snapshot is None:
            self._remove(operation)
            self._finish(operation)
            return
        began = self._base.clock.now()
        report = self._report(operation, snapshot, watch)
        now = self._base.clock.now()
        self._record.keep(
            Proof(
                snapshot_id=snapshot.id,
                account=snapshot.account,
                region=snapshot.region,
                result=ProofResult.FAILED if report.findings else ProofResult.PASSED,
                proved_at=now,
                duration_seconds=max(0.0, (now - began).total_seconds()),
                server_version=self._servers.machine.installation.build,
                findings=tuple(report.findings),
                remarks=tuple(report.remarks),
                databases=tuple(asdict(database) for database in report.databases),
            )
        )
        self._finish(operation)

    def give_up(self, operation: Operation, failure: Failure) -> None:
        """Nothing of the copy is left; the snapshot's proof is what it was before."""
        self._remove(operation)
        self._finish(operation, failure)

    def _report(self, operation: Operation, snapshot: Snapshot, watch: Watch) -> ProofReport:
        reason = ""
        for _ in range(_STARTS):
            try:
                return self._prove(operation, snapshot, watch)
            except DataError as error:
                return ProofReport(findings=[f"It cannot be restored: {error.message}."])
            except ServerUnavailable as error:
                watch.cancel.raise_if_cancelled()
                reason = error.message
        return ProofReport(findings=[f"Its server does not run: {reason}."])

    def _prove(self, operation: Operation, snapshot: Snapshot, watch: Watch) -> ProofReport:
        self._remove(operation)
        # Not below its namespace's directory, where a restore or a deletion would take it away; and another one at
        # each start: what a crash left of an earlier one may still be ending.
        place = CopyPlace(namespace_id=operation.id, copy_id=self._base.new_id())
        cluster = self._servers.cluster(place.namespace_id, place.copy_id)
        try:
            with ended_when_stalled(cluster, end=lambda: self._copies.remove(place)) as stall:
                try:
                    return self._checked(operation, snapshot, place, watch)
                except ServerUnavailable as error:
                    if stall.reason is None:
                        raise
                    return self._why_stalled(snapshot, stall.reason, error)
        finally:
            self._remove(operation)

    def _checked(
        self, operation: Operation, snapshot: Snapshot, place: CopyPlace, watch: Watch
    ) -> ProofReport:
        with (
            watching(watch, publish=publisher(self._base, operation), cancel_requested=lambda: False),
            self._copies.opened(snapshot, place, watch) as copy,
        ):
            return prove(copy, progress=watch.progress, cancel=watch.cancel)

    def _why_stalled(self, snapshot: Snapshot, reason: str, error: ServerUnavailable) -> ProofReport:
        """What is wrong with the stored content; a store that gives nothing at all says nothing about it."""
        checked = self._repositories.of(snapshot.region).check(level=Level.BYTES)
        report = ProofReport()
        for finding in checked.findings:
            if finding.snapshot_id == snapshot.id:
                report.add_finding(f"file {finding.path or '(all)'}: {finding.problem}")
        if not report.findings:
            raise StoreUnavailable(f"The snapshot's content cannot be fetched: {reason}") from error
        return report

    def _remove(self, operation: Operation) -> None:
        # Those of attempts that were cut off as well.
        self._servers.drop_all(operation.id)

    def _snapshot(self, operation: Operation) -> Snapshot | None:
        with self._base.catalog.transaction() as transaction:
            return transaction.snapshots.find(id=operation.subject_id, status=SnapshotStatus.AVAILABLE)

    def _finish(self, operation: Operation, failure: Failure | None = None) -> None:
        with self._base.catalog.transaction() as transaction:
            end_in(self._base, transaction, operation, failure)

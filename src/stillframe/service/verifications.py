"""Reading stored bytes again, every so often, so that damage is found before it is needed."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import structlog

from stillframe.domain.identifiers import Region
from stillframe.domain.snapshot import SnapshotStatus
from stillframe.domain.verification import Verification
from stillframe.errors import StillframeError
from stillframe.repository import CheckReport, Finding, Level, Repository
from stillframe.service.foundation import Foundation
from stillframe.service.repositories import Repositories

log = structlog.get_logger(__name__)

_KEPT_FINDINGS = 50


class VerificationSchedule:
    """Verifies each Region's repository when the last time is long enough ago."""

    def __init__(self, foundation: Foundation, repositories: Repositories) -> None:
        self._base = foundation
        self._repositories = repositories

    def turn(self) -> None:
        """Verify what is due, if the settings want it. Damage is logged as an error and kept for metrics."""
        if self._base.settings.verify_seconds <= 0:
            return
        for region, repository in self._repositories.existing():
            if self._is_due(region):
                self._verify(region, repository)

    def _is_due(self, region: Region) -> bool:
        """A repository without snapshots never is; a new one after as long a time as any other."""
        with self._base.catalog.transaction() as transaction:
            last = transaction.verifications.find(region=region)
            oldest = transaction.snapshots.list(
                region=region, status=SnapshotStatus.AVAILABLE, order_by="created_at", limit=1
            )
        since = last.finished_at if last else _first(snapshot.created_at for snapshot in oldest)
        pause = timedelta(seconds=self._base.settings.verify_seconds)
        return since is not None and self._base.clock.now() >= since + pause

    def _verify(self, region: Region, repository: Repository) -> None:
        began = self._base.clock.now()
        try:
            report = repository.check(
                level=Level.BYTES, remembered_for=timedelta(days=self._base.settings.verify_again_days)
            )
        except StillframeError as error:
            # A store that does not answer says nothing about what it holds; there is another turn.
            log.warning("repository_not_verified", region=region, kind=error.kind, reason=error.message)
            return
        self._keep(region, report, began)
        if report.clean:
            log.info(
                "repository_verified",
                region=region,
                bytes_read=report.bytes_read,
                bytes_remembered=report.bytes_remembered,
            )
            return
        log.error(
            "repository_damaged",
            region=region,
            finding_count=len(report.findings),
            findings=[_sentence(finding) for finding in report.findings[:5]],
        )

    def _keep(self, region: Region, report: CheckReport, began: datetime) -> None:
        now = self._base.clock.now()
        with self._base.catalog.transaction() as transaction:
            transaction.verifications.upsert(
                Verification(
                    region=region,
                    finished_at=now,
                    duration_seconds=max(0.0, (now - began).total_seconds()),
                    snapshots=report.snapshots,
                    bytes_read=report.bytes_read,
                    finding_count=len(report.findings),
                    findings=tuple(_sentence(finding) for finding in report.findings[:_KEPT_FINDINGS]),
                )
            )


def _first(moments: Iterable[datetime]) -> datetime | None:
    return next(iter(moments), None)


def _sentence(finding: Finding) -> str:
    snapshot = f"snapshot {finding.snapshot_id}" if finding.snapshot_id else None
    named = ", ".join(part for part in (finding.object, snapshot, finding.path, finding.relation) if part)
    pages = f", {_pages(finding)}" if finding.first_block is not None else ""
    return f"{finding.problem} [{named}{pages}]" if named else finding.problem


def _pages(finding: Finding) -> str:
    first, count = finding.first_block or 0, finding.blocks or 1
    return f"page {first}" if count == 1 else f"pages {first}-{first + count - 1}"

"""What came out when a snapshot was started and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from stillframe.domain.identifiers import AccountId, Region, SnapshotId


class ProofResult(StrEnum):
    """A proof that found nothing wrong, or something."""

    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The newest proof of one snapshot; kept in the catalog and, with the snapshot, in the repository.

    `findings` are sentences about what is wrong, `remarks` about what is odd and was so in the namespace itself.
    `databases` says of each database its `name`, and how many `tables`, `indexes`, `rows` and `bytes` were checked.
    """

    snapshot_id: SnapshotId
    account: AccountId
    region: Region
    result: ProofResult
    proved_at: datetime
    duration_seconds: float
    server_version: str
    findings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    databases: tuple[Mapping[str, object], ...] = ()

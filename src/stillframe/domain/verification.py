"""What came out when the stored bytes of a Region's repository were read and checked."""

from dataclasses import dataclass
from datetime import datetime

from stillframe.domain.identifiers import Region


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The newest scheduled look at one repository. `bytes_read` of packs; `findings` are sentences."""

    region: Region
    finished_at: datetime
    duration_seconds: float
    snapshots: int
    bytes_read: int
    finding_count: int
    findings: tuple[str, ...] = ()

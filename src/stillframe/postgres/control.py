"""pg_control: what a data directory says about itself (PostgreSQL: catalog/pg_control.h)."""

import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from stillframe.domain.lsn import Lsn
from stillframe.errors import SourceDataCorrupt, Unsupported
from stillframe.postgres.crc32c import crc32c
from stillframe.system import translating_os_errors

CONTROL_FILE = "global/pg_control"
CONTROL_FILE_SIZE = 8192
INVALID_CHECKPOINT = Lsn(0xDEAD)
"""A checkpoint that is never there: pgBackRest's number, so that other tools recognise the mark."""

_READ_ATTEMPTS = 10
_READ_PAUSE_SECONDS = 0.01

_CHECKPOINT_OFFSET = 32
_HEAD = struct.Struct("<QIIi4xq Q QII?3xi")
"""system id, control version, catalog version, state, time, checkpoint; copy of it: redo, timeline, previous
timeline, full_page_writes, wal_level."""
_SIZES = struct.Struct("<IIIIIIII?3xI")
_SIZES_OFFSET = 216
"""Block size, blocks in a relation segment, WAL block size, WAL segment size, name length, index keys, TOAST
chunk, large-object chunk, float8 by value, data checksum version."""
_RECOVERY = struct.Struct("<QI4xQQ?")
_RECOVERY_OFFSET = 136
_LIMITS = struct.Struct("<i?3xiiiii")
_LIMITS_OFFSET = 172

_CRC_OFFSETS = {1700: 288, 1800: 292}
"""Where the CRC stands, by pg_control_version: 18 put one flag before the nonce that precedes it."""


class ClusterState(IntEnum):
    """What the server last wrote about its own life (PostgreSQL: DBState)."""

    STARTING = 0
    SHUT_DOWN = 1
    SHUT_DOWN_IN_RECOVERY = 2
    SHUTTING_DOWN = 3
    CRASH_RECOVERY = 4
    ARCHIVE_RECOVERY = 5
    IN_PRODUCTION = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryLimits:
    """Settings that a copy may not lower below those of its source (rule 34)."""

    max_connections: int
    max_worker_processes: int
    max_wal_senders: int
    max_prepared_transactions: int
    max_locks_per_transaction: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFile:
    """The fields of pg_control that decide about snapshots; sizes in bytes, relation segments in blocks."""

    system_identifier: int
    control_version: int
    catalog_version: int
    state: ClusterState
    checkpoint: Lsn
    redo: Lsn
    timeline: int
    full_page_writes: bool
    wal_level: int
    min_recovery_point: Lsn
    min_recovery_timeline: int
    block_size: int
    relation_segment_blocks: int
    wal_block_size: int
    wal_segment_size: int
    data_checksum_version: int
    limits: RecoveryLimits

    @property
    def newest_timeline(self) -> int:
        """The one it writes on: that of its last checkpoint, or a newer one when it was promoted since."""
        return max(self.timeline, self.min_recovery_timeline)

    @property
    def cleanly_stopped(self) -> bool:
        """Whether the server ended by a shutdown checkpoint, so that no WAL is needed to start it."""
        return self.state is ClusterState.SHUT_DOWN


def parse_control_file(content: bytes) -> ControlFile:
    """Read the bytes of pg_control, after checking its version and CRC.

    Raises Unsupported for a layout this release does not know, SourceDataCorrupt when the CRC is wrong.
    """
    crc_offset = _checked_crc_offset(content)
    (
        system_identifier,
        control_version,
        catalog_version,
        state,
        _,
        checkpoint,
        redo,
        timeline,
        _,
        fpw,
        wal_level,
    ) = _HEAD.unpack_from(content)
    sizes = _SIZES.unpack_from(content, _SIZES_OFFSET)
    minimum, minimum_timeline, *_ = _RECOVERY.unpack_from(content, _RECOVERY_OFFSET)
    assert crc_offset > _SIZES_OFFSET + _SIZES.size - 4
    return ControlFile(
        system_identifier=system_identifier,
        control_version=control_version,
        catalog_version=catalog_version,
        state=ClusterState(state),
        checkpoint=Lsn(checkpoint),
        redo=Lsn(redo),
        timeline=timeline,
        full_page_writes=fpw,
        wal_level=wal_level,
        min_recovery_point=Lsn(minimum),
        min_recovery_timeline=minimum_timeline,
        block_size=sizes[0],
        relation_segment_blocks=sizes[1],
        wal_block_size=sizes[2],
        wal_segment_size=sizes[3],
        data_checksum_version=sizes[9],
        limits=_limits(content),
    )


def _limits(content: bytes) -> RecoveryLimits:
    _, _, connections, workers, senders, prepared, locks = _LIMITS.unpack_from(content, _LIMITS_OFFSET)
    return RecoveryLimits(
        max_connections=connections,
        max_worker_processes=workers,
        max_wal_senders=senders,
        max_prepared_transactions=prepared,
        max_locks_per_transaction=locks,
    )


def _checked_crc_offset(content: bytes) -> int:
    if len(content) < 300:
        raise SourceDataCorrupt(f"pg_control is only {len(content)} bytes long")
    version = int.from_bytes(content[8:12], "little")
    offset = _CRC_OFFSETS.get(version)
    if offset is None:
        raise Unsupported(
            f"pg_control has the layout version {version}, which this release does not know",
            hint="PostgreSQL 17 and 18 on little-endian machines are supported.",
        )
    if crc32c(content[:offset]) != int.from_bytes(content[offset : offset + 4], "little"):
        raise SourceDataCorrupt("pg_control fails its checksum")
    return offset


def read_control_bytes(data_directory: Path) -> bytes:
    """The whole pg_control of a directory whose server may be writing it, known to pass its CRC.

    Reads again, up to ten times 10 ms apart, while the check fails (get_controlfile_by_exact_path()).
    Raises what parse_control_file does, and PermissionMissing or OperatorError when it cannot be read.
    """
    with translating_os_errors("reading pg_control"):
        for attempt in range(1, _READ_ATTEMPTS + 1):
            content = (data_directory / CONTROL_FILE).read_bytes()
            try:
                _checked_crc_offset(content)
                break
            except SourceDataCorrupt:
                if attempt == _READ_ATTEMPTS:
                    raise
            time.sleep(_READ_PAUSE_SECONDS)
    return content


def read_control_file(data_directory: Path) -> ControlFile:
    """pg_control of a data directory, stopped or running. Raises what read_control_bytes raises."""
    return parse_control_file(read_control_bytes(data_directory))


def poisoned(content: bytes) -> bytes:
    """The same pg_control pointing to a checkpoint that does not exist, with a right CRC (rule 38).

    A directory with it starts by its backup_label only; without the label the server refuses.
    Raises what parse_control_file raises.
    """
    offset = _checked_crc_offset(content)
    changed = bytearray(content)
    changed[_CHECKPOINT_OFFSET : _CHECKPOINT_OFFSET + 8] = INVALID_CHECKPOINT.to_bytes(8, "little")
    changed[offset : offset + 4] = crc32c(bytes(changed[:offset])).to_bytes(4, "little")
    return bytes(changed)

"""A repository to test with: real store, real keys, facts that only have to be well formed."""

import random
import uuid
from datetime import UTC, datetime
from pathlib import Path

from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY, KmsKeyId, LineageId, SnapshotId
from stillframe.domain.lsn import Lsn
from stillframe.kms import LocalKeyManagement
from stillframe.objectstore import ObjectStore
from stillframe.repository import (
    AncestryEntry,
    CaptureMode,
    DatabaseFacts,
    PostgresIdentity,
    Repository,
    RoleFacts,
    SnapshotAttributes,
    SnapshotDocument,
    SnapshotFacts,
    SnapshotReader,
)
from support.stores import store_in

BLOCK = 8192
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEY = AWS_OWNED_KMS_KEY


def keys_in(directory: Path, *key_ids: KmsKeyId) -> LocalKeyManagement:
    """A key management with these keys, or with the default one."""
    keys = LocalKeyManagement(directory / "keys")
    for key_id in key_ids or (KEY,):
        keys.ensure_key(key_id)
    return keys


def repository_in(directory: Path, store: ObjectStore | None = None) -> Repository:
    """A repository below this directory, or in this store with its keys there."""
    return Repository.create_or_open(store or store_in(directory), keys_in(directory))


def page(seed: int) -> bytes:
    """One page that is unlike any other seed's, and compresses about four to one."""
    return random.Random(seed).randbytes(BLOCK // 4) * 4


def pages(*seeds: int) -> bytes:
    """Several of them."""
    return b"".join(map(page, seeds))


def attributes(**changes: object) -> SnapshotAttributes:
    """Attributes of some snapshot."""
    values: dict[str, object] = {
        "account": "123456789012",
        "region": "eu-central-1",
        "snapshot_name": "nightly",
        "snapshot_arn": "arn:aws:redshift-serverless:eu-central-1:123456789012:snapshot/x",
        "namespace_id": "n",
        "namespace_name": "shop",
        "namespace_arn": "arn:aws:redshift-serverless:eu-central-1:123456789012:namespace/n",
        "admin_username": "admin",
        "db_name": "dev",
        "kms_key_id": KEY,
        "created_at": NOON,
        "retention_days": 7,
        "tags": {"team": "data"},
    }
    return SnapshotAttributes(**(values | changes))  # type: ignore[arg-type]


def facts() -> SnapshotFacts:
    """Facts of some capture."""
    return SnapshotFacts(
        lineage_id=LineageId(uuid.UUID(int=1)),
        ancestry=[AncestryEntry(lineage_id=LineageId(uuid.UUID(int=2)), timeline=1, fork_lsn=Lsn(0x5000028))],
        timeline=2,
        timeline_history="1\t0/5000028\tno recovery target specified\n",
        start_lsn=Lsn(0x6000028),
        stop_lsn=Lsn(0x6000158),
        checkpoint_lsn=Lsn(0x6000080),
        backup_label="START WAL LOCATION: 0/6000028\n",
        postgres=PostgresIdentity(
            server_version="18.6",
            server_version_num=180006,
            build="PostgreSQL 18.6 on x86_64",
            system_identifier=7_512_345_678_901_234_567,
            catalog_version=202506291,
            control_version=1800,
            data_checksum_version=1,
            block_size=BLOCK,
            wal_segment_size=16 << 20,
            relation_segment_size=1 << 30,
        ),
        mode=CaptureMode.FULL,
        full_reason="the first snapshot",
        started_at=NOON,
        finished_at=NOON,
        databases=[DatabaseFacts(name="dev", oid=16384, size=7_000_000)],
        roles=[RoleFacts(name="admin", can_login=True, is_superuser=False)],
        attributes=attributes(),
        bytes_read=1,
        wal_bytes=304,
        duration_seconds=0.5,
    )


def store_files(
    repository: Repository,
    files: dict[str, bytes],
    *,
    parent: SnapshotId | None = None,
    snapshot_id: SnapshotId | None = None,
    key_id: KmsKeyId = KEY,
) -> SnapshotDocument:
    """A snapshot of these files: relation files below `base/`, others anywhere else."""
    with repository.begin_snapshot(key_id=key_id, parent=parent, snapshot_id=snapshot_id) as writer:
        for directory in sorted({"", *(path.rpartition("/")[0] for path in files)}):
            writer.add_directory(directory, mode=0o700)
        for path, data in files.items():
            if path.startswith("base/"):
                relation = writer.relation(path, mode=0o600, blocks=len(data) // BLOCK)
                relation.write_run(0, data)
                relation.close()
            else:
                file = writer.file(path, mode=0o640)
                file.write(data)
                file.close()
        return writer.commit(facts())


def read_files(reader: SnapshotReader) -> dict[str, bytes]:
    """Every file of a snapshot, read one by one."""
    return {entry.path: reader.read_file(entry, 0, entry.size) for entry in reader.files()}


def restored(reader: SnapshotReader) -> dict[str, bytes]:
    """Every file of a snapshot, by the plan of a full restore."""
    files = {entry.path: bytearray(entry.size) for entry in reader.files()}
    for group in reader.fetch_plan():
        for piece in reader.fetch(group):
            files[piece.entry.path][piece.offset : piece.offset + len(piece.data)] = piece.data
    return {path: bytes(data) for path, data in files.items()}


def contents(repository: Repository, snapshot_id: SnapshotId) -> dict[str, bytes]:
    """Every file of a snapshot, read in both ways, which have to agree."""
    with repository.open_snapshot(snapshot_id) as reader:
        one, other = read_files(reader), restored(reader)
    assert one == other
    return one

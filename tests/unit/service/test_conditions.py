"""Which snapshots are damaged, and which ones stay because of that."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from stillframe.domain.identifiers import (
    AWS_OWNED_KMS_KEY,
    AccountId,
    NamespaceId,
    NamespaceName,
    Region,
    SnapshotId,
    SnapshotName,
)
from stillframe.domain.snapshot import Snapshot, SnapshotStatus
from stillframe.service.conditions import is_damaged, protected_ones

pytestmark = pytest.mark.unit

SHOP, OTHER = NamespaceId(uuid.uuid4()), NamespaceId(uuid.uuid4())
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)


def _snapshot(
    day: int,
    *,
    damaged: bool = False,
    namespace: NamespaceId = SHOP,
    status: SnapshotStatus = SnapshotStatus.AVAILABLE,
) -> Snapshot:
    return Snapshot(
        id=SnapshotId(uuid.uuid4()),
        account=AccountId("123456789012"),
        region=Region("us-east-1"),
        name=SnapshotName(f"day-{day}"),
        namespace_id=namespace,
        namespace_name=NamespaceName("shop"),
        status=status,
        created_at=BEGIN + timedelta(days=day),
        retention_days=1,
        admin_username="admin",
        db_name="dev",
        kms_key_id=AWS_OWNED_KMS_KEY,
        damage="A page fails its checksum." if damaged else None,
    )


def _names(snapshots: list[Snapshot], failed: set[SnapshotId] | None = None) -> list[str]:
    return [snapshot.name for snapshot in protected_ones(snapshots, failed or set())]


def test_a_history_without_damage_protects_nothing() -> None:
    assert _names([_snapshot(1), _snapshot(2)]) == []


def test_the_last_clean_one_and_the_newest_stay_when_the_newest_is_damaged() -> None:
    history = [_snapshot(day, damaged=day > 2) for day in (4, 3, 1, 2)]
    assert _names(history) == ["day-2", "day-4"]


def test_a_newer_clean_one_ends_the_protection() -> None:
    assert _names([_snapshot(1), _snapshot(2, damaged=True), _snapshot(3)]) == []


def test_without_a_clean_one_there_is_nothing_to_protect() -> None:
    assert _names([_snapshot(1, damaged=True), _snapshot(2, damaged=True)]) == []


def test_a_failed_proof_counts_as_damage() -> None:
    older, newer = _snapshot(1), _snapshot(2)
    assert not is_damaged(newer, set())
    assert is_damaged(newer, {newer.id})
    assert _names([older, newer], {newer.id}) == ["day-1", "day-2"]


def test_namespaces_are_looked_at_one_by_one() -> None:
    history = [_snapshot(1), _snapshot(2, damaged=True, namespace=OTHER), _snapshot(3, namespace=SHOP)]
    assert _names(history) == []


@pytest.mark.parametrize("status", [SnapshotStatus.FAILED, SnapshotStatus.DELETED, SnapshotStatus.CREATING])
def test_what_cannot_be_restored_protects_nothing_and_is_not_protected(status: SnapshotStatus) -> None:
    assert _names([_snapshot(1), _snapshot(2, damaged=True, status=status)]) == []
    assert _names([_snapshot(1, status=status), _snapshot(2, damaged=True)]) == []

"""Retention counts whole days from its start, and progress says only what is known."""

import uuid
from dataclasses import replace
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
from stillframe.domain.snapshot import Snapshot, SnapshotProgress, SnapshotStatus, parse_retention
from stillframe.errors import InvalidRequest

pytestmark = pytest.mark.unit

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
SNAPSHOT = Snapshot(
    id=SnapshotId(uuid.uuid4()),
    account=AccountId("123456789012"),
    region=Region("us-east-1"),
    name=SnapshotName("nightly"),
    namespace_id=NamespaceId(uuid.uuid4()),
    namespace_name=NamespaceName("shop"),
    status=SnapshotStatus.AVAILABLE,
    created_at=START,
    retention_days=10,
    retention_started_at=START,
    admin_username="admin",
    db_name="dev",
    kms_key_id=AWS_OWNED_KMS_KEY,
)


@pytest.mark.parametrize("days", [-1, 1, 3653])
def test_retention_is_for_ever_or_1_to_3653_days(days: int) -> None:
    assert parse_retention(days) == days


def test_retention_that_is_not_given_is_for_ever() -> None:
    assert parse_retention(None) == -1


@pytest.mark.parametrize("days", [0, -2, 3654, -99999])
def test_any_other_retention_is_refused(days: int) -> None:
    with pytest.raises(InvalidRequest, match="either -1 or an integer between 1 and 3653"):
        parse_retention(days)


@pytest.mark.parametrize(("passed", "left"), [(0, 10), (0.99, 10), (1, 9), (9.99, 1), (10, 0), (400, 0)])
def test_remaining_days_count_down_and_stop_at_zero(passed: float, left: int) -> None:
    assert SNAPSHOT.remaining_days(START + timedelta(days=passed)) == left


def test_a_snapshot_kept_for_ever_never_expires() -> None:
    kept = replace(SNAPSHOT, retention_days=-1)
    assert (kept.expires_at(), kept.remaining_days(START + timedelta(days=9999))) == (None, -1)


def test_retention_of_a_snapshot_that_is_being_taken_has_not_begun() -> None:
    taking = replace(SNAPSHOT, retention_started_at=None)
    assert (taking.expires_at(), taking.remaining_days(START)) == (None, None)


def test_the_time_left_is_unknown_until_there_is_a_rate_and_a_size() -> None:
    assert SnapshotProgress(done_bytes=5).remaining_seconds is None
    assert SnapshotProgress(done_bytes=5, total_bytes=10).remaining_seconds is None


def test_the_time_left_is_what_is_left_at_the_present_rate() -> None:
    progress = SnapshotProgress(done_bytes=25, total_bytes=100, bytes_per_second=15)
    assert progress.remaining_seconds == pytest.approx(5)


def test_the_time_left_is_never_negative() -> None:
    assert SnapshotProgress(done_bytes=12, total_bytes=10, bytes_per_second=1).remaining_seconds == 0

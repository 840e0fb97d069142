"""Retention, with a service whose clock the test moves."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from support.service import REGION, Service, Warehouse, make_warehouse, running_service, wait_for, wait_gone

pytestmark = pytest.mark.acceptance

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that looks at retention twice a second and never by its own passing of time."""
    with running_service(sweep_seconds=0.5) as service:
        yield service


@pytest.fixture
def warehouse(quick: Service) -> Iterator[Warehouse]:
    """One of the test's own, on that service."""
    made = make_warehouse(quick.account(), "shop")
    yield made
    made.tear_down()


def get(warehouse: Warehouse, name: str) -> dict[str, Any]:
    """The snapshot as it is now."""
    snapshot: dict[str, Any] = warehouse.client.get_snapshot(snapshotName=name)["snapshot"]
    return snapshot


def test_a_snapshot_goes_when_its_days_are_over_and_its_name_is_free_again(warehouse: Warehouse) -> None:
    local = warehouse.account.service.local
    taken = warehouse.snapshot("short", retentionPeriod=1, tags=[{"key": "a", "value": "b"}])
    warehouse.snapshot("long", retentionPeriod=10)
    warehouse.snapshot("endless")
    local.advance(DAY - timedelta(minutes=30))
    assert get(warehouse, "short")["snapshotRemainingDays"] == 1
    local.advance(timedelta(minutes=31))
    wait_gone(lambda: get(warehouse, "short"))
    with pytest.raises(warehouse.client.exceptions.ResourceNotFoundException):
        warehouse.client.list_tags_for_resource(resourceArn=taken["snapshotArn"])
    assert get(warehouse, "long")["snapshotRemainingDays"] == 9
    assert get(warehouse, "endless")["snapshotRemainingDays"] == -1
    assert warehouse.snapshot("short")["snapshotArn"] != taken["snapshotArn"]
    local.advance(5 * DAY)
    assert get(warehouse, "long")["snapshotRemainingDays"] == 4
    local.advance(5 * DAY)
    wait_gone(lambda: get(warehouse, "long"))
    names = [item["snapshotName"] for item in warehouse.client.list_snapshots()["snapshots"]]
    assert sorted(names) == ["endless", "short"]


def test_a_changed_retention_counts_from_the_old_start(warehouse: Warehouse) -> None:
    local, client = warehouse.account.service.local, warehouse.client
    taken = warehouse.snapshot("changing", retentionPeriod=30)
    local.advance(10 * DAY)
    longer = client.update_snapshot(snapshotName="changing", retentionPeriod=40)["snapshot"]
    assert longer["snapshotRemainingDays"] == 30
    assert longer["snapshotRetentionStartTime"] == taken["snapshotRetentionStartTime"]
    client.update_snapshot(snapshotName="changing", retentionPeriod=-1)
    local.advance(100 * DAY)
    assert get(warehouse, "changing")["snapshotRemainingDays"] == -1
    # Shorter than the age it has reached: it is due at once.
    due = client.update_snapshot(snapshotName="changing", retentionPeriod=5)["snapshot"]
    assert due["snapshotRemainingDays"] == 0
    wait_gone(lambda: get(warehouse, "changing"))


def test_a_final_snapshot_expires_like_any_other_after_its_namespace_is_gone(quick: Service) -> None:
    account = quick.account()
    account.client.create_namespace(namespaceName="paper")
    account.client.delete_namespace(
        namespaceName="paper", finalSnapshotName="paper-end", finalSnapshotRetentionPeriod=2
    )
    wait_gone(lambda: account.client.get_namespace(namespaceName="paper"))
    quick.local.advance(2 * DAY)
    wait_gone(lambda: account.client.get_snapshot(snapshotName="paper-end"))


def test_what_no_snapshot_refers_to_any_more_leaves_the_repository(warehouse: Warehouse) -> None:
    service = warehouse.account.service
    warehouse.snapshot("basis")
    small = stored(service)
    warehouse.query(
        "CREATE TABLE bulk AS SELECT g, sha512(g::text::bytea) h FROM generate_series(1, 60000) g"
    )
    warehouse.snapshot("bulky", retentionPeriod=1)
    large = stored(service)
    assert large > small + 3_000_000
    warehouse.query("DROP TABLE bulk")
    service.local.advance(2 * DAY)
    wait_gone(lambda: get(warehouse, "bulky"))
    # The sweep removes what was rubbish already when an earlier sweep saw it, so time has to pass as well.
    service.local.advance(2 * DAY)
    wait_for(lambda: stored(service), lambda size: size < small + 1_500_000)
    warehouse.restore(snapshotName="basis")
    assert warehouse.query("SELECT 1") == [(1,)]


def stored(service: Service) -> int:
    """Bytes of all files in the Region's repository."""
    root: Path = service.local.settings.paths.repository(REGION)
    return sum(size_of(path) for path in root.rglob("*"))


def size_of(path: Path) -> int:
    """The size of a file; nothing for a directory, and for what the sweep removes at this moment."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0

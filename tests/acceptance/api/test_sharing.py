"""A snapshot that is shared with another account by a resource policy, and restored there."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.service import Service, Warehouse, warehouse_of

pytestmark = pytest.mark.acceptance

SUM = "SELECT count(*), sum(id) FROM facts"
FACTS = [(500, 125250)]


@pytest.fixture(scope="module")
def source(service: Service) -> Iterator[Warehouse]:
    """A warehouse with snapshot `good` of a table with known sums."""
    with warehouse_of(service.account(), "source") as made:
        made.query("CREATE TABLE facts AS SELECT g AS id FROM generate_series(1, 500) g")
        made.snapshot("good")
        yield made


@pytest.fixture(scope="module")
def guest(service: Service) -> Iterator[Warehouse]:
    """A warehouse of another account."""
    with warehouse_of(service.account(), "guest") as made:
        yield made


def share(source: Warehouse, *accounts: str) -> str:
    """Allow these accounts to restore `good`; its ARN."""
    arn: str = source.client.get_snapshot(snapshotName="good")["snapshot"]["snapshotArn"]
    statement = {
        "Effect": "Allow",
        "Sid": "",
        "Principal": {"AWS": list(accounts)},
        "Action": "redshift-serverless:RestoreFromSnapshot",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    source.client.put_resource_policy(resourceArn=arn, policy=policy)
    return arn


def test_what_is_not_shared_is_not_there(source: Warehouse, guest: Warehouse) -> None:
    arn = source.client.get_snapshot(snapshotName="good")["snapshot"]["snapshotArn"]
    missing = guest.client.exceptions.ResourceNotFoundException
    for named in (
        {"snapshotArn": arn},
        {"snapshotName": "good", "ownerAccount": source.account.id},
        {"snapshotName": "good"},
    ):
        with pytest.raises(missing):
            guest.client.get_snapshot(**named)
        with pytest.raises(missing):
            guest.client.restore_from_snapshot(namespaceName="guest", workgroupName="guest", **named)


def test_what_is_shared_is_seen_restored_and_nothing_else(source: Warehouse, guest: Warehouse) -> None:
    arn = share(source, guest.account.id)
    owner = source.account.id
    seen = guest.client.get_snapshot(snapshotName="good", ownerAccount=owner)["snapshot"]
    assert seen["ownerAccount"] == owner
    assert seen["snapshotArn"] == arn
    assert source.client.get_snapshot(snapshotName="good")["snapshot"]["accountsWithRestoreAccess"] == [
        guest.account.id
    ]
    assert guest.client.list_snapshots()["snapshots"] == []
    shared = guest.client.list_snapshots(ownerAccount=owner)["snapshots"]
    assert [item["snapshotArn"] for item in shared] == [arn]
    answer = guest.restore(snapshotName="good", ownerAccount=owner)
    assert answer["ownerAccount"] == owner
    assert guest.query(SUM) == FACTS
    guest.query("TRUNCATE facts")
    guest.restore(snapshotArn=arn)
    assert guest.query(SUM) == FACTS
    calls: list[Callable[[], Any]] = [
        lambda: guest.client.delete_snapshot(snapshotName="good"),
        lambda: guest.client.update_snapshot(snapshotName="good", retentionPeriod=1),
        lambda: guest.client.list_tags_for_resource(resourceArn=arn),
        lambda: guest.client.tag_resource(resourceArn=arn, tags=[{"key": "a", "value": "b"}]),
        lambda: guest.client.put_resource_policy(resourceArn=arn, policy="{}"),
        lambda: guest.client.delete_resource_policy(resourceArn=arn),
    ]
    for call in calls:
        with pytest.raises(guest.client.exceptions.ClientError) as caught:
            call()
        assert caught.value.response["Error"]["Code"] in {
            "ResourceNotFoundException",
            "ValidationException",
        }


def test_a_shared_snapshot_cannot_be_deleted_until_its_access_is_withdrawn(
    source: Warehouse, guest: Warehouse
) -> None:
    arn = share(source, guest.account.id)
    with pytest.raises(source.client.exceptions.ConflictException, match="shared"):
        source.client.delete_snapshot(snapshotName="good")
    source.client.delete_resource_policy(resourceArn=arn)
    with pytest.raises(guest.client.exceptions.ResourceNotFoundException):
        guest.client.get_snapshot(snapshotArn=arn)
    with pytest.raises(guest.client.exceptions.ResourceNotFoundException):
        guest.client.restore_from_snapshot(namespaceName="guest", workgroupName="guest", snapshotArn=arn)
    assert guest.client.list_snapshots(ownerAccount=source.account.id)["snapshots"] == []

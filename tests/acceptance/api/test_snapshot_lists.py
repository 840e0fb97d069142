"""ListSnapshots over one account with known snapshots of two namespaces, one of them deleted."""

import json
from datetime import timedelta
from typing import Any

import pytest

from support.service import Account, Service, delete_namespace, make_warehouse

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def known(service: Service) -> tuple[Account, list[dict[str, Any]]]:
    """An account with snapshots a1, a2 of `first` (deleted since, made anew) and b1 of `second`."""
    account = service.account()
    first = make_warehouse(account, "first")
    taken = [first.snapshot("a1"), first.snapshot("a2")]
    first.tear_down()
    delete_namespace(account.client, "first")
    second = make_warehouse(account, "second")
    taken.append(second.snapshot("b1"))
    second.tear_down()
    account.client.create_namespace(namespaceName="first")
    return account, taken


def names(account: Account, **filters: Any) -> list[str]:
    """The names that a filter lets through."""
    return [item["snapshotName"] for item in account.client.list_snapshots(**filters)["snapshots"]]


def test_own_snapshots_are_listed_in_order_of_their_creation(
    known: tuple[Account, list[dict[str, Any]]],
) -> None:
    account, taken = known
    assert account.client.list_snapshots()["snapshots"] == taken
    assert names(account, ownerAccount=account.id) == ["a1", "a2", "b1"]


def test_snapshots_of_a_deleted_namespace_are_found_by_its_name_and_its_arn(
    known: tuple[Account, list[dict[str, Any]]],
) -> None:
    account, taken = known
    assert names(account, namespaceName="first") == ["a1", "a2"]
    assert names(account, namespaceName="second") == ["b1"]
    assert names(account, namespaceArn=taken[0]["namespaceArn"]) == ["a1", "a2"]
    new = account.client.get_namespace(namespaceName="first")["namespace"]
    assert names(account, namespaceArn=new["namespaceArn"]) == []
    assert names(account, namespaceName="second", namespaceArn=taken[0]["namespaceArn"]) == []


def test_an_unknown_namespace_or_owner_gives_an_empty_list(
    known: tuple[Account, list[dict[str, Any]]],
) -> None:
    account, _ = known
    assert names(account, namespaceName="nowhere") == []
    assert names(account, ownerAccount="999999999999") == []


def test_times_include_their_bounds(known: tuple[Account, list[dict[str, Any]]]) -> None:
    account, taken = known
    times = [item["snapshotCreateTime"] for item in taken]
    second = timedelta(seconds=1)
    assert names(account, startTime=times[1]) in (["a2", "b1"], ["a1", "a2", "b1"])
    assert names(account, startTime=times[0] - second, endTime=times[2] + second) == [
        "a1",
        "a2",
        "b1",
    ]
    assert names(account, startTime=times[2] + second) == []
    assert names(account, endTime=times[0] - second) == []
    assert names(account, startTime=times[2] + second, endTime=times[0] - second) == []


def test_a_fraction_of_a_second_counts(known: tuple[Account, list[dict[str, Any]]]) -> None:
    account, taken = known
    moment = taken[1]["snapshotCreateTime"].timestamp()
    body = json.dumps({"startTime": round(moment, 3), "endTime": round(moment, 3)})
    listed = account.send("ListSnapshots", body.encode()).json()["snapshots"]
    assert [item["snapshotName"] for item in listed] == ["a2"]


def test_a_namespace_arn_that_is_none_is_refused(known: tuple[Account, list[dict[str, Any]]]) -> None:
    account, taken = known
    for arn in ("nonsense", taken[0]["snapshotArn"]):
        with pytest.raises(account.client.exceptions.ValidationException, match="ARN"):
            account.client.list_snapshots(namespaceArn=arn)


def test_snapshots_of_a_deleted_namespace_can_be_changed_and_deleted(
    known: tuple[Account, list[dict[str, Any]]],
) -> None:
    account, _ = known
    changed = account.client.update_snapshot(snapshotName="a1", retentionPeriod=3)["snapshot"]
    assert changed["snapshotRetentionPeriod"] == 3
    assert account.client.delete_snapshot(snapshotName="a1")["snapshot"]["status"] == "DELETED"
    assert names(account) == ["a2", "b1"]

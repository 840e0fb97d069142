"""Quotas, as settings of the service; each overflow is a ServiceQuotaExceededException."""

import pytest

from support.service import (
    OTHER_REGION,
    Account,
    Warehouse,
    delete_namespace,
    make_warehouse,
    running_service,
)

pytestmark = pytest.mark.acceptance


def test_every_quota_is_kept_per_account_and_region_and_freed_by_deletion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "NAMESPACES": 3,
        "WORKGROUPS": 2,
        "SNAPSHOTS": 2,
        "TAGS": 3,
        "BASE_CAPACITY": 32,
    }.items():
        monkeypatch.setenv(f"STILLFRAME_QUOTAS__{name}", str(value))
    with running_service() as service:
        account = service.account()
        _namespaces(account)
        first = make_warehouse(account, "one", baseCapacity=16)
        _capacity(account, first)
        second = make_warehouse(account, "two")
        _workgroups(account)
        second.tear_down()
        _snapshots(first)
        _tags(account)


def _namespaces(account: Account) -> None:
    names = ("first", "second", "third")
    for name in names:
        account.client.create_namespace(namespaceName=name)
    with pytest.raises(account.client.exceptions.ServiceQuotaExceededException, match="namespaces"):
        account.client.create_namespace(namespaceName="fourth")
    elsewhere = account.in_region(OTHER_REGION)
    assert elsewhere.create_namespace(namespaceName="fourth")["namespace"]["namespaceName"] == "fourth"
    assert account.service.account().client.create_namespace(namespaceName="fourth")
    for name in names:
        delete_namespace(account.client, name)


def _capacity(account: Account, first: Warehouse) -> None:
    over = account.client.exceptions.ServiceQuotaExceededException
    account.client.create_namespace(namespaceName="wide")
    with pytest.raises(over, match="base capacity"):
        account.client.create_workgroup(namespaceName="wide", workgroupName="wide", baseCapacity=24)
    with pytest.raises(over, match="base capacity"):
        account.client.update_workgroup(workgroupName=first.workgroup, baseCapacity=40)
    assert account.client.get_workgroup(workgroupName="one")["workgroup"]["baseCapacity"] == 16
    assert first.query("SELECT 1") == [(1,)]
    delete_namespace(account.client, "wide")


def _workgroups(account: Account) -> None:
    account.client.create_namespace(namespaceName="three")
    with pytest.raises(account.client.exceptions.ServiceQuotaExceededException, match="workgroups"):
        account.client.create_workgroup(namespaceName="three", workgroupName="three", baseCapacity=8)
    assert account.client.get_namespace(namespaceName="three")["namespace"]["status"] == "AVAILABLE"


def _snapshots(warehouse: Warehouse) -> None:
    client = warehouse.client
    warehouse.snapshot("s1")
    warehouse.snapshot("s2")
    over = client.exceptions.ServiceQuotaExceededException
    with pytest.raises(over, match="snapshots"):
        client.create_snapshot(namespaceName="one", snapshotName="s3")
    with pytest.raises(over, match="snapshots"):
        client.delete_namespace(namespaceName="three", finalSnapshotName="s3")
    assert client.get_namespace(namespaceName="three")["namespace"]["status"] == "AVAILABLE"
    client.delete_snapshot(snapshotName="s1")
    assert warehouse.snapshot("s3")["snapshotName"] == "s3"


def _tags(account: Account) -> None:
    arn = account.client.get_namespace(namespaceName="three")["namespace"]["namespaceArn"]
    with pytest.raises(account.client.exceptions.TooManyTagsException, match="at most 3"):
        account.client.tag_resource(
            resourceArn=arn, tags=[{"key": f"k{number}", "value": "v"} for number in range(4)]
        )

"""CreateWorkgroup, GetWorkgroup, ListWorkgroups, UpdateWorkgroup, DeleteWorkgroup."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from support.service import (
    REGION,
    Account,
    Service,
    Warehouse,
    make_warehouse,
    settled_namespace,
    settled_workgroup,
    wait_gone,
    warehouse_of,
)

pytestmark = pytest.mark.acceptance

UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
DEFAULT_PARAMETERS = {
    "auto_mv": "true",
    "datestyle": "ISO, MDY",
    "enable_case_sensitive_identifier": "false",
    "enable_user_activity_logging": "true",
    "max_query_execution_time": "14400",
    "query_group": "default",
    "require_ssl": "false",
    "search_path": "$user, public",
    "use_fips_ssl": "false",
}


def parameters(workgroup: dict[str, Any]) -> dict[str, str]:
    """The configuration parameters of an answer by key."""
    return {item["parameterKey"]: item["parameterValue"] for item in workgroup["configParameters"]}


def one(key: str, value: str) -> list[dict[str, str]]:
    """One configuration parameter, as a request holds it."""
    return [{"parameterKey": key, "parameterValue": value}]


def update(warehouse: Warehouse, **change: Any) -> dict[str, Any]:
    """Change the workgroup, wait until that is in force, and give what it is then."""
    answer = warehouse.client.update_workgroup(workgroupName=warehouse.workgroup, **change)["workgroup"]
    assert answer["status"] == "MODIFYING"
    warehouse.settle()
    return settled_workgroup(warehouse.client, warehouse.workgroup)


def test_a_workgroup_is_creating_then_available_and_its_namespace_busy_meanwhile(account: Account) -> None:
    account.client.create_namespace(namespaceName="shop")
    answer = account.client.create_workgroup(namespaceName="shop", workgroupName="desk", baseCapacity=8)
    assert answer["workgroup"]["status"] == "CREATING"
    assert "endpoint" not in answer["workgroup"]
    assert account.client.get_namespace(namespaceName="shop")["namespace"]["status"] == "MODIFYING"
    workgroup = settled_workgroup(account.client, "desk")
    settled_namespace(account.client, "shop")
    assert workgroup["endpoint"]["port"] == workgroup["port"]
    assert workgroup["endpoint"]["address"] == "127.0.0.1"
    Warehouse(account=account, namespace="shop", workgroup="desk").tear_down()


def test_a_workgroup_of_nothing_but_its_names_has_the_documented_defaults(account: Account) -> None:
    account.client.create_namespace(namespaceName="shop")
    account.client.create_workgroup(namespaceName="shop", workgroupName="desk")
    workgroup = settled_workgroup(account.client, "desk")
    settled_namespace(account.client, "shop")
    created: datetime = workgroup.pop("creationDate")
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=5)
    assert re.fullmatch(UUID, workgroup["workgroupId"])
    assert parameters(workgroup) == DEFAULT_PARAMETERS
    del workgroup["configParameters"]
    port = workgroup["port"]
    assert port in range(5431, 5456) or port in range(8191, 8216)
    version = workgroup.pop("workgroupVersion")
    assert re.fullmatch(r"\d+\.\d+", version)
    assert workgroup.pop("patchVersion") == version
    assert workgroup == {
        "baseCapacity": 128,
        "crossAccountVpcs": [],
        "endpoint": {"address": "127.0.0.1", "port": port, "vpcEndpoints": []},
        "enhancedVpcRouting": False,
        "extraComputeForAutomaticOptimization": False,
        "ipAddressType": "ipv4",
        "namespaceName": "shop",
        "port": port,
        "publiclyAccessible": False,
        "securityGroupIds": [],
        "status": "AVAILABLE",
        "subnetIds": [],
        "trackName": "current",
        "workgroupArn": f"arn:aws:redshift-serverless:{REGION}:{account.id}:workgroup/{workgroup['workgroupId']}",
        "workgroupId": workgroup["workgroupId"],
        "workgroupName": "desk",
    }
    Warehouse(account=account, namespace="shop", workgroup="desk").tear_down()


def test_every_parameter_of_a_workgroup_comes_back_and_works(account: Account) -> None:
    account.client.create_namespace(
        namespaceName="shop", adminUsername="admin", adminUserPassword="Snapshot1Time"
    )
    account.client.create_workgroup(
        namespaceName="shop",
        workgroupName="desk",
        baseCapacity=16,
        maxCapacity=64,
        configParameters=[
            *one("datestyle", "SQL, DMY"),
            *one("search_path", "sales, public"),
            *one("max_query_execution_time", "77"),
            *one("max_scan_row_count", "1000"),
        ],
        enhancedVpcRouting=True,
        extraComputeForAutomaticOptimization=True,
        ipAddressType="dualstack",
        port=8200,
        pricePerformanceTarget={"status": "ENABLED", "level": 75},
        publiclyAccessible=True,
        securityGroupIds=["sg-1"],
        subnetIds=["subnet-1", "subnet-2"],
        trackName="trailing",
        tags=[{"key": "team", "value": "bi"}],
    )
    made = Warehouse(account=account, namespace="shop", workgroup="desk")
    made.settle()
    workgroup = settled_workgroup(account.client, "desk")
    assert parameters(workgroup) == DEFAULT_PARAMETERS | {
        "datestyle": "SQL, DMY",
        "search_path": "sales, public",
        "max_query_execution_time": "77",
        "max_scan_row_count": "1000",
    }
    expected = {
        "baseCapacity": 16,
        "maxCapacity": 64,
        "enhancedVpcRouting": True,
        "extraComputeForAutomaticOptimization": True,
        "ipAddressType": "dualstack",
        "pricePerformanceTarget": {"status": "ENABLED", "level": 75},
        "publiclyAccessible": True,
        "securityGroupIds": ["sg-1"],
        "subnetIds": ["subnet-1", "subnet-2"],
        "trackName": "trailing",
    }
    assert {name: workgroup[name] for name in expected} == expected
    # Another program of this host may have port 8200: then the next free one of the second range is taken.
    assert workgroup["endpoint"]["port"] in range(8200, 8216)
    assert made.query("SHOW datestyle") == [("SQL, DMY",)]
    assert made.query("SHOW statement_timeout") == [("77s",)]
    assert made.query("SHOW search_path") == [('"sales", "public"',)]
    tags = account.client.list_tags_for_resource(resourceArn=workgroup["workgroupArn"])["tags"]
    assert tags == [{"key": "team", "value": "bi"}]
    made.tear_down()


@pytest.mark.parametrize(
    "wrong",
    [
        {"baseCapacity": 7},
        {"baseCapacity": 0},
        {"baseCapacity": -8},
        {"baseCapacity": 1032},
        {"baseCapacity": 12},
        {"maxCapacity": 3},
        {"maxCapacity": 5633},
        {"baseCapacity": 64, "maxCapacity": 32},
        {"port": 5432 + 1000},
        {"port": 0},
        {"port": 70000},
        {"ipAddressType": "ipv6"},
        {"trackName": "nightly"},
        {"trackName": "odd name"},
        {"pricePerformanceTarget": {"status": "MAYBE"}},
        {"pricePerformanceTarget": {"status": "ENABLED", "level": 101}},
        {"configParameters": one("fsync", "off")},
        {"configParameters": one("datestyle", "ISO'; --")},
        {"configParameters": one("max_query_execution_time", "soon")},
        {"configParameters": one("search_path", "a; DROP TABLE x")},
        {"configParameters": one("require_ssl", "perhaps")},
        {"configParameters": [*one("auto_mv", "true"), *one("auto_mv", "false")]},
        {"configParameters": [{"parameterKey": "auto_mv"}]},
        {"configParameters": [{"parameterValue": "true"}]},
        {"tags": [{"key": "AWS:x", "value": "y"}]},
    ],
)
def test_a_value_out_of_its_range_is_refused(account: Account, wrong: dict[str, Any]) -> None:
    account.client.create_namespace(namespaceName="shop")
    with pytest.raises(account.client.exceptions.ValidationException):
        account.client.create_workgroup(namespaceName="shop", workgroupName="desk", **wrong)
    assert account.client.list_workgroups()["workgroups"] == []
    assert account.client.get_namespace(namespaceName="shop")["namespace"]["status"] == "AVAILABLE"


@pytest.mark.parametrize("name", ["a" * 65, "Desk", "desk_1", "späti"])
def test_a_name_that_breaks_the_rules_is_refused(account: Account, name: str) -> None:
    account.client.create_namespace(namespaceName="shop")
    with pytest.raises(account.client.exceptions.ValidationException):
        account.client.create_workgroup(namespaceName="shop", workgroupName=name)


def test_a_workgroup_of_a_missing_namespace_is_not_found(account: Account) -> None:
    with pytest.raises(
        account.client.exceptions.ResourceNotFoundException, match=r"Serverless namespace nowhere not found\."
    ):
        account.client.create_workgroup(namespaceName="nowhere", workgroupName="desk")


def test_missing_workgroups_are_not_found_by_name(account: Account) -> None:
    missing = account.client.exceptions.ResourceNotFoundException
    for call in (
        account.client.get_workgroup,
        account.client.delete_workgroup,
        lambda workgroupName: account.client.update_workgroup(workgroupName=workgroupName, baseCapacity=8),  # noqa: N803
    ):
        with pytest.raises(missing, match=r"Serverless workgroup nowhere not found\.") as caught:
            call(workgroupName="nowhere")
        assert caught.value.response["resourceName"] == "nowhere"


def test_names_are_unique_and_a_namespace_has_one_workgroup(warehouse: Warehouse) -> None:
    client = warehouse.client
    with pytest.raises(client.exceptions.ConflictException, match="already exists"):
        client.create_workgroup(namespaceName="shop", workgroupName="second", baseCapacity=8)
    client.create_namespace(namespaceName="other")
    with pytest.raises(
        client.exceptions.ConflictException, match=r"Serverless workgroup shop already exists\."
    ):
        client.create_workgroup(namespaceName="other", workgroupName="shop", baseCapacity=8)
    assert [item["workgroupName"] for item in client.list_workgroups()["workgroups"]] == ["shop"]
    client.delete_namespace(namespaceName="other")


def test_workgroups_are_listed_as_they_are_read(warehouse: Warehouse) -> None:
    client = warehouse.client
    read = client.get_workgroup(workgroupName="shop")["workgroup"]
    assert client.list_workgroups()["workgroups"] == [read]
    assert client.list_workgroups(ownerAccount=warehouse.account.id)["workgroups"] == [read]
    assert client.list_workgroups(ownerAccount="999999999999")["workgroups"] == []


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"maxCapacity": 512}, {"maxCapacity": 512}),
        ({"baseCapacity": 24}, {"baseCapacity": 24}),
        ({"enhancedVpcRouting": True}, {"enhancedVpcRouting": True}),
        ({"extraComputeForAutomaticOptimization": True}, {"extraComputeForAutomaticOptimization": True}),
        ({"ipAddressType": "dualstack"}, {"ipAddressType": "dualstack"}),
        (
            {"pricePerformanceTarget": {"status": "ENABLED", "level": 25}},
            {"pricePerformanceTarget": {"status": "ENABLED", "level": 25}},
        ),
        ({"publiclyAccessible": True}, {"publiclyAccessible": True}),
        ({"securityGroupIds": ["sg-2", "sg-3"]}, {"securityGroupIds": ["sg-2", "sg-3"]}),
        ({"subnetIds": ["subnet-9"]}, {"subnetIds": ["subnet-9"]}),
        ({"trackName": "trailing"}, {"trackName": "trailing"}),
    ],
)
def test_each_setting_is_changed_by_itself(
    warehouse: Warehouse, change: dict[str, Any], shown: dict[str, Any]
) -> None:
    changed = update(warehouse, **change)
    assert {name: changed[name] for name in shown} == shown
    assert warehouse.query("SELECT 1") == [(1,)]


def test_a_limit_is_taken_away_by_minus_one(warehouse: Warehouse) -> None:
    assert update(warehouse, maxCapacity=1024)["maxCapacity"] == 1024
    assert "maxCapacity" not in update(warehouse, maxCapacity=-1)


def test_a_moved_workgroup_answers_at_its_new_port_only(warehouse: Warehouse) -> None:
    old = warehouse.client.get_workgroup(workgroupName="shop")["workgroup"]["endpoint"]["port"]
    wanted = 8193 if old != 8193 else 8201
    new = update(warehouse, port=wanted)["endpoint"]["port"]
    assert new != old
    assert warehouse.query("SELECT 1") == [(1,)]
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(host="127.0.0.1", port=old, user="admin", password="x", dbname="dev")


def test_changed_parameters_are_in_force_for_new_connections_and_the_others_stay(
    warehouse: Warehouse,
) -> None:
    update(warehouse, configParameters=one("max_query_execution_time", "33"))
    changed = update(warehouse, configParameters=one("datestyle", "German"))
    assert parameters(changed)["max_query_execution_time"] == "33"
    assert parameters(changed)["datestyle"] == "German"
    assert warehouse.query("SHOW statement_timeout") == [("33s",)]
    assert warehouse.query("SHOW datestyle")[0][0].startswith("German")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "No configuration"),
        ({"baseCapacity": 16, "port": 5440}, "Can't update multiple configurations at the same time"),
        ({"baseCapacity": 9}, "base capacity"),
        ({"port": 1}, "port"),
        ({"configParameters": one("shared_preload_libraries", "evil")}, "configuration parameter"),
        ({"maxCapacity": 4}, "lower than the base capacity"),
    ],
)
def test_a_change_that_breaks_the_rules_is_refused(
    warehouse: Warehouse, change: dict[str, Any], words: str
) -> None:
    before = warehouse.client.get_workgroup(workgroupName="shop")["workgroup"]
    with pytest.raises(warehouse.client.exceptions.ValidationException, match=words):
        warehouse.client.update_workgroup(workgroupName="shop", **change)
    assert warehouse.client.get_workgroup(workgroupName="shop")["workgroup"] == before


def test_a_busy_workgroup_refuses_changes_and_deletion_with_both_known_phrases(account: Account) -> None:
    account.client.create_namespace(namespaceName="shop")
    account.client.create_workgroup(namespaceName="shop", workgroupName="desk", baseCapacity=8)
    calls: list[Callable[[], Any]] = [
        lambda: account.client.update_workgroup(workgroupName="desk", baseCapacity=16),
        lambda: account.client.delete_workgroup(workgroupName="desk"),
    ]
    for call in calls:
        with pytest.raises(account.client.exceptions.ConflictException) as caught:
            call()
        assert "There is an operation in progress" in str(caught.value)
        assert "There is an operation running on the workgroup" in str(caught.value)
    made = Warehouse(account=account, namespace="shop", workgroup="desk")
    made.settle()
    made.tear_down()


def test_a_deleted_workgroup_takes_its_endpoint_along_and_leaves_the_data(account: Account) -> None:
    made = make_warehouse(account, "shop")
    made.query("CREATE TABLE kept AS SELECT 42 AS answer")
    before = account.client.get_workgroup(workgroupName="shop")["workgroup"]
    answer = account.client.delete_workgroup(workgroupName="shop")["workgroup"]
    assert answer["status"] == "DELETING"
    wait_gone(lambda: account.client.get_workgroup(workgroupName="shop"))
    settled_namespace(account.client, "shop")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(
            host="127.0.0.1", port=before["endpoint"]["port"], user="admin", password="x", dbname="dev"
        )
    account.client.create_workgroup(namespaceName="shop", workgroupName="shop", baseCapacity=8)
    made.settle()
    assert made.query("SELECT answer FROM kept") == [(42,)]
    after = account.client.get_workgroup(workgroupName="shop")["workgroup"]
    assert after["workgroupArn"] != before["workgroupArn"]
    made.tear_down()


def test_two_workgroups_that_want_the_same_port_get_different_ones(service: Service) -> None:
    with (
        warehouse_of(service.account(), "one", port=8205) as first,
        warehouse_of(service.account(), "two", port=8205) as second,
    ):
        ports = [
            item.client.get_workgroup(workgroupName=item.workgroup)["workgroup"] for item in (first, second)
        ]
        assert ports[0]["endpoint"]["port"] != ports[1]["endpoint"]["port"]
        first.query("CREATE TABLE whose AS SELECT 'first' AS name")
        second.query("CREATE TABLE whose AS SELECT 'second' AS name")
        assert first.query("SELECT name FROM whose") == [("first",)]
        assert second.query("SELECT name FROM whose") == [("second",)]

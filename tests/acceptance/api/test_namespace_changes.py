"""UpdateNamespace and DeleteNamespace: what changes, what is refused, and what really logs in afterwards."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from support.service import (
    LATER_PASSWORD,
    PASSWORD,
    Account,
    Service,
    Warehouse,
    delete_namespace,
    make_warehouse,
    settled_namespace,
    settled_snapshot,
    wait_for,
    wait_gone,
    warehouse_of,
)

pytestmark = pytest.mark.acceptance

ROLE = "arn:aws:iam::123456789012:role/Loader"
OTHER_ROLE = "arn:aws:iam::123456789012:role/Reader"
UNKNOWN_KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture
def warehouse(service: Service) -> Iterator[Warehouse]:
    """One of this test's own: its admin is changed."""
    with warehouse_of(service.account(), "shop") as made:
        yield made


def update(account: Account, **change: Any) -> dict[str, Any]:
    """Change the namespace `shop`, wait until that is in force, and give what it is then."""
    answer = account.client.update_namespace(namespaceName="shop", **change)["namespace"]
    assert answer["status"] == "MODIFYING"
    return settled_namespace(account.client, "shop")


def refuses_login(warehouse: Warehouse, *, user: str, password: str) -> bool:
    """Whether PostgreSQL says that this is not the password."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        warehouse.connect(user=user, password=password)
    return True


def test_a_new_admin_password_logs_in_and_the_old_one_does_not(warehouse: Warehouse) -> None:
    update(warehouse.account, adminUserPassword=LATER_PASSWORD, adminUsername="admin")
    assert warehouse.query("SELECT current_user", password=LATER_PASSWORD) == [("admin",)]
    assert refuses_login(warehouse, user="admin", password=PASSWORD)


def test_a_renamed_admin_keeps_everything_it_owns(warehouse: Warehouse) -> None:
    warehouse.query("CREATE TABLE mine AS SELECT 7 AS seven")
    changed = update(warehouse.account, adminUsername="boss", adminUserPassword=LATER_PASSWORD)
    assert changed["adminUsername"] == "boss"
    login = {"user": "boss", "password": LATER_PASSWORD}
    assert warehouse.query("SELECT seven FROM mine", **login) == [(7,)]
    assert warehouse.query("SELECT tableowner FROM pg_tables WHERE tablename = 'mine'", **login) == [
        ("boss",)
    ]
    assert refuses_login(warehouse, user="admin", password=PASSWORD)


def test_a_password_that_becomes_managed_logs_in_and_can_be_taken_back(warehouse: Warehouse) -> None:
    account, key = warehouse.account, warehouse.account.make_key()
    managed = update(account, manageAdminPassword=True, adminPasswordSecretKmsKeyId=key)
    assert managed["adminPasswordSecretKmsKeyId"] == key
    username, password = account.service.reveal_secret(account, managed["adminPasswordSecretArn"])
    assert warehouse.query("SELECT current_user", user=username, password=password) == [("admin",)]
    assert refuses_login(warehouse, user="admin", password=PASSWORD)
    taken_back = update(
        account, manageAdminPassword=False, adminUsername="admin", adminUserPassword=LATER_PASSWORD
    )
    assert "adminPasswordSecretArn" not in taken_back
    assert refuses_login(warehouse, user=username, password=password)
    assert warehouse.query("SELECT 1", password=LATER_PASSWORD) == [(1,)]


def test_an_admin_changed_before_there_is_a_workgroup_logs_in_once_there_is(account: Account) -> None:
    account.client.create_namespace(namespaceName="shop", adminUsername="admin", adminUserPassword=PASSWORD)
    update(account, adminUsername="boss", adminUserPassword=LATER_PASSWORD)
    account.client.create_workgroup(namespaceName="shop", workgroupName="late", baseCapacity=8)
    made = Warehouse(account=account, namespace="shop", workgroup="late")
    made.settle()
    assert made.query("SELECT current_user", user="boss", password=LATER_PASSWORD) == [("boss",)]
    made.tear_down()


def test_an_admin_changed_while_the_workgroup_is_away_logs_in_when_it_is_back(account: Account) -> None:
    first = make_warehouse(account, "shop")
    first.query("CREATE TABLE kept AS SELECT 1 AS one")
    first.tear_down()
    update(account, adminUsername="admin", adminUserPassword=LATER_PASSWORD)
    account.client.create_workgroup(namespaceName="shop", workgroupName="shop", baseCapacity=8)
    first.settle()
    assert first.query("SELECT one FROM kept", password=LATER_PASSWORD) == [(1,)]
    first.tear_down()


def test_roles_are_changed_and_the_default_is_cleared_by_an_empty_text(account: Account) -> None:
    account.client.create_namespace(namespaceName="shop", iamRoles=[ROLE])
    changed = update(account, iamRoles=[ROLE, OTHER_ROLE], defaultIamRoleArn=OTHER_ROLE)
    assert changed["defaultIamRoleArn"] == OTHER_ROLE
    assert len(changed["iamRoles"]) == 2
    assert "defaultIamRoleArn" not in update(account, defaultIamRoleArn="")
    assert update(account, defaultIamRoleArn=ROLE)["defaultIamRoleArn"] == ROLE
    emptied = update(account, iamRoles=[])
    assert emptied["iamRoles"] == []
    assert "defaultIamRoleArn" not in emptied


def test_log_exports_are_changed(account: Account) -> None:
    account.client.create_namespace(namespaceName="shop", logExports=["userlog"])
    assert update(account, logExports=["connectionlog"])["logExports"] == ["connectionlog"]
    assert update(account, logExports=[])["logExports"] == []


def test_a_key_is_changed_but_never_back_to_the_service_owned_one(account: Account) -> None:
    account.client.create_namespace(namespaceName="shop")
    for key in (account.make_key(), account.make_key()):
        assert update(account, kmsKeyId=key)["kmsKeyId"] == key
    with pytest.raises(account.client.exceptions.ValidationException, match="AWS owned key"):
        account.client.update_namespace(namespaceName="shop", kmsKeyId="AWS_OWNED_KMS_KEY")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "No configuration"),
        (
            {"kmsKeyId": UNKNOWN_KEY, "logExports": []},
            "Can't update multiple configurations at the same time",
        ),
        (
            {"kmsKeyId": UNKNOWN_KEY, "adminUsername": "x1", "adminUserPassword": PASSWORD},
            "Can't update multiple",
        ),
        ({"iamRoles": ["nonsense"]}, "not the ARN of an IAM role"),
        ({"defaultIamRoleArn": ROLE}, "default IAM role"),
        ({"kmsKeyId": "nonsense"}, "KMS key"),
        ({"kmsKeyId": UNKNOWN_KEY}, r"does not exist.*stillframe key create"),
        ({"adminUsername": "boss"}, "Specify both the user name and password, or neither."),
        ({"adminUserPassword": "weak"}, "Specify both"),
        ({"adminUsername": "boss", "adminUserPassword": "weak"}, "password"),
        ({"manageAdminPassword": False}, "password"),
        ({"manageAdminPassword": True, "adminUserPassword": PASSWORD}, "manageAdminPassword"),
        ({"s3TableAction": "Enable"}, "not offered"),
        ({"logDestinationType": "cloudwatch"}, "not offered"),
    ],
)
def test_a_change_that_breaks_the_rules_is_refused(
    account: Account, change: dict[str, Any], words: str
) -> None:
    before = account.client.create_namespace(namespaceName="shop")["namespace"]
    with pytest.raises(account.client.exceptions.ValidationException, match=words):
        account.client.update_namespace(namespaceName="shop", **change)
    assert account.client.get_namespace(namespaceName="shop")["namespace"] == before


def test_a_namespace_that_is_busy_refuses_a_second_change_with_both_known_phrases(account: Account) -> None:
    account.client.create_namespace(namespaceName="shop")
    account.client.create_workgroup(namespaceName="shop", workgroupName="shop", baseCapacity=8)
    assert account.client.get_namespace(namespaceName="shop")["namespace"]["status"] == "MODIFYING"
    calls: list[Callable[[], Any]] = [
        lambda: account.client.update_namespace(namespaceName="shop", logExports=[]),
        lambda: account.client.create_snapshot(namespaceName="shop", snapshotName="early"),
    ]
    for call in calls:
        with pytest.raises(account.client.exceptions.ConflictException) as caught:
            call()
        assert "There is an operation in progress on the namespace" in str(caught.value)
        assert "There is an operation running on the namespace" in str(caught.value)
    made = Warehouse(account=account, namespace="shop", workgroup="shop")
    made.settle()
    made.tear_down()


def test_changing_or_deleting_a_missing_namespace_is_not_found(account: Account) -> None:
    missing = account.client.exceptions.ResourceNotFoundException
    with pytest.raises(missing, match=r"Serverless namespace nowhere not found\."):
        account.client.update_namespace(namespaceName="nowhere", logExports=[])
    with pytest.raises(missing, match=r"Serverless namespace nowhere not found\."):
        account.client.delete_namespace(namespaceName="nowhere")


def test_a_deleted_namespace_is_deleting_or_gone_at_the_next_look(account: Account) -> None:
    created = account.client.create_namespace(namespaceName="shop", tags=[{"key": "a", "value": "b"}])
    answer = account.client.delete_namespace(namespaceName="shop")["namespace"]
    assert answer["status"] == "DELETING"
    assert answer["namespaceId"] == created["namespace"]["namespaceId"]
    still = account.client.list_namespaces()["namespaces"]
    assert {namespace["status"] for namespace in still} <= {"DELETING"}
    wait_gone(lambda: account.client.get_namespace(namespaceName="shop"))
    assert account.client.list_namespaces()["namespaces"] == []
    with pytest.raises(account.client.exceptions.ResourceNotFoundException):
        account.client.list_tags_for_resource(resourceArn=answer["namespaceArn"])


def test_a_new_namespace_of_an_old_name_is_another_one(account: Account) -> None:
    old = account.client.create_namespace(namespaceName="shop", dbName="ledger")["namespace"]
    delete_namespace(account.client, "shop")
    new = account.client.create_namespace(namespaceName="shop")["namespace"]
    assert new["namespaceId"] != old["namespaceId"]
    assert new["dbName"] == "dev"


def test_a_namespace_with_a_workgroup_is_not_deleted(warehouse: Warehouse) -> None:
    client = warehouse.client
    with pytest.raises(client.exceptions.ConflictException, match="workgroup"):
        client.delete_namespace(namespaceName="shop")
    assert client.get_namespace(namespaceName="shop")["namespace"]["status"] == "AVAILABLE"
    assert warehouse.query("SELECT 1") == [(1,)]


def test_the_managed_secret_goes_with_its_namespace(account: Account) -> None:
    namespace = account.client.create_namespace(namespaceName="shop", manageAdminPassword=True)["namespace"]
    delete_namespace(account.client, "shop")
    operator = account.service.operator_of(account)
    with pytest.raises(operator.exceptions.ResourceNotFoundException):
        operator.get_managed_secret(secretArn=namespace["adminPasswordSecretArn"])


def test_a_final_snapshot_holds_the_data_and_outlives_the_namespace(account: Account) -> None:
    source = make_warehouse(account, "shop")
    source.query("CREATE TABLE last AS SELECT g FROM generate_series(1, 1000) g")
    source.tear_down()
    answer = account.client.delete_namespace(
        namespaceName="shop", finalSnapshotName="the-end", finalSnapshotRetentionPeriod=30
    )["namespace"]
    assert answer["status"] == "DELETING"
    wait_gone(lambda: account.client.get_namespace(namespaceName="shop"))
    final = account.client.get_snapshot(snapshotName="the-end")["snapshot"]
    assert final["status"] == "AVAILABLE"
    assert final["snapshotRetentionPeriod"] == 30
    assert final["namespaceArn"] == answer["namespaceArn"]
    with warehouse_of(account, "elsewhere", admin_password=LATER_PASSWORD) as target:
        target.restore(snapshotName="the-end")
        assert target.query("SELECT count(*), sum(g) FROM last") == [(1000, 500500)]


def test_a_final_snapshot_of_a_stopped_server_reads_only_what_changed(account: Account) -> None:
    source = make_warehouse(account, "shop")
    source.query("CREATE TABLE last AS SELECT g, repeat('x', 500) AS t FROM generate_series(1, 20000) g")
    source.snapshot("before")
    source.query("UPDATE last SET t = 'changed' WHERE g = 10000")
    source.tear_down()
    delete_namespace(account.client, "shop", finalSnapshotName="the-end")
    settled_snapshot(account.client, "the-end")
    detail = account.service.operator_of(account).describe_snapshot(snapshotName="the-end")["detail"]
    assert detail["mode"] == "incremental"
    with warehouse_of(account, "elsewhere", admin_password=LATER_PASSWORD) as target:
        target.restore(snapshotName="the-end")
        assert target.query("SELECT t FROM last WHERE g = 10000") == [("changed",)]
        assert target.query("SELECT count(*), sum(g) FROM last") == [(20000, 200010000)]


def test_the_final_snapshot_of_a_namespace_that_never_had_a_workgroup_restores(account: Account) -> None:
    account.client.create_namespace(
        namespaceName="paper", adminUsername="boss", adminUserPassword=PASSWORD, dbName="ledger"
    )
    delete_namespace(account.client, "paper", finalSnapshotName="paper-end")
    assert settled_snapshot(account.client, "paper-end")["snapshotRetentionPeriod"] == -1
    with warehouse_of(account, "elsewhere") as target:
        target.restore(snapshotName="paper-end")
        assert target.query("SELECT current_user", "ledger", user="boss") == [("boss",)]


def test_a_final_snapshot_whose_name_is_taken_keeps_the_namespace(warehouse: Warehouse) -> None:
    client = warehouse.client
    warehouse.query("CREATE TABLE kept AS SELECT 1 AS one")
    warehouse.snapshot("taken")
    warehouse.tear_down()
    with pytest.raises(client.exceptions.ConflictException, match="already exists"):
        client.delete_namespace(namespaceName="shop", finalSnapshotName="taken")
    assert client.get_namespace(namespaceName="shop")["namespace"]["status"] == "AVAILABLE"
    client.create_workgroup(namespaceName="shop", workgroupName="shop", baseCapacity=8)
    warehouse.settle()
    assert warehouse.query("SELECT one FROM kept") == [(1,)]


@pytest.mark.parametrize(
    "final",
    [
        {"finalSnapshotRetentionPeriod": 7},
        {"finalSnapshotName": "Upper"},
        {"finalSnapshotName": "x" * 256},
        {"finalSnapshotName": ""},
        {"finalSnapshotName": "fine", "finalSnapshotRetentionPeriod": 0},
        {"finalSnapshotName": "fine", "finalSnapshotRetentionPeriod": 3654},
        {"finalSnapshotName": "fine", "finalSnapshotRetentionPeriod": -2},
    ],
)
def test_a_final_snapshot_that_breaks_the_rules_keeps_the_namespace(
    account: Account, final: dict[str, Any]
) -> None:
    account.client.create_namespace(namespaceName="shop")
    with pytest.raises(account.client.exceptions.ValidationException):
        account.client.delete_namespace(namespaceName="shop", **final)
    assert account.client.get_namespace(namespaceName="shop")["namespace"]["status"] == "AVAILABLE"
    assert account.client.list_snapshots()["snapshots"] == []


def test_deleting_a_namespace_while_its_workgroup_goes_is_refused_until_it_is_gone(account: Account) -> None:
    make_warehouse(account, "shop")
    account.client.delete_workgroup(workgroupName="shop")
    seen: list[str | None] = []
    wait_for(lambda: seen.append(_delete(account)), lambda _: seen[-1] is None)
    assert all("operation running" in str(message) for message in seen[:-1])
    wait_gone(lambda: account.client.get_namespace(namespaceName="shop"))


def _delete(account: Account) -> str | None:
    """What the refusal says; None when the deletion was accepted."""
    try:
        account.client.delete_namespace(namespaceName="shop")
    except account.client.exceptions.ConflictException as error:
        return str(error)
    return None

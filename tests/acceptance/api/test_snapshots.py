"""CreateSnapshot, GetSnapshot, ListSnapshots, UpdateSnapshot, DeleteSnapshot."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.service import (
    REGION,
    Account,
    Warehouse,
    delete_namespace,
    make_warehouse,
    settled_namespace,
    settled_snapshot,
    wait_for,
)

pytestmark = pytest.mark.acceptance

UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
NO_WORKGROUP = "You can't create a snapshot because there isn't a workgroup created for the namespace"


def create(warehouse: Warehouse, name: str, **options: Any) -> dict[str, Any]:
    """The answer of CreateSnapshot; the snapshot is left to finish by itself."""
    answer: dict[str, Any] = warehouse.client.create_snapshot(
        namespaceName=warehouse.namespace, snapshotName=name, **options
    )["snapshot"]
    return answer


def test_a_snapshot_is_creating_in_the_answer_and_shows_only_what_is_known(warehouse: Warehouse) -> None:
    namespace = warehouse.client.get_namespace(namespaceName="shop")["namespace"]
    snapshot = create(warehouse, "first", retentionPeriod=7)
    created: datetime = snapshot.pop("snapshotCreateTime")
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=5)
    identifier = snapshot["snapshotArn"].rpartition("/")[2]
    assert re.fullmatch(UUID, identifier)
    assert snapshot == {
        "accountsWithProvisionedRestoreAccess": [],
        "accountsWithRestoreAccess": [],
        "adminUsername": "admin",
        "kmsKeyId": "AWS_OWNED_KMS_KEY",
        "namespaceArn": namespace["namespaceArn"],
        "namespaceName": "shop",
        "ownerAccount": warehouse.account.id,
        "snapshotArn": f"arn:aws:redshift-serverless:{REGION}:{warehouse.account.id}:snapshot/{identifier}",
        "snapshotName": "first",
        "snapshotRetentionPeriod": 7,
        "status": "CREATING",
    }
    settled_snapshot(warehouse.client, "first")


def test_an_available_snapshot_has_true_sizes_times_and_retention(warehouse: Warehouse) -> None:
    warehouse.query("CREATE TABLE big AS SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 30000) g")
    (on_disk,) = warehouse.query("SELECT sum(pg_database_size(oid))::int8 / 2 ^ 20 FROM pg_database")[0]
    before = datetime.now(UTC)
    snapshot = warehouse.snapshot("sized", retentionPeriod=10)
    assert snapshot["snapshotRemainingDays"] == 10
    started = snapshot["snapshotRetentionStartTime"]
    assert before - timedelta(seconds=2) < started < datetime.now(UTC) + timedelta(seconds=2)
    assert started >= snapshot["snapshotCreateTime"] - timedelta(seconds=1)
    assert snapshot["totalBackupSizeInMegaBytes"] == pytest.approx(on_disk, rel=0.5)
    assert 0 < snapshot["actualIncrementalBackupSizeInMegaBytes"] < snapshot["totalBackupSizeInMegaBytes"]
    assert snapshot["backupProgressInMegaBytes"] > 0
    assert snapshot["currentBackupRateInMegaBytesPerSecond"] == 0
    assert snapshot["elapsedTimeInSeconds"] >= 0
    assert snapshot["estimatedSecondsToCompletion"] == 0


def test_a_second_snapshot_of_nearly_the_same_data_stores_little(warehouse: Warehouse) -> None:
    warehouse.query("CREATE TABLE wide AS SELECT g, random() r FROM generate_series(1, 100000) g")
    warehouse.snapshot("whole")
    warehouse.query("UPDATE wide SET r = 0 WHERE g = 7")
    again = warehouse.snapshot("little")
    assert again["actualIncrementalBackupSizeInMegaBytes"] < 0.2 * again["totalBackupSizeInMegaBytes"]


def test_a_snapshot_is_found_by_name_by_arn_and_with_its_owner(warehouse: Warehouse) -> None:
    snapshot, client = warehouse.snapshot("found"), warehouse.client
    own = warehouse.account.id
    assert client.get_snapshot(snapshotName="found")["snapshot"] == snapshot
    assert client.get_snapshot(snapshotArn=snapshot["snapshotArn"])["snapshot"] == snapshot
    assert client.get_snapshot(snapshotName="found", ownerAccount=own)["snapshot"] == snapshot
    both = {"snapshotName": "found", "snapshotArn": snapshot["snapshotArn"], "ownerAccount": own}
    assert client.get_snapshot(**both)["snapshot"] == snapshot


def test_a_snapshot_that_is_named_wrongly_is_invalid_or_not_found(warehouse: Warehouse) -> None:
    client = warehouse.client
    arn = warehouse.snapshot("named")["snapshotArn"]
    invalid, missing = client.exceptions.ValidationException, client.exceptions.ResourceNotFoundException
    with pytest.raises(invalid, match="Either snapshotName or snapshotArn"):
        client.get_snapshot()
    with pytest.raises(invalid, match="do not name the same snapshot"):
        client.get_snapshot(snapshotName="other", snapshotArn=arn)
    with pytest.raises(invalid, match="ARN"):
        client.get_snapshot(snapshotArn="nonsense")
    with pytest.raises(missing, match=r"Serverless snapshot nowhere not found\.") as caught:
        client.get_snapshot(snapshotName="nowhere")
    assert caught.value.response["resourceName"] == "nowhere"
    with pytest.raises(missing, match="snapshot"):
        client.get_snapshot(snapshotName="named", ownerAccount="999999999999")
    for wrong in (
        arn[:-4] + "0000",
        arn.replace(":snapshot/", ":namespace/"),
        f"arn:aws:redshift:{REGION}:{warehouse.account.id}:snapshot:cluster/snap",
    ):
        with pytest.raises(missing, match="snapshot"):
            client.get_snapshot(snapshotArn=wrong)


@pytest.mark.parametrize(
    "name", ["", "Upper", "under_score", "dot.ted", "sp ace", "x" * 256, "ümlaut", "a\n"]
)
def test_a_snapshot_name_that_breaks_the_rules_is_refused(warehouse: Warehouse, name: str) -> None:
    with pytest.raises(warehouse.client.exceptions.ValidationException, match="name"):
        create(warehouse, name)
    assert settled_namespace(warehouse.client, "shop")


@pytest.mark.parametrize("name", ["1", "9-lives", "a--b", "-", "x" * 255])
def test_a_snapshot_name_within_the_rules_is_accepted(warehouse: Warehouse, name: str) -> None:
    assert warehouse.snapshot(name)["snapshotName"] == name


@pytest.mark.parametrize("days", [0, -2, 3654, 2**31 - 1, -(2**31)])
def test_a_retention_that_breaks_the_rules_is_refused(warehouse: Warehouse, days: int) -> None:
    words = "The retention period must be either -1 or an integer between 1 and 3653."
    with pytest.raises(warehouse.client.exceptions.ValidationException, match=words):
        create(warehouse, "retained", retentionPeriod=days)


def test_the_shortest_and_the_longest_retention_are_accepted(warehouse: Warehouse) -> None:
    assert warehouse.snapshot("shortest", retentionPeriod=1)["snapshotRemainingDays"] == 1
    assert warehouse.snapshot("longest", retentionPeriod=3653)["snapshotRemainingDays"] == 3653
    assert warehouse.snapshot("endless", retentionPeriod=-1)["snapshotRemainingDays"] == -1


def test_names_are_unique_over_all_namespaces_of_an_account(warehouse: Warehouse) -> None:
    client = warehouse.client
    warehouse.snapshot("unique")
    with pytest.raises(
        client.exceptions.ConflictException, match=r"Serverless snapshot unique already exists\."
    ):
        create(warehouse, "unique")
    other = make_warehouse(warehouse.account, "other")
    with pytest.raises(client.exceptions.ConflictException, match="already exists"):
        create(other, "unique")
    other.tear_down()
    delete_namespace(client, "other")


def test_a_namespace_that_is_missing_or_has_no_workgroup_is_not_snapshotted(account: Account) -> None:
    client = account.client
    with pytest.raises(
        client.exceptions.ResourceNotFoundException, match=r"Serverless namespace nowhere not found\."
    ):
        client.create_snapshot(namespaceName="nowhere", snapshotName="fine")
    client.create_namespace(namespaceName="lonely")
    with pytest.raises(client.exceptions.ValidationException, match=NO_WORKGROUP):
        client.create_snapshot(namespaceName="lonely", snapshotName="fine")
    assert client.list_snapshots()["snapshots"] == []


def test_a_snapshot_that_is_being_taken_keeps_everything_else_waiting(warehouse: Warehouse) -> None:
    client, conflict = warehouse.client, warehouse.client.exceptions.ConflictException
    create(warehouse, "busy")
    calls = {
        "operation running on the namespace": lambda: create(warehouse, "second"),
        "operation running on the snapshot": lambda: client.delete_snapshot(snapshotName="busy"),
        "There is an operation in progress": lambda: client.update_snapshot(
            snapshotName="busy", retentionPeriod=5
        ),
    }
    seen = {words: _refusal(call) for words, call in calls.items()}
    # On a machine this fast a copy may end between two calls: what was refused was refused with the words.
    assert any(seen.values())
    for words, refusal in seen.items():
        assert refusal is None or (isinstance(refusal, conflict) and words in str(refusal))
    wait_for(lambda: client.list_snapshots()["snapshots"], lambda all_: not _creating(all_))
    settled_namespace(client, "shop")


def _refusal(call: Callable[[], Any]) -> ClientError | None:
    try:
        call()
    except ClientError as error:
        return error
    return None


def _creating(snapshots: list[dict[str, Any]]) -> bool:
    return any(snapshot["status"] == "CREATING" for snapshot in snapshots)


def test_a_snapshot_has_the_tags_of_its_request_and_not_those_of_its_namespace(warehouse: Warehouse) -> None:
    client = warehouse.client
    namespace = client.get_namespace(namespaceName="shop")["namespace"]
    client.tag_resource(resourceArn=namespace["namespaceArn"], tags=[{"key": "of", "value": "namespace"}])
    snapshot = warehouse.snapshot(
        "tagged", tags=[{"key": "why", "value": "release 7"}, {"key": "k", "value": ""}]
    )
    assert client.list_tags_for_resource(resourceArn=snapshot["snapshotArn"])["tags"] == [
        {"key": "k", "value": ""},
        {"key": "why", "value": "release 7"},
    ]


@pytest.mark.parametrize(
    ("count", "error"),
    [(51, "TooManyTagsException"), (200, "TooManyTagsException"), (201, "ValidationException")],
)
def test_too_many_tags_are_refused_and_nothing_is_left(warehouse: Warehouse, count: int, error: str) -> None:
    tags = [{"key": f"k{number}", "value": "v"} for number in range(count)]
    with pytest.raises(getattr(warehouse.client.exceptions, error)) as caught:
        create(warehouse, "overtagged", tags=tags)
    if error == "TooManyTagsException":
        assert caught.value.response["resourceName"]
    with pytest.raises(warehouse.client.exceptions.ResourceNotFoundException):
        warehouse.client.get_snapshot(snapshotName="overtagged")


def test_only_the_retention_of_a_snapshot_changes_and_its_start_stays(warehouse: Warehouse) -> None:
    client = warehouse.client
    before = warehouse.snapshot("updated")
    assert before["snapshotRetentionPeriod"] == -1
    after = client.update_snapshot(snapshotName="updated", retentionPeriod=10)["snapshot"]
    assert after == before | {"snapshotRetentionPeriod": 10, "snapshotRemainingDays": 10}
    assert client.get_snapshot(snapshotName="updated")["snapshot"] == after
    assert client.update_snapshot(snapshotName="updated")["snapshot"] == after
    assert client.update_snapshot(snapshotName="updated", retentionPeriod=-1)["snapshot"] == before


def test_an_update_that_breaks_the_rules_is_refused(warehouse: Warehouse) -> None:
    client = warehouse.client
    warehouse.snapshot("kept")
    for days in (0, -2, 3654):
        with pytest.raises(client.exceptions.ValidationException, match="between 1 and 3653"):
            client.update_snapshot(snapshotName="kept", retentionPeriod=days)
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="Serverless snapshot nowhere"):
        client.update_snapshot(snapshotName="nowhere", retentionPeriod=5)
    assert client.get_snapshot(snapshotName="kept")["snapshot"]["snapshotRetentionPeriod"] == -1


def test_a_deleted_snapshot_is_gone_and_its_name_free_at_once(warehouse: Warehouse) -> None:
    client = warehouse.client
    snapshot = warehouse.snapshot("gone", tags=[{"key": "a", "value": "b"}])
    assert client.delete_snapshot(snapshotName="gone")["snapshot"] == snapshot | {"status": "DELETED"}
    missing = client.exceptions.ResourceNotFoundException
    calls: list[Callable[[], Any]] = [
        lambda: client.get_snapshot(snapshotName="gone"),
        lambda: client.get_snapshot(snapshotArn=snapshot["snapshotArn"]),
        lambda: client.update_snapshot(snapshotName="gone", retentionPeriod=1),
        lambda: client.list_tags_for_resource(resourceArn=snapshot["snapshotArn"]),
        lambda: client.delete_snapshot(snapshotName="gone"),
    ]
    for call in calls:
        with pytest.raises(missing, match="snapshot"):
            call()
    assert "gone" not in {item["snapshotName"] for item in client.list_snapshots()["snapshots"]}
    assert warehouse.snapshot("gone")["snapshotArn"] != snapshot["snapshotArn"]


def test_a_snapshot_keeps_the_key_and_the_secret_of_its_moment(account: Account) -> None:
    client, key = account.client, account.make_key()
    client.create_namespace(namespaceName="shop", kmsKeyId=key, manageAdminPassword=True)
    client.create_workgroup(namespaceName="shop", workgroupName="shop", baseCapacity=8)
    made = Warehouse(account=account, namespace="shop", workgroup="shop")
    made.settle()
    namespace = client.get_namespace(namespaceName="shop")["namespace"]
    snapshot = made.snapshot("keyed")
    assert snapshot["kmsKeyId"] == key
    assert snapshot["adminPasswordSecretArn"] == namespace["adminPasswordSecretArn"]
    assert snapshot["adminPasswordSecretKmsKeyId"] == namespace["adminPasswordSecretKmsKeyId"]
    client.update_namespace(namespaceName="shop", kmsKeyId=account.make_key())
    made.settle()
    assert client.get_snapshot(snapshotName="keyed")["snapshot"]["kmsKeyId"] == key
    made.restore(snapshotName="keyed")
    made.tear_down()

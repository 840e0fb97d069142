"""RestoreFromSnapshot: into the same namespace, another one, from another account's snapshot."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from support.service import (
    LATER_PASSWORD,
    PASSWORD,
    REGION,
    Account,
    Service,
    Warehouse,
    settled_snapshot,
    wait_for,
    warehouse_of,
)

pytestmark = pytest.mark.acceptance

UNKNOWN_KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture(scope="module")
def source(service: Service) -> Iterator[Warehouse]:
    """A warehouse with two databases, a role and snapshot `good` of them."""
    with warehouse_of(service.account(), "source") as made:
        made.query(
            "CREATE TABLE facts AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 20000) g"
        )
        made.query("CREATE DATABASE second")
        made.query("CREATE TABLE notes AS SELECT 'kept'::text AS note", "second")
        made.query("CREATE ROLE analyst LOGIN PASSWORD 'Analyst1Pass' IN ROLE pg_read_all_data")
        made.snapshot("good")
        yield made


@pytest.fixture(scope="module")
def target(source: Warehouse) -> Iterator[Warehouse]:
    """Another warehouse of the same account, restored into again and again."""
    with warehouse_of(source.account, "target", admin_password=LATER_PASSWORD) as made:
        made.query("CREATE TABLE old AS SELECT 1 AS one", password=LATER_PASSWORD)
        yield made


FACTS = [(20000, 200010000)]
SUM = "SELECT count(*), sum(id) FROM facts"


def test_a_damaged_namespace_has_every_row_back(source: Warehouse) -> None:
    source.query("DROP TABLE facts")
    source.query("DROP DATABASE second")
    source.query("CREATE DATABASE later")
    source.query("DROP ROLE analyst")
    before = source.client.get_workgroup(workgroupName="source")["workgroup"]
    answer = source.client.restore_from_snapshot(
        namespaceName="source", workgroupName="source", snapshotName="good"
    )
    assert answer["snapshotName"] == "good"
    assert answer["ownerAccount"] == source.account.id
    assert answer["namespace"]["namespaceName"] == "source"
    assert answer["namespace"]["status"] == "MODIFYING"
    assert source.client.get_workgroup(workgroupName="source")["workgroup"]["status"] == "MODIFYING"
    source.settle()
    assert source.query(SUM) == FACTS
    assert source.query("SELECT note FROM notes", "second") == [("kept",)]
    assert source.query(SUM, user="analyst", password="Analyst1Pass") == FACTS
    databases = {name for (name,) in source.query("SELECT datname FROM pg_database")}
    assert "second" in databases
    assert "later" not in databases
    after = source.client.get_workgroup(workgroupName="source")["workgroup"]
    assert after == before


def test_another_namespace_takes_the_databases_and_the_admin_and_keeps_what_it_is(
    source: Warehouse, target: Warehouse
) -> None:
    client = target.client
    before = client.get_namespace(namespaceName="target")["namespace"]
    arn = client.get_snapshot(snapshotName="good")["snapshot"]["snapshotArn"]
    answer = target.restore(snapshotArn=arn)
    assert answer["snapshotName"] == "good"
    assert target.query(SUM) == FACTS
    assert target.query("SELECT count(*) FROM pg_tables WHERE tablename = 'old'") == [(0,)]
    assert target.query("SELECT note FROM notes", "second") == [("kept",)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        target.connect(password=LATER_PASSWORD)
    assert client.get_namespace(namespaceName="target")["namespace"] == before
    assert source.query(SUM) == FACTS


def test_the_source_and_its_copy_live_apart_from_then_on(source: Warehouse, target: Warehouse) -> None:
    target.restore(snapshotName="good")
    target.query("DELETE FROM facts WHERE id > 10")
    assert source.query(SUM) == FACTS
    assert target.query("SELECT count(*) FROM facts") == [(10,)]


def test_a_restored_namespace_can_be_snapshotted_and_restored_again(
    source: Warehouse, target: Warehouse
) -> None:
    target.restore(snapshotName="good")
    target.query("INSERT INTO facts VALUES (-1, 'second life')")
    target.snapshot("second-life")
    target.query("TRUNCATE facts")
    target.restore(snapshotName="second-life")
    assert target.query("SELECT text FROM facts WHERE id = -1") == [("second life",)]
    target.restore(snapshotName="good")
    assert target.query(SUM) == FACTS
    source.restore(snapshotName="second-life")
    assert source.query("SELECT count(*) FROM facts") == [(20001,)]
    source.restore(snapshotName="good")


def test_a_managed_password_replaces_the_one_of_the_snapshot_when_asked_for(target: Warehouse) -> None:
    key = target.account.make_key()
    target.restore(snapshotName="good", manageAdminPassword=True, adminPasswordSecretKmsKeyId=key)
    namespace = target.client.get_namespace(namespaceName="target")["namespace"]
    assert namespace["adminPasswordSecretKmsKeyId"] == key
    username, password = target.account.service.reveal_secret(
        target.account, namespace["adminPasswordSecretArn"]
    )
    assert target.query(SUM, user=username, password=password) == FACTS
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        target.connect(password=PASSWORD)
    target.restore(snapshotName="good", maintainIntegration=False)
    assert "adminPasswordSecretArn" not in target.client.get_namespace(namespaceName="target")["namespace"]
    assert target.query(SUM) == FACTS


def test_publicly_accessible_goes_back_to_the_snapshot(target: Warehouse) -> None:
    target.client.update_workgroup(workgroupName="target", publiclyAccessible=True)
    target.settle()
    target.restore(snapshotName="good")
    assert not target.client.get_workgroup(workgroupName="target")["workgroup"]["publiclyAccessible"]


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({}, "ValidationException", "Either snapshotName or snapshotArn"),
        ({"snapshotName": "nowhere"}, "ResourceNotFoundException", "Serverless snapshot nowhere not found."),
        ({"snapshotArn": "nonsense"}, "ValidationException", "ARN"),
        ({"snapshotName": "good", "snapshotArn": "given"}, "ValidationException", "not both"),
        ({"snapshotName": "good", "ownerAccount": "999999999999"}, "ResourceNotFoundException", "snapshot"),
        (
            {"snapshotArn": f"arn:aws:redshift:{REGION}:123456789012:snapshot:cluster/snap"},
            "ResourceNotFoundException",
            "snapshot",
        ),
        (
            {"snapshotName": "good", "namespaceName": "nowhere"},
            "ResourceNotFoundException",
            "namespace nowhere",
        ),
        (
            {"snapshotName": "good", "workgroupName": "nowhere"},
            "ResourceNotFoundException",
            "workgroup nowhere",
        ),
        ({"snapshotName": "good", "workgroupName": "source"}, "ValidationException", "not associated"),
        (
            {"snapshotName": "good", "adminPasswordSecretKmsKeyId": UNKNOWN_KEY},
            "ValidationException",
            "manageAdminPassword",
        ),
        (
            {"snapshotName": "good", "manageAdminPassword": True, "adminPasswordSecretKmsKeyId": "x"},
            "ValidationException",
            "KMS key",
        ),
    ],
)
def test_a_restore_that_is_asked_for_wrongly_changes_nothing(
    source: Warehouse, target: Warehouse, wrong: dict[str, Any], error: str, words: str
) -> None:
    request = {"namespaceName": "target", "workgroupName": "target"} | wrong
    with pytest.raises(getattr(target.client.exceptions, error), match=words):
        target.client.restore_from_snapshot(**request)
    assert target.client.get_namespace(namespaceName="target")["namespace"]["status"] == "AVAILABLE"
    assert target.client.get_workgroup(workgroupName="target")["workgroup"]["status"] == "AVAILABLE"


def test_a_snapshot_that_is_not_available_is_not_restored(source: Warehouse, target: Warehouse) -> None:
    source.query("CREATE TABLE ballast AS SELECT g, random() FROM generate_series(1, 200000) g")
    source.client.create_snapshot(namespaceName="source", snapshotName="unready")
    with pytest.raises(target.client.exceptions.ConflictException, match="CREATING"):
        target.client.restore_from_snapshot(
            namespaceName="target", workgroupName="target", snapshotName="unready"
        )
    settled_snapshot(source.client, "unready")
    source.query("DROP TABLE ballast")


def test_while_one_restore_runs_the_next_and_the_deletion_of_its_snapshot_are_refused(
    target: Warehouse,
) -> None:
    client = target.client
    client.restore_from_snapshot(namespaceName="target", workgroupName="target", snapshotName="good")
    with pytest.raises(client.exceptions.ConflictException, match="operation running"):
        client.restore_from_snapshot(namespaceName="target", workgroupName="target", snapshotName="good")
    with pytest.raises(client.exceptions.ConflictException, match="operation running on the snapshot"):
        client.delete_snapshot(snapshotName="good")
    with pytest.raises(client.exceptions.ConflictException, match="operation running"):
        client.delete_workgroup(workgroupName="target")
    target.settle()
    assert target.query(SUM) == FACTS


def test_a_connection_that_was_open_ends_and_the_endpoint_is_where_it_was(target: Warehouse) -> None:
    target.restore(snapshotName="good")
    with target.connect() as connection:
        target.restore(snapshotName="good")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert target.query(SUM) == FACTS


def test_temporary_logins_work_again_after_a_restore(target: Warehouse) -> None:
    target.client.get_credentials(workgroupName="target")
    target.restore(snapshotName="good")
    credentials = target.client.get_credentials(workgroupName="target", dbName="dev")
    assert target.query("SELECT 1", user=credentials["dbUser"], password=credentials["dbPassword"]) == [(1,)]


def test_two_namespaces_are_restored_from_one_snapshot_side_by_side(
    source: Warehouse, target: Warehouse
) -> None:
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda item: item.restore(snapshotName="good"), (source, target)))
    assert [answer["namespace"]["namespaceName"] for answer in answers] == ["source", "target"]
    assert source.query(SUM) == target.query(SUM) == FACTS


def test_a_snapshot_of_another_region_is_not_there(source: Warehouse) -> None:
    elsewhere: Account = source.account
    client = elsewhere.in_region("eu-west-1")
    assert client.list_snapshots()["snapshots"] == []
    arn = source.client.get_snapshot(snapshotName="good")["snapshot"]["snapshotArn"]
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_snapshot(snapshotArn=arn)


def test_a_failed_restore_leaves_the_old_databases_and_says_why(source: Warehouse, target: Warehouse) -> None:
    target.restore(snapshotName="good")
    target.query("CREATE TABLE untouched AS SELECT 5 AS five")
    broken = source.snapshot("broken")
    _damage(source.account.service, broken)
    target.restore(snapshotName="broken")
    assert target.query("SELECT five FROM untouched") == [(5,)]
    operator = target.account.service.operator_of(target.account)
    failed = wait_for(
        lambda: [
            item
            for item in operator.list_operations(namespaceName="target")["operations"]
            if item["kind"] == "restore_from_snapshot" and item["status"] == "failed"
        ],
        bool,
    )
    assert failed[-1]["failure"]
    source.client.delete_snapshot(snapshotName="broken")


def _damage(service: Service, snapshot: dict[str, Any]) -> None:
    """Overwrite the middle of the snapshot's document in the repository."""
    identifier = snapshot["snapshotArn"].rpartition("/")[2]
    root = service.local.settings.paths.repository(REGION)
    documents = [path for path in root.rglob("*") if path.is_file() and identifier in str(path)]
    assert documents, "the repository has no document of that snapshot"
    for path in documents:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)

"""Sixteen things of which each breaks a real client (Terraform, CloudFormation, drivers, scripts) if it is wrong.

One test each, in one place, although most are looked at more closely in the file of their resource.
"""

import json
import re
import time
from typing import Any

import botocore.session
import psycopg
import pytest
import redshift_connector

from support.service import (
    LATER_PASSWORD,
    PASSWORD,
    Account,
    HttpAnswer,
    Warehouse,
    delete_namespace,
    make_warehouse,
    post,
    settled_namespace,
    settled_snapshot,
)
from support.table_restores import bring_table, refused_table

pytestmark = pytest.mark.acceptance

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def send(account: Account, operation: str, **members: Any) -> HttpAnswer:
    """An operation with the answer as it is on the wire."""
    return account.send(operation, json.dumps(members).encode())


def test_01_a_retention_that_is_not_given_reads_back_as_minus_one(warehouse: Warehouse) -> None:
    given = warehouse.client.create_snapshot(namespaceName="shop", snapshotName="unset")["snapshot"]
    assert given["snapshotRetentionPeriod"] == -1
    assert settled_snapshot(warehouse.client, "unset")["snapshotRetentionPeriod"] == -1
    assert warehouse.snapshot("minus-one", retentionPeriod=-1)["snapshotRetentionPeriod"] == -1


def test_02_a_snapshot_is_read_by_name_and_own_account(warehouse: Warehouse) -> None:
    taken = warehouse.snapshot("own")
    read = warehouse.client.get_snapshot(snapshotName="own", ownerAccount=warehouse.account.id)["snapshot"]
    assert read == taken


def test_03_the_second_deletion_of_a_snapshot_does_not_find_it(warehouse: Warehouse) -> None:
    warehouse.snapshot("twice")
    warehouse.client.delete_snapshot(snapshotName="twice")
    with pytest.raises(warehouse.client.exceptions.ResourceNotFoundException, match="snapshot"):
        warehouse.client.delete_snapshot(snapshotName="twice")


def test_04_no_deleted_snapshot_lingers_and_those_of_deleted_namespaces_stay(account: Account) -> None:
    made, client = make_warehouse(account, "brief"), account.client
    made.snapshot("lingering")
    made.snapshot("staying")
    assert client.delete_snapshot(snapshotName="lingering")["snapshot"]["status"] == "DELETED"
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_snapshot(snapshotName="lingering")
    made.tear_down()
    delete_namespace(client, "brief")
    assert client.get_snapshot(snapshotName="staying")["snapshot"]["namespaceName"] == "brief"
    assert [item["snapshotName"] for item in client.list_snapshots()["snapshots"]] == ["staying"]
    client.delete_snapshot(snapshotName="staying")
    assert client.list_snapshots()["snapshots"] == []


def test_05_a_deleted_namespace_is_deleting_or_gone_at_the_next_look(account: Account) -> None:
    account.client.create_namespace(namespaceName="shop")
    account.client.delete_namespace(namespaceName="shop")
    answer = send(account, "GetNamespace", namespaceName="shop")
    if answer.status == 200:
        assert answer.json()["namespace"]["status"] == "DELETING"
    else:
        assert answer.json()["__type"] == "ResourceNotFoundException"


def test_06_tags_are_listed_for_snapshots_namespaces_and_workgroups(warehouse: Warehouse) -> None:
    client = warehouse.client
    for arn in (
        warehouse.snapshot("tagless")["snapshotArn"],
        client.get_namespace(namespaceName="shop")["namespace"]["namespaceArn"],
        client.get_workgroup(workgroupName="shop")["workgroup"]["workgroupArn"],
    ):
        assert client.list_tags_for_resource(resourceArn=arn)["tags"] == []


def test_07_a_missing_resource_policy_does_not_exist(account: Account) -> None:
    arn = account.client.create_namespace(namespaceName="shop")["namespace"]["namespaceArn"]
    with pytest.raises(account.client.exceptions.ResourceNotFoundException, match="does not exist"):
        account.client.get_resource_policy(resourceArn=arn)


def test_08_paginators_end_and_the_last_page_has_no_token(account: Account) -> None:
    for number in range(4):
        account.client.create_namespace(namespaceName=f"page-{number}")
    for operation, member, size in (
        ("list_namespaces", "namespaces", 4),
        ("list_workgroups", "workgroups", 0),
        ("list_snapshots", "snapshots", 0),
    ):
        pages = list(account.client.get_paginator(operation).paginate(PaginationConfig={"PageSize": 2}))
        assert sum(len(page[member]) for page in pages) == size
        assert "nextToken" not in pages[-1]


def test_09_moments_are_texts_or_numbers_each_where_the_model_says_so(warehouse: Warehouse) -> None:
    account = warehouse.account
    warehouse.snapshot("timed")
    snapshot = send(account, "GetSnapshot", snapshotName="timed").json()["snapshot"]
    assert ISO.fullmatch(snapshot["snapshotCreateTime"])
    assert ISO.fullmatch(snapshot["snapshotRetentionStartTime"])
    namespace = send(account, "GetNamespace", namespaceName="shop").json()["namespace"]
    assert ISO.fullmatch(namespace["creationDate"])
    workgroup = send(account, "GetWorkgroup", workgroupName="shop").json()["workgroup"]
    assert ISO.fullmatch(workgroup["creationDate"])
    credentials = send(account, "GetCredentials", workgroupName="shop").json()
    assert abs(credentials["expiration"] - time.time() - 900) < 120
    assert credentials["nextRefreshTime"] < credentials["expiration"]
    listed = send(account, "ListSnapshots", startTime=time.time() + 3600).json()
    assert listed == {"snapshots": []}
    as_text = send(account, "ListSnapshots", startTime="2026-01-01T00:00:00Z")
    assert as_text.json()["__type"] == "SerializationException"


def test_10_every_error_has_its_type_in_the_body_and_in_the_header(account: Account) -> None:
    url = account.service.local.endpoint_url + "/"
    target = {"X-Amz-Target": "RedshiftServerless.ListNamespaces"}
    answers = {
        "ResourceNotFoundException": send(account, "GetNamespace", namespaceName="nowhere"),
        "ValidationException": send(account, "GetNamespace"),
        "SerializationException": account.send("GetNamespace", b"{"),
        "UnknownOperationException": send(account, "MakeCoffee"),
        "MissingAuthenticationTokenException": post(url, b"{}", target),
        "IncompleteSignatureException": post(
            url, b"{}", target | {"Authorization": "AWS4-HMAC-SHA256 Credential=x"}
        ),
    }
    for code, answer in answers.items():
        assert 400 <= answer.status < 500
        assert answer.json()["__type"] == code
        assert answer.json()["message"]
        assert answer.headers["x-amzn-errortype"] == code
        assert answer.headers["x-amzn-requestid"]


def test_11_iam_roles_come_in_the_text_form_that_is_parsed(account: Account) -> None:
    role = "arn:aws:iam::123456789012:role/Loader"
    account.client.create_namespace(namespaceName="shop", iamRoles=[role])
    (text,) = account.client.get_namespace(namespaceName="shop")["namespace"]["iamRoles"]
    match = re.fullmatch(r"IamRole\(applyStatus=([a-z-]+), iamRoleArn=([^)]+)\)", text)
    assert match is not None
    assert match.groups() == ("in-sync", role)


def test_12_a_secret_is_shown_exactly_when_the_password_is_managed(account: Account) -> None:
    create = account.client.create_namespace
    managed = create(namespaceName="managed", manageAdminPassword=True)["namespace"]
    assert managed["adminPasswordSecretArn"]
    own = create(namespaceName="own", adminUsername="admin", adminUserPassword=PASSWORD)["namespace"]
    unmanaged = create(namespaceName="unmanaged", manageAdminPassword=False)["namespace"]
    for namespace in (own, unmanaged):
        assert "adminPasswordSecretArn" not in namespace
        assert "adminPasswordSecretKmsKeyId" not in namespace
    account.client.update_namespace(namespaceName="own", manageAdminPassword=True)
    assert settled_namespace(account.client, "own")["adminPasswordSecretArn"]


def test_13_temporary_credentials_log_in_by_both_protocol_dialects_until_they_end(
    warehouse: Warehouse,
) -> None:
    credentials = warehouse.client.get_credentials(workgroupName="shop", dbName="dev")
    user, password = credentials["dbUser"], credentials["dbPassword"]
    assert user.startswith(("IAM:", "IAMR:"))
    assert warehouse.query("SELECT current_user", user=user, password=password) == [(user,)]
    endpoint = warehouse.client.get_workgroup(workgroupName="shop")["workgroup"]["endpoint"]
    address = {"host": endpoint["address"], "port": endpoint["port"], "database": "dev", "ssl": False}
    connection = redshift_connector.connect(**address, user=user, password=password)
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT current_user")
        assert cursor.fetchone() == [user]
    finally:
        connection.close()
    ((until,),) = warehouse.query(f"SELECT rolvaliduntil FROM pg_roles WHERE rolname = '{user}'")
    assert abs((until - credentials["expiration"]).total_seconds()) < 1
    warehouse.query(f"""ALTER ROLE "{user}" VALID UNTIL '2001-01-01'""")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        warehouse.connect(user=user, password=password)


def test_14_after_a_restore_the_admin_password_is_that_of_the_snapshot(account: Account) -> None:
    made = make_warehouse(account, "vault")
    made.snapshot("then")
    account.client.update_namespace(
        namespaceName="vault", adminUsername="admin", adminUserPassword=LATER_PASSWORD
    )
    made.settle()
    assert made.query("SELECT 1", password=LATER_PASSWORD) == [(1,)]
    made.restore(snapshotName="then")
    assert made.query("SELECT 1", password=PASSWORD) == [(1,)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        made.connect(password=LATER_PASSWORD)
    made.tear_down()


def test_15_a_table_restore_whose_target_exists_fails_with_a_message_and_overwrites_nothing(
    warehouse: Warehouse,
) -> None:
    warehouse.query("CREATE TABLE precious AS SELECT 'then'::text AS age")
    warehouse.snapshot("tables")
    warehouse.query("UPDATE precious SET age = 'now'")
    message = refused_table(warehouse, "precious", "precious", snapshot="tables")
    assert message.startswith("public.precious already exists in database dev.")
    assert warehouse.query("SELECT age FROM precious") == [("now",)]
    bring_table(warehouse, "precious", "precious_then", snapshot="tables")
    assert warehouse.query("SELECT age FROM precious_then") == [("then",)]


def test_what_is_not_offered_yet_says_so_in_a_sentence(warehouse: Warehouse) -> None:
    with pytest.raises(warehouse.client.exceptions.ClientError) as caught:
        warehouse.client.list_custom_domain_associations()
    error = caught.value.response["Error"]
    assert error["Code"] == "UnknownOperationException"
    assert error["Message"] == "Stillframe does not offer ListCustomDomainAssociations yet."
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_16_the_sdk_has_no_waiter_so_a_polling_loop_is_what_users_write(warehouse: Warehouse) -> None:
    loader = botocore.session.Session().get_component("data_loader")
    assert "redshift-serverless" not in loader.list_available_services("waiters-2")
    assert warehouse.client.waiter_names == []
    warehouse.client.create_snapshot(namespaceName="shop", snapshotName="polled")
    seen = []
    for _ in range(600):
        seen.append(warehouse.client.get_snapshot(snapshotName="polled")["snapshot"]["status"])
        if seen[-1] != "CREATING":
            break
        time.sleep(0.1)
    assert set(seen[:-1]) <= {"CREATING"}
    assert seen[-1] == "AVAILABLE"


def test_the_wire_carries_what_the_sdks_look_for(account: Account) -> None:
    answer = send(account, "ListNamespaces")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/x-amz-json-1.1"
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-amzn-requestid"])
    assert answer.headers["date"].endswith("GMT")


def test_a_request_that_is_too_large_is_refused_with_its_documented_error(account: Account) -> None:
    answer = account.send("ListNamespaces", b'{"nextToken":"' + b"x" * (1 << 20) + b'"}')
    assert answer.status == 413
    assert answer.json()["__type"] == "RequestEntityTooLarge"


def test_every_operation_of_the_model_is_offered_or_says_that_it_is_not(account: Account) -> None:
    model = account.client.meta.service_model
    silent = {}
    for operation in model.operation_names:
        answer = account.send(operation, b'{"unknown":1}')
        code = answer.json().get("__type")
        if answer.status == 404:
            assert answer.json()["message"] == f"Stillframe does not offer {operation} yet."
        elif answer.status != 200 and code not in {"ValidationException"}:
            silent[operation] = code
    assert silent == {}

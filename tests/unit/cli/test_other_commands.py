"""Credentials, namespaces, workgroups, secrets."""

from pathlib import Path
from typing import Any

import pytest

from support.cli import StubService

pytestmark = pytest.mark.unit

_NAMESPACE = {"namespaceName": "shop", "status": "AVAILABLE", "dbName": "dev", "adminUsername": "admin"}
_WORKGROUP = {
    "workgroupName": "wg",
    "status": "AVAILABLE",
    "namespaceName": "shop",
    "baseCapacity": 8,
    "endpoint": {"address": "127.0.0.1", "port": 5439},
}


def test_a_new_key_is_shown_with_its_secret(stub: StubService, data: Path, stillframe: Any) -> None:
    key = {"accessKeyId": "AKIANEW", "secretAccessKey": "hush", "accountId": "210987654321", "userName": "ci"}
    stub.answers["CreateAccessKey"] = {"accessKey": key}
    line = ("credentials", "add", "--user", "ci", "--account", "210987654321")
    assert "hush" in stillframe(*line).out
    assert stillframe(*line, "--output", "json").document == {"accessKey": key}
    assert stub.called("CreateAccessKey")[0] == {"userName": "ci", "accountId": "210987654321"}


def test_keys_are_listed_without_secrets(stub: StubService, data: Path, stillframe: Any) -> None:
    stub.answers["ListAccessKeys"] = {
        "accessKeys": [{"accessKeyId": "AKIA1", "userName": "ci", "accountId": "1"}]
    }
    assert "AKIA1" in stillframe("credentials", "list").out


def test_a_key_is_removed_by_its_id(stub: StubService, data: Path, stillframe: Any) -> None:
    stub.answers["DeleteAccessKey"] = {}
    assert stillframe("credentials", "remove", "AKIA1").status == 0
    assert stub.calls == [("DeleteAccessKey", {"accessKeyId": "AKIA1"})]


def test_a_namespace_is_shown_with_its_workgroup_and_what_goes_on(
    stub: StubService, data: Path, stillframe: Any
) -> None:
    stub.answers["GetNamespace"] = {"namespace": _NAMESPACE}
    stub.answers["ListWorkgroups"] = {"workgroups": [_WORKGROUP | {"namespaceName": "other"}, _WORKGROUP]}
    stub.answers["ListOperations"] = {
        "operations": [
            {"operationId": "1", "kind": "create_snapshot", "status": "succeeded"},
            {"operationId": "2", "kind": "restore_from_snapshot", "status": "running", "phase": "writing"},
        ]
    }
    stub.answers["DescribeNamespace"] = {
        "namespaceName": "shop",
        "arrival": {
            "totalBytes": 5_000_000_000,
            "arrivedBytes": 1_250_000_000,
            "stalled": "The store is away",
        },
    }
    text = stillframe("namespace", "show", "shop").out
    for words in (
        "127.0.0.1:5439",
        "wg (AVAILABLE)",
        "restore_from_snapshot (writing)",
        "(25%)",
        "waiting: The store is away",
    ):
        assert words in text
    assert "create_snapshot" not in text
    document = stillframe("namespace", "show", "shop", "--output", "json").document
    assert document["workgroup"]["endpoint"]["port"] == 5439
    assert [operation["operationId"] for operation in document["operations"]] == ["2"]


def test_a_namespace_without_a_workgroup_is_shown_too(stub: StubService, data: Path, stillframe: Any) -> None:
    stub.answers["GetNamespace"] = {"namespace": _NAMESPACE}
    stub.answers["ListWorkgroups"] = {"workgroups": []}
    stub.answers["ListOperations"] = {"operations": []}
    stub.answers["DescribeNamespace"] = {"namespaceName": "shop"}
    outcome = stillframe("namespace", "show", "shop")
    assert outcome.status == 0
    assert "Endpoint" not in outcome.out
    assert "Restored files" not in outcome.out


def test_workgroups_are_listed_with_their_addresses(stub: StubService, data: Path, stillframe: Any) -> None:
    stub.answers["ListWorkgroups"] = {
        "workgroups": [_WORKGROUP, {"workgroupName": "b", "status": "CREATING"}]
    }
    lines = stillframe("workgroup", "list").out.splitlines()
    assert "127.0.0.1:5439" in lines[2]
    assert "CREATING" in lines[3]


def test_a_managed_secret_is_shown(stub: StubService, data: Path, stillframe: Any) -> None:
    stub.answers["GetManagedSecret"] = {"username": "admin", "password": "Hush123!"}
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:redshift!1"
    assert stillframe("secret", "show", arn, "--output", "json").document == {
        "username": "admin",
        "password": "Hush123!",
    }
    assert stub.called("GetManagedSecret") == [{"secretArn": arn}]

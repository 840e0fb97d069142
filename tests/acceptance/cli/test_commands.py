"""The commands as a user gives them, against a running service."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from stillframe import Local
from stillframe.cli.connection import connect_to
from stillframe.cli.output import OutputFormat, Terminal
from stillframe.cli.watching import wait_for_snapshot
from support.cli import environment

pytestmark = pytest.mark.acceptance

Command = Callable[..., Any]
_ADMIN = {"user": "boss", "password": "Correct1horse"}


def test_a_snapshot_is_taken_watched_listed_restored_and_deleted(
    local: Local, stillframe_command: Command
) -> None:
    with local.connect("shop-1", **_ADMIN) as connection:
        connection.execute(
            "CREATE TABLE kept AS SELECT n, md5(n::text) AS text FROM generate_series(1, 5000) AS n"
        )
    created = stillframe_command(
        "snapshot", "create", "full-story", "--namespace", "shop-1", "--tag", "why=test"
    )
    assert created.status == 0, created.err
    assert created.out.startswith("The snapshot full-story is available: ")
    assert "Snapshot full-story: " in created.err

    shown = stillframe_command("snapshot", "show", "full-story", "--output", "json").document
    assert shown["snapshot"]["status"] == "AVAILABLE"
    assert {"dev"} <= {database["name"] for database in shown["detail"]["databases"]}
    listed = stillframe_command("snapshot", "list", "--namespace", "shop-1", "--output", "json").document
    assert "full-story" in [snapshot["snapshotName"] for snapshot in listed["snapshots"]]

    with local.connect("shop-1", **_ADMIN) as connection:
        connection.execute("DROP TABLE kept")
    line = ("snapshot", "restore", "full-story", "--namespace", "shop-1", "--workgroup", "shop-1")
    refused = stillframe_command(*line)
    assert refused.status == 1
    assert "--yes" in refused.err
    restored = stillframe_command(*line, "--yes")
    assert restored.status == 0, restored.err
    assert restored.out.startswith("The namespace shop-1 is back at the snapshot full-story")
    with local.connect("shop-1", **_ADMIN) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (5000,)

    assert stillframe_command("snapshot", "delete", "full-story").status == 0
    again = stillframe_command("snapshot", "delete", "full-story")
    assert again.status == 1
    assert "not found" in again.err


@pytest.fixture(scope="module")
def much_data(local: Local) -> None:
    """So much that a capture lasts long enough to be interrupted."""
    with local.connect("shop-1", **_ADMIN) as connection:
        connection.execute(
            "CREATE TABLE much AS "
            "SELECT n, md5(n::text) || md5((n + 1)::text) AS text FROM generate_series(1, 1500000) AS n"
        )


def _begin_waiting(local: Local, name: str) -> "subprocess.Popen[str]":
    """`snapshot create` in a process of its own, at the moment when it has begun to show the capture."""
    line = ("snapshot", "create", name, "--namespace", "shop-1", "--data", str(local.settings.data))
    process = subprocess.Popen(
        [sys.executable, "-m", "stillframe", *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith(f"Snapshot {name}: ")
    return process


@pytest.mark.usefixtures("much_data")
def test_a_capture_is_cancelled_from_elsewhere(local: Local, stillframe_command: Command) -> None:
    with _begin_waiting(local, "unwanted") as waiting:
        connect_to(local.address).extend("cancel_snapshot", snapshotName="unwanted")
        out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 1
    assert out == ""
    assert "The snapshot unwanted was cancelled." in err
    shown = stillframe_command("snapshot", "show", "unwanted", "--output", "json").document
    assert shown["snapshot"]["status"] == "CANCELLED"
    refused = stillframe_command("snapshot", "cancel", "unwanted")
    assert refused.status == 1
    assert refused.err.startswith("stillframe: ")


@pytest.mark.usefixtures("much_data")
def test_ctrl_c_ends_the_waiting_and_not_the_capture(local: Local, stillframe_command: Command) -> None:
    with _begin_waiting(local, "goes-on") as waiting:
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert out == ""
    assert "The capture goes on." in err
    state = wait_for_snapshot(connect_to(local.address), "goes-on", terminal=Terminal(OutputFormat.JSON))
    assert state.snapshot["status"] == "AVAILABLE"
    assert stillframe_command("snapshot", "delete", "goes-on").status == 0


def test_a_snapshot_of_a_missing_namespace_is_a_sentence(stillframe_command: Command) -> None:
    outcome = stillframe_command("snapshot", "create", "nothing", "--namespace", "no-such-namespace")
    assert outcome.status == 1
    assert outcome.out == ""
    assert "Serverless namespace no-such-namespace not found." in outcome.err


def test_env_makes_a_plain_sdk_client_work(
    local: Local, stillframe_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = stillframe_command("env").out
    printed = subprocess.run(
        ["sh", "-c", f"{lines}\nenv"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
        check=True,
    )
    for line in printed.stdout.splitlines():
        name, _, value = line.partition("=")
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    namespaces = boto3.client("redshift-serverless").list_namespaces()["namespaces"]
    assert "shop-1" in [namespace["namespaceName"] for namespace in namespaces]


def test_keys_are_added_used_and_removed(local: Local, stillframe_command: Command) -> None:
    key = stillframe_command("credentials", "add", "--user", "ci", "--output", "json").document["accessKey"]
    client = local.client(aws_access_key_id=key["accessKeyId"], aws_secret_access_key=key["secretAccessKey"])
    assert client.list_namespaces()["namespaces"]
    listed = stillframe_command("credentials", "list", "--output", "json").document["accessKeys"]
    assert key["accessKeyId"] in [item["accessKeyId"] for item in listed]
    assert key["secretAccessKey"] not in str(listed)
    assert stillframe_command("credentials", "remove", key["accessKeyId"]).status == 0
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        client.list_namespaces()


def test_a_key_of_another_account_sees_other_namespaces(local: Local, stillframe_command: Command) -> None:
    line = ("credentials", "add", "--account", "210987654321", "--output", "json")
    key = stillframe_command(*line).document["accessKey"]
    client = local.client(aws_access_key_id=key["accessKeyId"], aws_secret_access_key=key["secretAccessKey"])
    assert client.list_namespaces()["namespaces"] == []


def test_namespaces_and_workgroups_are_shown(local: Local, stillframe_command: Command) -> None:
    assert "shop-1" in stillframe_command("namespace", "list").out
    shown = stillframe_command("namespace", "show", "shop-1", "--output", "json").document
    assert shown["workgroup"]["workgroupName"] == "shop-1"
    port = shown["workgroup"]["endpoint"]["port"]
    assert f":{port}" in stillframe_command("workgroup", "list").out


def test_a_managed_password_is_shown_and_logs_in(local: Local, stillframe_command: Command) -> None:
    created = local.client().create_namespace(namespaceName="managed-1", manageAdminPassword=True)[
        "namespace"
    ]
    secret = stillframe_command(
        "secret", "show", created["adminPasswordSecretArn"], "--output", "json"
    ).document
    assert secret["username"] == created["adminUsername"]
    assert len(secret["password"]) >= 8


def test_doctor_finds_this_machine_able(stillframe_command: Command) -> None:
    outcome = stillframe_command("doctor", "--output", "json")
    failed = [check for check in outcome.document["checks"] if check["verdict"] == "fail"]
    assert failed == []
    assert outcome.status == 0

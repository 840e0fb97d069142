"""The main path with the AWS command line, exactly as it is published."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.service import PASSWORD, REGION, Account, wait_for

pytestmark = pytest.mark.acceptance


class CommandLine:
    """`aws redshift-serverless` with a home, a profile and nothing else of this machine."""

    def __init__(self, account: Account, home: Path) -> None:
        (home / ".aws").mkdir()
        (home / ".aws" / "config").write_text(
            f"[profile local]\nregion = {REGION}\noutput = json\nservices = local\n"
            "[services local]\nredshift_serverless =\n"
            f"  endpoint_url = {account.service.local.endpoint_url}\n"
        )
        (home / ".aws" / "credentials").write_text(
            f"[local]\naws_access_key_id = {account.key}\naws_secret_access_key = {account.secret}\n"
        )
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self._environment = kept | {"HOME": str(home), "AWS_PROFILE": "local", "AWS_PAGER": ""}
        self._program = Path(sys.executable).with_name("aws")

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """The finished command, whatever its exit status."""
        command = [sys.executable, str(self._program), "redshift-serverless", *words]
        return subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=120, check=False
        )

    def __call__(self, *words: str) -> Any:
        """The answer of a command that must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def refused(self, *words: str) -> str:
        """The error text of a command that must fail."""
        done = self.run(*words)
        assert done.returncode != 0, done.stdout
        return done.stderr


@pytest.fixture
def aws(account: Account, tmp_path: Path) -> CommandLine:
    """The command line of this test's account."""
    return CommandLine(account, tmp_path)


def test_the_main_path_works_with_the_aws_command_line(aws: CommandLine) -> None:
    admin = ("--admin-username", "admin", "--admin-user-password", PASSWORD)
    created = aws("create-namespace", "--namespace-name", "cli", *admin, "--tags", "key=via,value=cli")
    assert created["namespace"]["status"] == "AVAILABLE"
    aws("create-workgroup", "--namespace-name", "cli", "--workgroup-name", "cli", "--base-capacity", "8")
    endpoint = settled(aws)["endpoint"]
    login = {"host": endpoint["address"], "port": endpoint["port"], "user": "admin", "dbname": "dev"}
    execute(login, "CREATE TABLE facts AS SELECT g FROM generate_series(1, 100) g")

    shown = aws(
        "create-snapshot", "--namespace-name", "cli", "--snapshot-name", "first", "--retention-period", "7"
    )
    assert shown["snapshot"]["status"] == "CREATING"
    taken = wait_for(
        lambda: aws("get-snapshot", "--snapshot-name", "first")["snapshot"],
        lambda snapshot: snapshot["status"] != "CREATING",
    )
    assert taken["status"] == "AVAILABLE"
    assert taken["snapshotRetentionPeriod"] == 7
    listed = aws("list-snapshots", "--namespace-name", "cli", "--max-items", "1")
    assert [item["snapshotName"] for item in listed["snapshots"]] == ["first"]
    assert aws("list-tags-for-resource", "--resource-arn", created["namespace"]["namespaceArn"])["tags"] == [
        {"key": "via", "value": "cli"}
    ]

    execute(login, "DROP TABLE facts")
    names = ("--namespace-name", "cli", "--workgroup-name", "cli")
    answer = aws("restore-from-snapshot", *names, "--snapshot-name", "first")
    assert answer["namespace"]["status"] == "MODIFYING"
    settled(aws)
    assert execute(login, "SELECT count(*) FROM facts") == [(100,)]
    assert aws("get-credentials", "--workgroup-name", "cli")["dbUser"] == "IAM:root"

    assert aws("delete-snapshot", "--snapshot-name", "first")["snapshot"]["status"] == "DELETED"
    refusal = aws.refused("delete-snapshot", "--snapshot-name", "first")
    assert "(ResourceNotFoundException)" in refusal
    assert "Serverless snapshot first not found." in refusal
    aws("delete-workgroup", "--workgroup-name", "cli")
    gone(aws, "get-workgroup", "--workgroup-name", "cli")
    aws("delete-namespace", "--namespace-name", "cli")
    gone(aws, "get-namespace", "--namespace-name", "cli")


def settled(aws: CommandLine) -> Any:
    """The workgroup, once it and its namespace are AVAILABLE."""
    workgroup = wait_for(
        lambda: aws("get-workgroup", "--workgroup-name", "cli")["workgroup"],
        lambda seen: seen["status"] == "AVAILABLE",
    )
    wait_for(
        lambda: aws("get-namespace", "--namespace-name", "cli")["namespace"]["status"],
        lambda status: status == "AVAILABLE",
    )
    return workgroup


def gone(aws: CommandLine, *words: str) -> None:
    """Wait until a command no longer finds what it asks for."""
    refusal = wait_for(lambda: aws.run(*words), lambda done: done.returncode != 0).stderr
    assert "(ResourceNotFoundException)" in refusal


def execute(login: dict[str, Any], statement: str) -> list[tuple[Any, ...]]:
    """The rows of one statement."""
    with psycopg.connect(**login, password=PASSWORD, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

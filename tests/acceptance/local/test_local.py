"""`stillframe.Local`: a whole service for the length of a block, and nothing after it."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

import stillframe
from stillframe import Local
from stillframe.errors import ConfigurationInvalid, InvalidRequest, ServerUnavailable
from support.local import processes_of, wait_until_alone

pytestmark = pytest.mark.acceptance

_PASSWORD = "Correct1horse"


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    with Local() as running:
        yield running


def _create_workgroup(local: Local, name: str) -> None:
    client = local.client()
    client.create_namespace(namespaceName=name, adminUsername="boss", adminUserPassword=_PASSWORD)
    client.create_workgroup(workgroupName=name, namespaceName=name)
    deadline = time.monotonic() + 60
    while client.get_workgroup(workgroupName=name)["workgroup"]["status"] != "AVAILABLE":
        assert time.monotonic() < deadline, local.log_tail()
        time.sleep(0.1)


def test_a_plain_client_works_at_once(local: Local) -> None:
    created = local.client().create_namespace(namespaceName="first")["namespace"]
    assert created["status"] == "AVAILABLE"
    assert local.endpoint_url.startswith("http://127.0.0.1:")


def test_regions_are_apart(local: Local) -> None:
    local.client("eu-west-1").create_namespace(namespaceName="only-in-europe")
    assert "only-in-europe" not in str(local.client().list_namespaces()["namespaces"])
    assert "only-in-europe" in str(local.client("eu-west-1").list_namespaces()["namespaces"])


def test_the_user_s_aws_setup_plays_no_part(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "does-not-exist")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "stale")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert local.client().list_namespaces()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_another_key_can_be_used_and_a_wrong_one_is_refused(local: Local) -> None:
    assert local.client(**local.credentials).list_namespaces()
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        local.client(aws_access_key_id="AKIANOBODY", aws_secret_access_key="x").list_namespaces()


def test_databases_are_reached_as_the_admin_and_as_a_temporary_user(local: Local) -> None:
    _create_workgroup(local, "reached")
    with local.connect("reached", user="boss", password=_PASSWORD) as connection:
        assert connection.execute("SELECT current_user, current_database()").fetchone() == ("boss", "dev")
    with local.connect("reached", autocommit=True) as connection:
        row = connection.execute("SELECT current_user").fetchone()
        assert row is not None
        assert row[0].startswith("IAM")
        assert connection.autocommit


def test_the_clock_can_be_moved_and_only_forwards(local: Local) -> None:
    client = local.client()
    before = client.create_namespace(namespaceName="before-the-jump")["namespace"]["creationDate"]
    local.advance(timedelta(days=20))
    local.advance(timedelta(days=10))
    after = client.create_namespace(namespaceName="after-the-jump")["namespace"]["creationDate"]
    assert timedelta(days=30) <= after - before < timedelta(days=30, minutes=5)
    with pytest.raises(InvalidRequest):
        local.advance(timedelta(seconds=-1))


def test_the_log_can_be_read(local: Local) -> None:
    assert "service_ready" in local.log_tail(10_000)
    assert len(local.log_tail(1).splitlines()) == 1


def test_nothing_is_left_after_the_block() -> None:
    with Local() as local:
        _create_workgroup(local, "short-lived")
        data = local.settings.data
        assert processes_of(data)
    assert processes_of(data) == {}
    assert not data.parent.exists()


def test_nothing_is_left_after_an_exception_in_the_block() -> None:
    seen = []

    def fail_inside() -> None:
        with Local() as local:
            seen.append(local.settings.data)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    (data,) = seen
    assert processes_of(data) == {}
    assert not data.parent.exists()


def test_nothing_is_left_after_the_service_was_killed_in_the_block() -> None:
    with Local() as local:
        _create_workgroup(local, "killed")
        data, pid = local.settings.data, local.address.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    assert wait_until_alone(data) == {}
    assert not data.parent.exists()


def test_the_service_ends_by_itself_when_its_owner_is_killed(tmp_path: Path) -> None:
    program = """
        import sys, time, stillframe
        with stillframe.Local() as local:
            local.client().create_namespace(namespaceName="orphan")
            print(local.settings.data, flush=True)
            time.sleep(600)
    """
    source = str(Path(stillframe.__file__).parents[1])
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": source, "TMPDIR": os.environ.get("TMPDIR", "/tmp")},
    )
    with owner:
        assert owner.stdout is not None
        data = Path(owner.stdout.readline().strip())
        assert processes_of(data)
        owner.kill()
    try:
        assert wait_until_alone(data, seconds=60) == {}
    finally:
        subprocess.run(["rm", "-rf", str(data.parent)], check=True)


def test_a_given_directory_is_kept_and_found_again(passable: Path) -> None:
    with Local(passable / "data") as local:
        local.client().create_namespace(namespaceName="kept")
        first = local.credentials
    with Local(passable / "data") as local:
        assert local.client().get_namespace(namespaceName="kept")["namespace"]["namespaceName"] == "kept"
        assert local.credentials == first
    assert processes_of(passable / "data") == {}


def test_a_second_service_on_the_same_directory_is_refused_and_harms_nothing(passable: Path) -> None:
    with Local(passable / "data") as first:
        _create_workgroup(first, "undisturbed")
        with pytest.raises(ServerUnavailable) as refusal, Local(passable / "data"):
            pytest.fail("it started")
        assert "Another service already runs" in (refusal.value.hint or "")
        with first.connect("undisturbed", user="boss", password=_PASSWORD) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_settings_are_passed_on() -> None:
    with Local(quotas={"namespaces": 1}, account_id="210987654321", region="eu-central-1") as local:
        client = local.client()
        arn = client.create_namespace(namespaceName="one")["namespace"]["namespaceArn"]
        assert arn.startswith("arn:aws:redshift-serverless:eu-central-1:210987654321:")
        with pytest.raises(ClientError, match="ServiceQuotaExceededException"):
            client.create_namespace(namespaceName="two")


def test_the_first_keys_can_be_chosen() -> None:
    with Local(access_key_id="AKIACHOSEN", secret_access_key="chosen-secret") as local:
        assert local.credentials == {
            "aws_access_key_id": "AKIACHOSEN",
            "aws_secret_access_key": "chosen-secret",
        }
        assert local.client().list_namespaces()


@pytest.mark.parametrize("wrong", [{"region": 7}, {"jobs": 0}, {"quotas": {"namespaces": -1}}])
def test_wrong_settings_are_refused_before_anything_is_started(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationInvalid), Local(**wrong):
        pytest.fail("it started")


def test_outside_of_the_block_there_is_no_service() -> None:
    local = Local()
    with pytest.raises(ServerUnavailable, match="not started"):
        local.client()
    assert local.log_tail() == ""

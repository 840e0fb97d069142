"""How commands find the service, and what they say when they cannot."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stillframe.clients import ServiceAddress, read_address
from stillframe.errors import FormatUnknown
from support.cli import Refusal, StubService

pytestmark = pytest.mark.unit


def test_the_service_file_of_the_data_directory_is_used(
    stub: StubService, data: Path, stillframe: Any
) -> None:
    stub.answers["ListNamespaces"] = {"namespaces": []}
    outcome = stillframe("namespace", "list", "--output", "json")
    assert outcome.status == 0
    assert outcome.document == {"namespaces": []}
    assert "Credential=AKIASTUB/" in stub.authorizations[0]
    assert "/eu-central-1/redshift-serverless/" in stub.authorizations[0]


def test_the_environment_of_the_sdk_comes_before_the_data_directory(
    stub: StubService, stillframe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.answers["ListNamespaces"] = {"namespaces": []}
    stub.answers["ListAccessKeys"] = {"accessKeys": []}
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS", stub.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    assert stillframe("namespace", "list").status == 0
    assert stillframe("credentials", "list").status == 0
    assert all("Credential=AKIAENV/" in line and "/ap-south-1/" in line for line in stub.authorizations)


def test_a_data_directory_that_is_named_comes_before_the_environment(
    stub: StubService, data: Path, stillframe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.answers["ListNamespaces"] = {"namespaces": []}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert stillframe("namespace", "list", "--data", str(data)).status == 0
    assert "Credential=AKIASTUB/" in stub.authorizations[0]


def test_without_a_service_one_sentence_says_what_to_do(stillframe: Any, tmp_path: Path) -> None:
    outcome = stillframe("snapshot", "list")
    assert outcome.status == 1
    assert outcome.out == ""
    assert outcome.err.startswith(
        f"stillframe: No service is running on the data directory {tmp_path / 'data'}."
    )
    assert "stillframe serve" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_service_that_died_is_not_taken_for_a_running_one(
    stub: StubService, stillframe: Any, tmp_path: Path
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stub.write_service_file(tmp_path / "data", pid=gone.pid)
    outcome = stillframe("snapshot", "list")
    assert outcome.status == 1
    assert "No service is running" in outcome.err
    assert stub.calls == []


def test_a_port_where_nobody_listens_is_no_service(stillframe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    outcome = stillframe("namespace", "list")
    assert outcome.status == 1
    assert "No service is running on http://127.0.0.1:1" in outcome.err


def test_missing_credentials_lead_to_env(
    stub: StubService, stillframe: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS", stub.url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    outcome = stillframe("namespace", "list")
    assert outcome.status == 1
    assert "There are no credentials." in outcome.err
    assert "stillframe env" in outcome.err


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("ResourceNotFoundException", "Serverless snapshot x not found."),
        ("ConflictException", "There is an operation running."),
        ("ValidationException", "The retention period must be"),
        ("UnknownOperationException", "does not offer"),
        ("ServiceQuotaExceededException", "too many"),
    ],
)
def test_what_the_service_answers_is_the_sentence(
    stub: StubService, data: Path, stillframe: Any, code: str, words: str
) -> None:
    def refuse(_parameters: dict[str, Any]) -> dict[str, Any]:
        raise Refusal(code, words)

    stub.answers["DeleteSnapshot"] = refuse
    outcome = stillframe("snapshot", "delete", "x")
    assert outcome.status == 1
    assert outcome.err.splitlines()[0] == f"stillframe: {words}"
    assert outcome.out == ""


def test_a_fault_of_the_service_names_its_request(stub: StubService, data: Path, stillframe: Any) -> None:
    def break_down(_parameters: dict[str, Any]) -> dict[str, Any]:
        raise Refusal("InternalServerException", "It broke.", status=400)

    stub.answers["DeleteSnapshot"] = break_down
    outcome = stillframe("snapshot", "delete", "x")
    assert outcome.status == 1
    assert "InternalServerException: It broke." in outcome.err
    assert f"request id request-{len(stub.calls)}" in outcome.err


def test_refused_keys_lead_to_env(stub: StubService, data: Path, stillframe: Any) -> None:
    def refuse(_parameters: dict[str, Any]) -> dict[str, Any]:
        raise Refusal("UnrecognizedClientException", "The security token is invalid.", status=403)

    stub.answers["ListNamespaces"] = refuse
    assert "stillframe env" in stillframe("namespace", "list").err


def test_all_pages_are_read(stub: StubService, data: Path, stillframe: Any) -> None:
    def page(parameters: dict[str, Any]) -> dict[str, Any]:
        number = int(parameters.get("nextToken", "0"))
        more = {"nextToken": str(number + 1)} if number < 2 else {}
        return {"namespaces": [{"namespaceName": f"ns-{number}", "status": "AVAILABLE"}]} | more

    stub.answers["ListNamespaces"] = page
    names = [
        item["namespaceName"]
        for item in stillframe("namespace", "list", "--output", "json").document["namespaces"]
    ]
    assert names == ["ns-0", "ns-1", "ns-2"]


def test_the_user_s_aws_setup_does_not_reach_a_known_service(
    stub: StubService, data: Path, stillframe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.answers["ListNamespaces"] = {"namespaces": []}
    hostile = {
        "AWS_PROFILE": "does-not-exist",
        "AWS_CONFIG_FILE": "/does/not/exist",
        "AWS_SESSION_TOKEN": "stale",
        "AWS_MAX_ATTEMPTS": "not a number",
        "AWS_RETRY_MODE": "nonsense",
        "AWS_CA_BUNDLE": "/does/not/exist",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "AWS_USE_FIPS_ENDPOINT": "true",
    }
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    assert stillframe("namespace", "list").status == 0
    assert "x-amz-security-token" not in stub.authorizations[0]


@pytest.mark.parametrize("content", ["", "[]", "{", '"text"'])
def test_a_damaged_service_file_is_said_to_be_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "service.json"
    path.write_text(content)
    with pytest.raises(FormatUnknown, match="not the description of a service"):
        read_address(path)


def test_the_secret_key_is_not_in_the_address_s_text() -> None:
    address = ServiceAddress(
        endpoint_url="http://x", region="r", account_id="1", access_key_id="A", secret_access_key="hush-hush"
    )
    assert "hush-hush" not in repr(address)

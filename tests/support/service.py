"""A real service for the tests of the API, and what they do with it over and over.

Clients here are made by boto3 itself, and not by our own helper: what is tested is what a user has. Every test gets
an account of its own, so its lists hold nothing of the others'.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from email.message import Message
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import psycopg
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

import stillframe
from stillframe.clients import EXTENSION, ClientMaker, ServiceAddress, read_address
from stillframe.config import load_settings
from stillframe.local import Local

REGION = "us-east-1"
OTHER_REGION = "eu-central-1"
PASSWORD = "Snapshot1Time"
LATER_PASSWORD = "Later2Password"
PATIENCE = 90.0
"""Seconds that any operation may take before a test gives up on it, on a machine shared with others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """A response as it came over the wire; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class Service:
    """A running service, and accounts on it."""

    def __init__(self, local: "Local | CrashableLocal") -> None:
        self._running = local
        self._numbers = itertools.count(200000000001)
        self._session = boto3.Session()

    @property
    def local(self) -> Local:
        """The `Local` that runs it; for tests of a service that is not crashed."""
        assert isinstance(self._running, Local)
        return self._running

    @property
    def endpoint_url(self) -> str:
        """The URL of the API."""
        return self._running.endpoint_url

    @cached_property
    def _operator(self) -> Any:
        return ClientMaker(self._running.address)(EXTENSION)

    def account(self) -> "Account":
        """An account nobody has used yet, with a root key."""
        return self.another_key(str(next(self._numbers)))

    def another_key(self, account: str, *, user_name: str | None = None) -> "Account":
        """One more key of an account; with a user's name it is not a root key."""
        request = {"accountId": account} | ({"userName": user_name} if user_name else {})
        made = self._operator.create_access_key(**request)["accessKey"]
        return Account(id=account, key=made["accessKeyId"], secret=made["secretAccessKey"], service=self)

    def client_of(self, account: "Account", *, region: str) -> Any:
        """A plain boto3 client; it never repeats a refused request by itself, so that refusals are seen."""
        return self._session.client(
            "redshift-serverless",
            endpoint_url=self._running.endpoint_url,
            region_name=region,
            aws_access_key_id=account.key,
            aws_secret_access_key=account.secret,
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    def reveal_secret(self, account: "Account", arn: str) -> tuple[str, str]:
        """User name and password of a managed secret."""
        answer = self.operator_of(account).get_managed_secret(secretArn=arn)
        return answer["username"], answer["password"]

    def operator_of(self, account: "Account", *, region: str = REGION) -> Any:
        """A client of the operations that only this service has, for that account."""
        address = replace(self._running.address, access_key_id=account.key, secret_access_key=account.secret)
        return ClientMaker(address)(EXTENSION, region=region)


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account with one access key."""

    id: str
    key: str
    secret: str = field(repr=False)
    service: Service = field(repr=False)

    @cached_property
    def client(self) -> Any:
        """boto3's client in the first Region."""
        return self.in_region(REGION)

    def make_key(self, alias: str | None = None) -> str:
        """The ARN of a new key in the first Region."""
        given = {"alias": alias} if alias else {}
        arn: str = self.service.operator_of(self).create_key(**given)["key"]["keyId"]
        return arn

    def in_region(self, region: str) -> Any:
        """boto3's client in another Region."""
        return self.service.client_of(self, region=region)

    def send(self, operation: str, body: bytes, *, prefix: str = "RedshiftServerless") -> HttpAnswer:
        """Any bytes whatsoever as the body of an operation, rightly signed: what no SDK would send."""
        url = self.service.endpoint_url + "/"
        request = AWSRequest(
            method="POST",
            url=url,
            data=body,
            headers={"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"{prefix}.{operation}"},
        )
        SigV4Auth(Credentials(self.key, self.secret), "redshift-serverless", REGION).add_auth(request)
        return post(url, body, dict(request.headers.items()))


def post(url: str, body: bytes, headers: Mapping[str, str]) -> HttpAnswer:
    """One HTTP request, and its answer whatever the status."""
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return HttpAnswer(status=response.status, headers=_lower(response.headers), body=response.read())
    except urllib.error.HTTPError as error:
        with error:
            return HttpAnswer(status=error.code, headers=_lower(error.headers), body=error.read())


def _lower(headers: Message) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@dataclass(frozen=True, kw_only=True)
class Warehouse:
    """A namespace with its workgroup, AVAILABLE, in an account."""

    account: Account
    namespace: str
    workgroup: str

    @property
    def client(self) -> Any:
        """boto3's client of its account."""
        return self.account.client

    def connect(
        self, database: str = "dev", *, user: str = "admin", password: str = PASSWORD
    ) -> "psycopg.Connection[Any]":
        """A connection that commits each statement."""
        endpoint = self.client.get_workgroup(workgroupName=self.workgroup)["workgroup"]["endpoint"]
        return psycopg.connect(
            host=endpoint["address"],
            port=endpoint["port"],
            user=user,
            password=password,
            dbname=database,
            autocommit=True,
            connect_timeout=30,
        )

    def query(self, statement: str, database: str = "dev", **login: str) -> list[tuple[Any, ...]]:
        """The rows of one statement, over a connection of its own."""
        with self.connect(database, **login) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def snapshot(self, name: str, **options: Any) -> dict[str, Any]:
        """A new snapshot, AVAILABLE."""
        self.client.create_snapshot(namespaceName=self.namespace, snapshotName=name, **options)
        return settled_snapshot(self.client, name)

    def restore(self, **source: Any) -> dict[str, Any]:
        """Restore into this namespace and wait; the answer of the request."""
        answer: dict[str, Any] = self.client.restore_from_snapshot(
            namespaceName=self.namespace, workgroupName=self.workgroup, **source
        )
        self.settle()
        return answer

    def settle(self) -> None:
        """Wait until namespace and workgroup are AVAILABLE."""
        settled_workgroup(self.client, self.workgroup)
        settled_namespace(self.client, self.namespace)

    def tear_down(self) -> None:
        """Remove the workgroup, and with it the server and its port."""
        self.client.delete_workgroup(workgroupName=self.workgroup)
        wait_gone(lambda: self.client.get_workgroup(workgroupName=self.workgroup))


def make_warehouse(
    account: Account, name: str, *, admin_password: str = PASSWORD, **workgroup: Any
) -> Warehouse:
    """A namespace `name` and its workgroup of the same name, AVAILABLE."""
    account.client.create_namespace(
        namespaceName=name, adminUsername="admin", adminUserPassword=admin_password
    )
    options = {"baseCapacity": 8} | workgroup
    account.client.create_workgroup(namespaceName=name, workgroupName=name, **options)
    made = Warehouse(account=account, namespace=name, workgroup=name)
    made.settle()
    return made


@contextmanager
def warehouse_of(account: Account, name: str, **options: Any) -> Iterator[Warehouse]:
    """A warehouse whose server ends with the block."""
    made = make_warehouse(account, name, **options)
    try:
        yield made
    finally:
        made.settle()
        made.tear_down()


def wait_for(look: Callable[[], Any], is_right: Callable[[Any], bool], *, seconds: float = PATIENCE) -> Any:
    """Look again and again until it is right; fail with what was seen last."""
    deadline = time.monotonic() + seconds
    seen = look()
    while not is_right(seen):
        assert time.monotonic() < deadline, f"after {seconds} s still: {seen}"
        time.sleep(0.05)
        seen = look()
    return seen


def settled_namespace(client: Any, name: str) -> dict[str, Any]:
    """The namespace, once it is AVAILABLE."""
    settled: dict[str, Any] = wait_for(
        lambda: client.get_namespace(namespaceName=name)["namespace"],
        lambda namespace: namespace["status"] == "AVAILABLE",
    )
    return settled


def settled_workgroup(client: Any, name: str) -> dict[str, Any]:
    """The workgroup, once it is AVAILABLE."""
    settled: dict[str, Any] = wait_for(
        lambda: client.get_workgroup(workgroupName=name)["workgroup"],
        lambda workgroup: workgroup["status"] == "AVAILABLE",
    )
    return settled


def settled_snapshot(client: Any, name: str, *, status: str = "AVAILABLE") -> dict[str, Any]:
    """The snapshot, no longer CREATING and of the expected status, its namespace AVAILABLE or gone."""
    settled: dict[str, Any] = wait_for(
        lambda: client.get_snapshot(snapshotName=name)["snapshot"],
        lambda snapshot: snapshot["status"] != "CREATING",
    )
    assert settled["status"] == status, settled
    # Listed, because a namespace that leaves its final snapshot behind can go between two looks at it.
    paginator = client.get_paginator("list_namespaces")
    wait_for(
        lambda: {
            found["namespaceArn"]: found["status"]
            for page in paginator.paginate()
            for found in page["namespaces"]
        },
        lambda states: states.get(settled["namespaceArn"], "AVAILABLE") == "AVAILABLE",
    )
    return settled


def wait_gone(get: Callable[[], Any]) -> None:
    """Call until it answers ResourceNotFoundException."""
    wait_for(lambda: error_code(get), lambda code: code == "ResourceNotFoundException")


def error_code(call: Callable[[], Any]) -> str | None:
    """The code of the error a call ends with; None when it succeeds."""
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


def delete_namespace(client: Any, name: str, **options: Any) -> None:
    """Delete a namespace and wait until it is gone."""
    client.delete_namespace(namespaceName=name, **options)
    wait_gone(lambda: client.get_namespace(namespaceName=name))


@contextmanager
def running_service(**settings: Any) -> Iterator[Service]:
    """A service with settings of its own; its log is part of the failure when it does not end well."""
    with pytest.MonkeyPatch.context() as environment, ExitStack() as stack:
        for name in ("STILLFRAME_DATA", "STILLFRAME_CONFIG", "STILLFRAME_PORT", "AWS_PROFILE"):
            environment.delenv(name, raising=False)
        yield Service(stack.enter_context(Local(**settings)))


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The service that all tests of a worker share."""
    with running_service() as started:
        yield started
        # No test of this session asks for a failure of the service's own: a single 500 is one too many.
        assert "request_failed" not in started.local.log_tail(1_000_000)


@pytest.fixture
def account(service: Service) -> Account:
    """An account of this test's own."""
    return service.account()


@pytest.fixture(scope="module")
def warehouse(service: Service) -> Iterator[Warehouse]:
    """A namespace `shop` with workgroup `shop` that the tests of a module share."""
    with warehouse_of(service.account(), "shop") as made:
        yield made


class CrashableLocal:
    """What `Service` needs of `Local`, for a service that a test kills and starts again where it was."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.settings = load_settings(overrides={"data": data, "clock_offset_file": data / "clock-offset"})
        self.log = data.parent / "service.log"

    @property
    def address(self) -> ServiceAddress:
        """Where it answers; the same after every start."""
        return read_address(self.settings.paths.service_file)

    @property
    def endpoint_url(self) -> str:
        """The URL of the API."""
        return self.address.endpoint_url

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = ["serve", "--data", str(self._data), "--port", str(self._port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "stillframe", *words],
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(Path(stillframe.__file__).parents[1])},
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), self.log.read_text()[-3000:]
        self._port = urlsplit(self.endpoint_url).port or 0

    def crash(self) -> None:
        """Kill the service, and nothing but the service, without a word."""
        assert self._process is not None
        self._process.kill()
        self._reap()

    def stop(self) -> None:
        """End the service and all its servers in order."""
        assert self._process is not None
        self._process.terminate()
        self._reap()

    def _reap(self) -> None:
        assert self._process is not None
        self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def crashable_service() -> Iterator[tuple[Service, CrashableLocal]]:
    """A service on a temporary directory that can be crashed and started again."""
    # Not pytest's directory: every pytest that starts makes that one unreachable for the servers' own user.
    with tempfile.TemporaryDirectory(prefix="stillframe-test-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o711)
        local = CrashableLocal(Path(directory) / "data")
        local.start()
        try:
            yield Service(local), local
        finally:
            local.stop()

"""A service whose keys are in a KMS (moto's server): the main path, what KMS refuses, and a KMS that is away."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from support.kms import running_kms
from support.service import (
    REGION,
    Account,
    Service,
    make_warehouse,
    running_service,
)

pytestmark = pytest.mark.acceptance


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A service, and a client of the KMS that it uses."""

    service: Service
    kms: Any

    def account(self) -> Account:
        """The account of the KMS, which is also the operator's."""
        return self.service.another_key("123456789012")

    def make_key(self, **options: Any) -> str:
        """A key as somebody makes it who knows nothing of us."""
        arn: str = self.kms.create_key(**options)["KeyMetadata"]["Arn"]
        return arn


def settings_for(url: str) -> dict[str, Any]:
    return {
        "kms": "aws",
        "kms_endpoint_url": url,
        "kms_access_key_id": "AKIDTEST",
        "kms_secret_access_key": "not-a-secret",
    }


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running_kms() as url, running_service(**settings_for(url)) as service:
        client = boto3.client(
            "kms",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id="AKIDTEST",
            aws_secret_access_key="not-a-secret",
        )
        yield Rig(service=service, kms=client)
        assert "not-a-secret" not in service.local.log_tail(1_000_000)


def test_a_snapshot_is_taken_and_restored_under_a_key_of_kms(rig: Rig) -> None:
    account, key = rig.account(), rig.make_key()
    rig.kms.create_alias(AliasName="alias/sales", TargetKeyId=key.rpartition("/")[2])
    shop = make_warehouse(account, "shop")
    shop.query("CREATE TABLE goods AS SELECT g AS id FROM generate_series(1, 1000) g")
    account.client.update_namespace(namespaceName="shop", kmsKeyId="alias/sales")
    shop.settle()
    assert shop.snapshot("first")["kmsKeyId"] == key
    shop.query("DELETE FROM goods")
    assert rig.service.operator_of(account).rotate_key(keyId=key)["rewrapped"] == 1
    assert shop.snapshot("second")["kmsKeyId"] == key
    shop.restore(snapshotName="first")
    assert shop.query("SELECT count(*) FROM goods") == [(1000,)]
    rig.kms.disable_key(KeyId=key.rpartition("/")[2])
    with pytest.raises(ClientError, match=r"ValidationException.*is disabled"):
        shop.restore(snapshotName="second")
    with pytest.raises(ClientError, match=r"ValidationException.*is disabled"):
        shop.snapshot("third")
    other = rig.make_key()
    account.client.update_namespace(namespaceName="shop", kmsKeyId=other)
    shop.settle()
    assert shop.snapshot("fourth")["kmsKeyId"] == other
    rig.kms.enable_key(KeyId=key.rpartition("/")[2])
    shop.restore(snapshotName="second")
    assert shop.query("SELECT count(*) FROM goods") == [(0,)]
    checked = check_offline(rig.service)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    rig.kms.disable_key(KeyId=key.rpartition("/")[2])
    checked = check_offline(rig.service)
    assert (checked.returncode, "is disabled" in checked.stdout) == (1, True)
    rig.kms.enable_key(KeyId=key.rpartition("/")[2])
    shop.tear_down()


def check_offline(service: Service) -> "subprocess.CompletedProcess[str]":
    """`stillframe repository check` with the service's settings."""
    settings = service.local.settings
    given = settings_for(str(settings.kms_endpoint_url)) | {"data": str(settings.data)}
    environment = {f"STILLFRAME_{name.upper()}": value for name, value in given.items()}
    return subprocess.run(
        [sys.executable, "-P", "-m", "stillframe", "repository", "check"],
        env=os.environ | environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_key_that_kms_does_not_have_or_that_is_for_something_else_is_refused(rig: Rig) -> None:
    client = rig.account().client
    signing = rig.make_key(KeyUsage="SIGN_VERIFY", KeySpec="RSA_2048")
    for name in ("1234abcd-12ab-34cd-56ef-1234567890ab", "alias/nobody", signing):
        with pytest.raises(client.exceptions.ValidationException):
            client.create_namespace(namespaceName="refused", kmsKeyId=name)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_namespace(namespaceName="refused")


def test_keys_of_kms_are_managed_by_the_same_commands(rig: Rig) -> None:
    account = rig.account()
    keys = rig.service.operator_of(account)
    made = keys.create_key(alias="alias/by-stillframe")["key"]
    assert rig.kms.describe_key(KeyId="alias/by-stillframe")["KeyMetadata"]["Arn"] == made["keyId"]
    assert keys.disable_key(keyId="alias/by-stillframe")["key"]["state"] == "Disabled"
    listed = {key["keyId"]: key for key in keys.list_keys()["keys"]}
    assert listed[made["keyId"]]["state"] == "Disabled"
    assert listed[made["keyId"]]["aliases"] == ["alias/by-stillframe"]
    assert "AWS_OWNED_KMS_KEY" in listed
    stranger = rig.service.operator_of(rig.service.account())
    with pytest.raises(ClientError, match="AccessDeniedException"):
        stranger.enable_key(keyId=made["keyId"])


def test_a_kms_that_is_away_stops_what_needs_it_and_nothing_else() -> None:
    with ExitStack() as stack:
        kms = stack.enter_context(ExitStack())
        url = kms.enter_context(running_kms())
        service = stack.enter_context(running_service(**settings_for(url)))
        account = service.another_key("123456789012")
        key = service.operator_of(account).create_key()["key"]["keyId"]
        shop = make_warehouse(account, "shop")
        account.client.create_namespace(namespaceName="paper", kmsKeyId=key)
        kms.close()
        with pytest.raises(account.client.exceptions.InternalServerException):
            account.client.delete_namespace(namespaceName="paper", finalSnapshotName="end")
        assert account.client.get_namespace(namespaceName="paper")["namespace"]["status"] == "AVAILABLE"
        shop.snapshot("without-a-key-of-its-own")
        shop.restore(snapshotName="without-a-key-of-its-own")
        shop.tear_down()

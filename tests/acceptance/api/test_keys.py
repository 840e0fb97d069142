"""Keys by unmodified boto3: named by id, alias and ARN; rotated, moved, disabled, lost; and what stays then."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.service import (
    OTHER_REGION,
    PASSWORD,
    REGION,
    Account,
    Service,
    Warehouse,
    make_warehouse,
    running_service,
    settled_namespace,
    settled_snapshot,
    wait_for,
    warehouse_of,
)

pytestmark = pytest.mark.acceptance

UNKNOWN = "1234abcd-12ab-34cd-56ef-1234567890ab"


def operator(account: Account) -> Any:
    """The operations on keys."""
    return account.service.operator_of(account)


def rekey(shop: Warehouse, key: str) -> None:
    """UpdateNamespace, finished."""
    shop.client.update_namespace(namespaceName=shop.namespace, kmsKeyId=key)
    shop.settle()


def mode_of(shop: Warehouse, snapshot: str) -> str:
    """How a snapshot was taken."""
    mode: str = operator(shop.account).describe_snapshot(snapshotName=snapshot)["detail"]["mode"]
    return mode


def key_file(service: Service, key: str) -> Path:
    """Where the local key management keeps a key."""
    return service.local.settings.paths.keys / hashlib.sha256(key.encode()).hexdigest()


def refused(call: Callable[[], Any]) -> str:
    """The sentence of the ValidationException that a call is refused with."""
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    assert error["Code"] == "ValidationException", error
    return str(error["Message"])


@pytest.fixture(scope="module")
def shop(service: Service) -> Iterator[Warehouse]:
    with warehouse_of(service.account(), "shop") as made:
        made.query("CREATE TABLE goods AS SELECT g AS id FROM generate_series(1, 1000) g")
        yield made


def test_a_key_is_named_by_id_alias_and_arn(account: Account) -> None:
    arn = account.make_key("alias/shop")
    identifier, alias_arn = arn.rpartition("/")[2], f"arn:aws:kms:{REGION}:{account.id}:alias/shop"
    assert arn == f"arn:aws:kms:{REGION}:{account.id}:key/{identifier}"
    names = {
        identifier: arn,
        f"key/{identifier}": arn,
        arn: arn,
        "alias/shop": alias_arn,
        alias_arn: alias_arn,
    }
    for number, (given, shown) in enumerate(names.items()):
        made = account.client.create_namespace(namespaceName=f"shop-{number}", kmsKeyId=given)["namespace"]
        assert made["kmsKeyId"] == shown


@pytest.mark.parametrize(
    "name", [UNKNOWN, "alias/nobody", f"arn:aws:kms:{REGION}:123456789012:key/{UNKNOWN}"]
)
def test_a_key_that_nobody_made_is_refused_with_what_to_do(account: Account, name: str) -> None:
    requests: list[dict[str, Any]] = [
        {"kmsKeyId": name},
        {"manageAdminPassword": True, "adminPasswordSecretKmsKeyId": name},
    ]
    for request in requests:
        message = refused(partial(account.client.create_namespace, namespaceName="shop", **request))
        assert f"The key {name} does not exist." in message
        assert "stillframe key create" in message
    assert account.client.list_namespaces()["namespaces"] == []


def test_a_key_of_another_account_or_region_is_as_good_as_none(account: Account) -> None:
    arn = account.make_key("alias/mine")
    stranger = account.service.account()
    for client in (stranger.client, account.in_region(OTHER_REGION)):
        for name in (arn, arn.rpartition("/")[2], "alias/mine"):
            create = partial(client.create_namespace, namespaceName="shop", kmsKeyId=name)
            assert "does not exist" in refused(create)
    assert operator(stranger).list_keys()["keys"] == []


def test_keys_are_managed_by_root_only(account: Account) -> None:
    arn = account.make_key()
    user = operator(account.service.another_key(account.id, user_name="ci"))
    calls = [
        user.create_key,
        user.list_keys,
        lambda: user.describe_key(keyId=arn),
        lambda: user.rotate_key(keyId=arn),
        lambda: user.disable_key(keyId=arn),
        lambda: user.enable_key(keyId=arn),
        lambda: user.assign_key_alias(alias="alias/x", keyId=arn),
    ]
    for call in calls:
        with pytest.raises(ClientError, match="AccessDeniedException"):
            call()


def test_the_services_own_key_is_not_for_others_to_manage(account: Account) -> None:
    for call in (operator(account).disable_key, operator(account).rotate_key, operator(account).describe_key):
        with pytest.raises(ClientError, match="AccessDeniedException"):
            call(keyId="AWS_OWNED_KMS_KEY")


def test_a_key_shows_its_state_version_and_aliases(account: Account) -> None:
    arn = account.make_key("alias/first")
    keys = operator(account)
    keys.assign_key_alias(alias="alias/second", keyId="alias/first")
    assert keys.rotate_key(keyId="alias/second")["key"]["version"] == 2
    shown = keys.disable_key(keyId=arn)["key"]
    assert {name: value for name, value in shown.items() if name != "createdAt"} == {
        "keyId": arn,
        "state": "Disabled",
        "version": 2,
        "aliases": ["alias/first", "alias/second"],
    }
    assert keys.list_keys()["keys"] == [shown]
    assert keys.enable_key(keyId=arn)["key"] == shown | {"state": "Enabled"}
    with pytest.raises(ClientError, match="ConflictException"):
        keys.create_key(alias="alias/first")


def test_a_key_can_have_the_id_that_a_configuration_names_already(account: Account) -> None:
    made = operator(account).create_key(keyId=UNKNOWN)["key"]
    assert made["keyId"] == f"arn:aws:kms:{REGION}:{account.id}:key/{UNKNOWN}"
    with pytest.raises(ClientError, match="already exists"):
        operator(account).create_key(keyId=UNKNOWN)
    assert "UUID" in refused(lambda: operator(account).create_key(keyId="../../etc/passwd"))


def test_a_changed_key_is_for_later_snapshots_and_the_earlier_ones_stay(shop: Warehouse) -> None:
    first, second = shop.account.make_key(), shop.account.make_key()
    rekey(shop, first)
    assert shop.client.get_namespace(namespaceName="shop")["namespace"]["kmsKeyId"] == first
    assert shop.snapshot("first-1")["kmsKeyId"] == first
    shop.query("INSERT INTO goods VALUES (1001)")
    assert shop.snapshot("first-2")["kmsKeyId"] == first
    rekey(shop, second)
    assert shop.snapshot("second-1")["kmsKeyId"] == second
    assert shop.snapshot("second-2")["kmsKeyId"] == second
    modes = [mode_of(shop, name) for name in ("first-1", "first-2", "second-1", "second-2")]
    assert modes == ["full", "incremental", "full", "incremental"]
    assert shop.client.get_snapshot(snapshotName="first-1")["snapshot"]["kmsKeyId"] == first
    shop.restore(snapshotName="first-1")
    assert shop.query("SELECT count(*) FROM goods") == [(1000,)]
    assert shop.client.get_namespace(namespaceName="shop")["namespace"]["kmsKeyId"] == second
    shop.restore(snapshotName="second-2")
    assert shop.query("SELECT count(*) FROM goods") == [(1001,)]


def test_a_moved_alias_is_for_later_snapshots_and_the_earlier_ones_stay(shop: Warehouse) -> None:
    first, second = shop.account.make_key("alias/moving"), shop.account.make_key()
    rekey(shop, "alias/moving")
    assert shop.snapshot("before-move")["kmsKeyId"] == first
    operator(shop.account).assign_key_alias(alias="alias/moving", keyId=second)
    assert shop.snapshot("after-move")["kmsKeyId"] == second
    assert shop.client.get_snapshot(snapshotName="before-move")["snapshot"]["kmsKeyId"] == first
    operator(shop.account).disable_key(keyId=second)
    shop.restore(snapshotName="before-move")
    assert "disabled" in refused(lambda: shop.restore(snapshotName="after-move"))


def test_a_rotated_key_goes_on_where_it_was(shop: Warehouse) -> None:
    key = shop.account.make_key()
    rekey(shop, key)
    shop.snapshot("version-1")
    repository = shop.account.service.local.settings.paths.repository(REGION)
    before = wrapped(repository, key)
    rotated = operator(shop.account).rotate_key(keyId=key)
    assert (rotated["key"]["version"], rotated["rewrapped"], rotated["behind"]) == (2, 1, 0)
    assert wrapped(repository, key) != before
    shop.snapshot("version-2")
    assert mode_of(shop, "version-2") == "incremental"
    for name in ("version-1", "version-2"):
        shop.restore(snapshotName=name)


def wrapped(repository: Path, key: str) -> bytes:
    """The stored form of the data key that is under a key."""
    (found,) = (path for path in (repository / "keys").iterdir() if key.encode() in path.read_bytes())
    return found.read_bytes()


def test_a_disabled_key_refuses_what_needs_it_and_nothing_else(shop: Warehouse) -> None:
    client, key = shop.client, shop.account.make_key()
    rekey(shop, key)
    snapshot = shop.snapshot("locked", retentionPeriod=5)
    shop.snapshot("locked-too")
    operator(shop.account).disable_key(keyId=key)
    arn = snapshot["snapshotArn"]
    requests: list[Callable[[], Any]] = [
        lambda: client.create_snapshot(namespaceName="shop", snapshotName="never"),
        lambda: client.restore_from_snapshot(
            namespaceName="shop", workgroupName="shop", snapshotName="locked"
        ),
        lambda: client.restore_table_from_snapshot(
            namespaceName="shop",
            workgroupName="shop",
            snapshotName="locked",
            sourceDatabaseName="dev",
            sourceTableName="goods",
            newTableName="goods_again",
        ),
        lambda: client.update_snapshot(snapshotName="locked", retentionPeriod=9),
        lambda: client.tag_resource(resourceArn=arn, tags=[{"key": "a", "value": "b"}]),
        lambda: client.untag_resource(resourceArn=arn, tagKeys=["a"]),
        lambda: client.create_namespace(namespaceName="other", kmsKeyId=key),
    ]
    for request in requests:
        assert f"The key {key} is disabled." in refused(request)
    assert client.get_snapshot(snapshotName="locked")["snapshot"] == snapshot
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == []
    assert settled_namespace(client, "shop")["kmsKeyId"] == key
    assert shop.query("SELECT count(*) > 0 FROM goods") == [(True,)]
    assert "locked" in {item["snapshotName"] for item in client.list_snapshots()["snapshots"]}
    assert client.delete_snapshot(snapshotName="locked-too")["snapshot"]["status"] == "DELETED"
    rekey(shop, shop.account.make_key())
    shop.snapshot("under-another-key")
    shop.restore(snapshotName="under-another-key")
    operator(shop.account).enable_key(keyId=key)
    shop.restore(snapshotName="locked")
    client.update_snapshot(snapshotName="locked", retentionPeriod=9)


def test_a_lost_key_takes_what_is_under_it_and_nothing_else(shop: Warehouse, tmp_path: Path) -> None:
    client, key, other = shop.client, shop.account.make_key(), shop.account.make_key()
    rekey(shop, other)
    shop.snapshot("safe")
    rekey(shop, key)
    shop.snapshot("lost")
    shop.snapshot("lost-too")
    stored = key_file(shop.account.service, key)
    kept = stored.rename(tmp_path / "kept")
    for request in (
        lambda: client.create_snapshot(namespaceName="shop", snapshotName="never"),
        lambda: client.restore_from_snapshot(namespaceName="shop", workgroupName="shop", snapshotName="lost"),
        lambda: client.update_snapshot(snapshotName="lost", retentionPeriod=9),
    ):
        assert f"The key {key} does not exist." in refused(request)
    assert not stored.exists(), "a lost key must not be replaced by a new one"
    assert client.get_snapshot(snapshotName="lost")["snapshot"]["status"] == "AVAILABLE"
    client.delete_snapshot(snapshotName="lost-too")
    shop.restore(snapshotName="safe")
    rekey(shop, other)
    shop.snapshot("safe-too")
    kept.rename(stored)
    shop.restore(snapshotName="lost")


def test_a_final_snapshot_under_a_disabled_key_keeps_the_namespace(account: Account) -> None:
    key = account.make_key()
    account.client.create_namespace(
        namespaceName="paper", kmsKeyId=key, adminUsername="admin", adminUserPassword=PASSWORD
    )
    operator(account).disable_key(keyId=key)
    assert "disabled" in refused(
        lambda: account.client.delete_namespace(namespaceName="paper", finalSnapshotName="end")
    )
    assert account.client.get_namespace(namespaceName="paper")["namespace"]["status"] == "AVAILABLE"
    operator(account).enable_key(keyId=key)
    account.client.delete_namespace(namespaceName="paper", finalSnapshotName="end")
    assert settled_snapshot(account.client, "end")["kmsKeyId"] == key


def test_a_password_under_a_disabled_key_is_not_shown_until_it_is_enabled(account: Account) -> None:
    key = account.make_key()
    namespace = account.client.create_namespace(
        namespaceName="shop", manageAdminPassword=True, adminPasswordSecretKmsKeyId=key
    )["namespace"]
    secret = namespace["adminPasswordSecretArn"]
    _, password = account.service.reveal_secret(account, secret)
    operator(account).rotate_key(keyId=key)
    assert account.service.reveal_secret(account, secret)[1] == password
    operator(account).disable_key(keyId=key)
    assert "disabled" in refused(lambda: account.service.reveal_secret(account, secret))
    operator(account).enable_key(keyId=key)
    assert account.service.reveal_secret(account, secret)[1] == password


def test_time_goes_on_for_all_keys_while_one_is_disabled() -> None:
    with running_service(sweep_seconds=0.3) as service:
        account = service.account()
        key = account.make_key()
        first, second = make_warehouse(account, "first"), make_warehouse(account, "second")
        rekey(first, key)
        for made in (first, second):
            made.query("CREATE TABLE goods AS SELECT g AS id FROM generate_series(1, 1000) g")
            made.snapshot(f"{made.namespace}-short", retentionPeriod=1)
            made.query("INSERT INTO goods SELECT g FROM generate_series(1, 100) g")
            made.snapshot(f"{made.namespace}-long")
        operator(account).disable_key(keyId=key)
        service.local.advance(timedelta(days=2))
        names = {"first-long", "second-long"}
        wait_for(
            lambda: {s["snapshotName"] for s in account.client.list_snapshots()["snapshots"]}, names.__eq__
        )
        second.restore(snapshotName="second-long")
        second.snapshot("second-later")
        operator(account).enable_key(keyId=key)
        first.restore(snapshotName="first-long")
        assert first.query("SELECT count(*) FROM goods") == [(1100,)]
        assert second.query("SELECT count(*) FROM goods") == [(1100,)]
        assert "request_failed" not in service.local.log_tail(1_000_000)

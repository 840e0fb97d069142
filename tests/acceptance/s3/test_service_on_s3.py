"""A service whose repositories are in a bucket does for unmodified clients what every other one does."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from stillframe.cli.doctor.finding import Verdict
from stillframe.cli.doctor.repository import check_repository
from stillframe.cli.repository import open_repositories
from stillframe.config import load_settings
from stillframe.objectstore.s3.driver import connect
from stillframe.objectstore.s3location import S3Location
from support.local import passable_directory
from support.s3 import CREDENTIALS, IMPATIENT, FaultyProxy, S3Server, no_space, refused
from support.service import OTHER_REGION, REGION, Warehouse, running_service, settled_snapshot, warehouse_of

pytestmark = pytest.mark.acceptance

FACTS = [(20000, 200010000)]
SUM = "SELECT count(*), sum(id) FROM facts"


@pytest.fixture
def data() -> Iterator[Path]:
    with passable_directory() as directory:
        yield directory / "data"


def on_s3(location: S3Location) -> dict[str, Any]:
    """Settings of a service that keeps its repositories there."""
    return {
        "repository_url": str(location),
        "repository_endpoint_url": location.endpoint_url,
        "repository_access_key_id": CREDENTIALS.access_key_id,
        "repository_secret_access_key": CREDENTIALS.secret_access_key,
        "repository_timeout_seconds": 10,
    }


def names_in(location: S3Location) -> set[str]:
    """What the first two parts of the names of all objects are."""
    listed = obstore.list(connect(location, credentials=CREDENTIALS, patience=IMPATIENT)).collect()
    return {"/".join(one["path"].split("/")[:2]) for one in listed}


def documents_in(location: S3Location) -> int:
    """How many snapshots the first Region's folder holds."""
    driver = connect(location.below(REGION), credentials=CREDENTIALS, patience=IMPATIENT)
    return len(obstore.list(driver, "snapshots").collect())


def test_snapshots_are_taken_restored_and_deleted_in_a_bucket(s3_server: S3Server, data: Path) -> None:
    location = s3_server.new_location()
    with (
        running_service(data=data, **on_s3(location)) as service,
        warehouse_of(service.account(), "shop") as shop,
    ):
        take_and_restore(shop)
        assert {f"{REGION}/packs", f"{REGION}/nodes", f"{REGION}/snapshots"} <= names_in(location)
        assert documents_in(location) == 2
        shop.client.delete_snapshot(snapshotName="first")
        assert documents_in(location) == 1
        shop.query("DROP TABLE facts")
        shop.restore(snapshotName="second")
        assert shop.query("SELECT count(*) FROM facts") == [(20001,)]
        assert CREDENTIALS.secret_access_key not in service.local.log_tail(1_000_000)
    assert not any((data / "regions").glob("*/repository"))
    assert_found_from_another_data_directory(data, location)


def take_and_restore(shop: Warehouse) -> None:
    """Two snapshots of growing data, and a restore of the first one."""
    shop.query("CREATE TABLE facts AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 20000) g")
    shop.snapshot("first")
    shop.query("DROP TABLE facts")
    shop.restore(snapshotName="first")
    assert shop.query(SUM) == FACTS
    shop.query("INSERT INTO facts VALUES (20001, 'one more')")
    second = shop.snapshot("second")
    assert second["actualIncrementalBackupSizeInMegaBytes"] < 5


def assert_found_from_another_data_directory(data: Path, location: S3Location) -> None:
    """With the keys and the bucket's name alone, as after the loss of the machine."""
    fresh = data.parent / "fresh"
    shutil.copytree(data / "keys", fresh / "keys")
    settings = load_settings(overrides={"data": fresh, **on_s3(location)})
    ((region, repository),) = open_repositories(settings)
    assert region == REGION
    (document,) = repository.documents()
    assert document.attributes.snapshot_name == "second"


def test_a_bucket_that_refuses_or_is_full_fails_the_snapshot_and_nothing_else(
    s3_server: S3Server, s3_proxy: FaultyProxy, data: Path
) -> None:
    location = s3_proxy.through(s3_server.new_location())
    with (
        running_service(data=data, **on_s3(location)) as service,
        warehouse_of(service.account(), "shop") as shop,
    ):
        for name, fault, sentence in (("refused", refused, "refused access"), ("full", no_space, "no space")):
            s3_proxy.arm(fault)
            shop.client.create_snapshot(namespaceName="shop", snapshotName=name)
            settled_snapshot(shop.client, name, status="FAILED")
            detail = service.operator_of(shop.account).describe_snapshot(snapshotName=name)["detail"]
            assert sentence in detail["failure"]
            s3_proxy.arm()
            assert shop.query("SELECT 1") == [(1,)]
        taken = shop.snapshot("works")
        assert taken["status"] == "AVAILABLE"
        elsewhere = shop.account.in_region(OTHER_REGION)
        assert elsewhere.list_snapshots()["snapshots"] == []


def test_the_doctor_tries_the_bucket_and_leaves_nothing_in_it(s3_server: S3Server, data: Path) -> None:
    location = s3_server.new_location()
    finding = check_repository(load_settings(overrides={"data": data, **on_s3(location)}))
    assert finding.verdict is Verdict.OK, finding
    assert names_in(location) == set()
    wrong = on_s3(location) | {"repository_url": "s3://no-such-bucket/x"}
    finding = check_repository(load_settings(overrides={"data": data, **wrong}))
    assert finding.verdict is Verdict.FAIL
    assert "bucket" in finding.fact

"""Restores where nothing can arrive later: complete before the server starts, and otherwise the same."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from stillframe.backup.local_clone import clone_problem
from support.hydration_disks import disk
from support.local import passable_directory
from support.service import Service, Warehouse, running_service, wait_for, warehouse_of

pytestmark = pytest.mark.acceptance

_FINGERPRINT = "SELECT count(*), sum(id), md5(string_agg(text, '' ORDER BY id)) FROM facts"


@pytest.fixture(scope="module", params=["eager", "reflink"])
def eager(request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service whose restores have everything before they start a server."""
    with ExitStack() as stack:
        directory = stack.enter_context(passable_directory())
        if request.param == "reflink" and clone_problem(directory) is not None:
            directory = stack.enter_context(disk(directory, "xfs")).mount_point
        yield stack.enter_context(running_service(data=directory / "data", restore_strategy=request.param))


@pytest.fixture(scope="module")
def source(eager: Service) -> Iterator[Warehouse]:
    """A warehouse and snapshot `full` of it."""
    with warehouse_of(eager.account(), "source") as made:
        made.query(
            "CREATE TABLE facts AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 50000) g"
        )
        made.query("CREATE INDEX facts_text ON facts (text)")
        made.snapshot("full")
        yield made


def test_a_namespace_has_everything_when_it_answers(eager: Service, source: Warehouse) -> None:
    expected = source.query(_FINGERPRINT)
    with warehouse_of(source.account, "target") as target:
        target.restore(snapshotName="full")
        described = eager.operator_of(source.account).describe_namespace(namespaceName="target")
        assert "arrival" not in described
        assert target.query(_FINGERPRINT) == expected


def test_a_namespace_goes_back_and_its_next_snapshot_is_small(source: Warehouse) -> None:
    expected = source.query(_FINGERPRINT)
    source.query("DELETE FROM facts WHERE id > 100")
    source.restore(snapshotName="full")
    assert source.query(_FINGERPRINT) == expected
    taken = source.snapshot("after")
    assert taken["actualIncrementalBackupSizeInMegaBytes"] < taken["totalBackupSizeInMegaBytes"] / 10


def test_one_table_comes_back(source: Warehouse) -> None:
    asked = source.client.restore_table_from_snapshot(
        namespaceName="source",
        workgroupName="source",
        snapshotName="full",
        sourceDatabaseName="dev",
        sourceTableName="facts",
        newTableName="again",
    )["tableRestoreStatus"]["tableRestoreRequestId"]
    ended = wait_for(
        lambda: source.client.get_table_restore_status(tableRestoreRequestId=asked)["tableRestoreStatus"],
        lambda status: status["status"] not in {"PENDING", "IN_PROGRESS"},
    )
    assert ended["status"] == "SUCCEEDED", ended
    source.settle()
    assert source.query(_FINGERPRINT.replace("facts", "again")) == source.query(_FINGERPRINT)

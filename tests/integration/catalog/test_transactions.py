"""A transaction is all or nothing, its job included."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from stillframe.catalog import Catalog
from stillframe.domain.identifiers import NamespaceId, NamespaceName, WorkgroupId, WorkgroupName
from stillframe.domain.workgroup import Workgroup, WorkgroupStatus
from stillframe.errors import CatalogUnavailable, Conflict, InternalError
from support.catalog import a_namespace, an_operation, rows

pytestmark = pytest.mark.integration

SYSTEM = 2**64 - 1


class ChangedMyMindError(Exception):
    """Something that has nothing to do with the catalog."""


def test_an_operation_and_its_job_are_written_together(catalog: Catalog, conninfo: str) -> None:
    operation = an_operation()
    with catalog.transaction() as transaction:
        transaction.operations.insert(operation)
        transaction.defer(operation, lock="namespace")
        assert rows(conninfo, "SELECT * FROM procrastinate_jobs") == []
    jobs = rows(conninfo, "SELECT args, lock, status::text FROM procrastinate_jobs")
    assert jobs == [({"operation_id": str(operation.id)}, "namespace", "todo")]


def test_a_rolled_back_transaction_leaves_no_job(catalog: Catalog, conninfo: str) -> None:
    operation = an_operation()
    with suppress(ChangedMyMindError), catalog.transaction() as transaction:
        transaction.operations.insert(operation)
        transaction.defer(operation, lock="namespace")
        raise ChangedMyMindError
    assert rows(conninfo, "SELECT * FROM procrastinate_jobs") == []
    with catalog.transaction() as transaction:
        assert transaction.operations.count() == 0


def test_a_job_is_lost_with_its_transaction_when_the_commit_fails(catalog: Catalog, conninfo: str) -> None:
    operation = an_operation()
    block = ExitStack()
    transaction = block.enter_context(catalog.transaction())
    transaction.workgroups.insert(_workgroup(NamespaceId(uuid.uuid4())))
    transaction.defer(operation, lock="namespace")
    with pytest.raises(Conflict) as caught:
        block.close()
    assert caught.value.facts["constraint"] == "workgroups_namespace_id_fkey"
    assert rows(conninfo, "SELECT * FROM procrastinate_jobs") == []


def test_an_ignored_failure_is_not_taken_for_a_commit(catalog: Catalog) -> None:
    block = ExitStack()
    transaction = block.enter_context(catalog.transaction())
    transaction.namespaces.insert(a_namespace("kept?"))
    with pytest.raises(InternalError):
        transaction.operations.upsert(an_operation(done_bytes=-1))
    with pytest.raises(InternalError, match="went on"):
        block.close()
    with catalog.transaction() as transaction:
        assert transaction.namespaces.count() == 0


def test_a_namespace_with_a_workgroup_cannot_be_deleted(catalog: Catalog) -> None:
    namespace = a_namespace()
    with catalog.transaction() as transaction:
        transaction.workgroups.insert(_workgroup(namespace.id))
        transaction.namespaces.insert(namespace)
    with pytest.raises(Conflict), catalog.transaction() as transaction:
        transaction.namespaces.delete(id=namespace.id)
    with catalog.transaction() as transaction:
        assert transaction.namespaces.find(id=namespace.id) == namespace
        with pytest.raises(Conflict):
            transaction.workgroups.insert(_workgroup(namespace.id, "second"))


def _workgroup(namespace_id: NamespaceId, name: str = "wg") -> Workgroup:
    return Workgroup(
        id=WorkgroupId(uuid.uuid4()),
        account=a_namespace().account,
        region=a_namespace().region,
        name=WorkgroupName(name),
        namespace_id=namespace_id,
        namespace_name=NamespaceName("sales"),
        status=WorkgroupStatus.AVAILABLE,
        created_at=a_namespace().created_at,
        base_capacity=128,
    )


def test_a_timeline_is_handed_out_once_and_the_smallest_free_one_first(catalog: Catalog) -> None:
    with catalog.transaction() as transaction:
        assert [transaction.take_timeline(SYSTEM, least) for least in (2, 2, 7, 2, 7, 6)] == [
            2,
            3,
            7,
            4,
            8,
            6,
        ]
        assert transaction.take_timeline(1, 2) == 2
    with catalog.transaction() as transaction:
        assert transaction.take_timeline(SYSTEM, 2) == 5


def test_timelines_are_unique_among_those_who_ask_at_once(catalog: Catalog) -> None:
    together = threading.Barrier(8)

    def take(_: int) -> int:
        together.wait(20)
        with catalog.transaction() as transaction:
            return transaction.take_timeline(SYSTEM, 2)

    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(take, range(8)))
    assert sorted(taken) == list(range(2, 10))


def test_a_rolled_back_timeline_was_never_handed_out(catalog: Catalog) -> None:
    with suppress(ChangedMyMindError), catalog.transaction() as transaction:
        assert transaction.take_timeline(SYSTEM, 2) == 2
        raise ChangedMyMindError
    with catalog.transaction() as transaction:
        assert transaction.take_timeline(SYSTEM, 2) == 2


def test_a_catalog_that_is_not_there_is_unavailable(server: object) -> None:
    catalog = Catalog("host=/nowhere user=stillframe password=hunter2 dbname=catalog")
    with pytest.raises(CatalogUnavailable) as caught:
        catalog.ping()
    assert "hunter2" not in str(caught.value)
    with pytest.raises(CatalogUnavailable), catalog.transaction():
        pass
    with pytest.raises(CatalogUnavailable):
        catalog.migrate()
    catalog.close()

"""The catalog's server is killed and comes back: nothing has to be started again, and no job is lost."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from stillframe.catalog import Catalog, JobWorker
from stillframe.domain.operation import Operation
from stillframe.errors import CatalogUnavailable, InternalError
from stillframe.postgres.cluster import Cluster, StopMode
from support.catalog import an_operation, eventually, new_database, rows, running_server, working
from support.postgres import SMALL

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def frail() -> Iterator[Cluster]:
    """A server that these tests may kill."""
    with running_server() as cluster:
        yield cluster


@pytest.fixture
def place(frail: Cluster) -> str:
    return new_database(frail)


@pytest.fixture
def catalog(place: str) -> Iterator[Catalog]:
    found = Catalog(place, pool_size=4)
    found.migrate()
    yield found
    found.close()


def _kill(cluster: Cluster) -> None:
    cluster.stop(StopMode.KILL, deadline=20)


def _defer(catalog: Catalog) -> Operation:
    operation = an_operation()
    with catalog.transaction() as transaction:
        transaction.operations.insert(operation)
        transaction.defer(operation, lock="namespace")
    return operation


def test_a_transaction_that_loses_its_server_fails_and_the_next_ones_work(
    frail: Cluster, catalog: Catalog
) -> None:
    kept = _defer(catalog)
    block = ExitStack()
    transaction = block.enter_context(catalog.transaction())
    transaction.operations.insert(an_operation())
    _kill(frail)
    with pytest.raises(CatalogUnavailable):
        transaction.operations.count()
    with pytest.raises((CatalogUnavailable, InternalError)):
        block.close()
    with pytest.raises(CatalogUnavailable):
        catalog.ping()
    frail.start(SMALL)
    catalog.ping()
    with catalog.transaction() as transaction:
        assert transaction.operations.list() == [kept]


def test_a_commit_that_loses_its_server_is_reported(frail: Cluster, catalog: Catalog) -> None:
    block = ExitStack()
    block.enter_context(catalog.transaction()).operations.insert(an_operation())
    _kill(frail)
    with pytest.raises(CatalogUnavailable):
        block.close()
    frail.start(SMALL)
    with catalog.transaction() as transaction:
        assert transaction.operations.count() == 0


def test_every_pooled_connection_is_replaced_after_a_restart(frail: Cluster, catalog: Catalog) -> None:
    together = threading.Barrier(4)

    def use() -> None:
        with catalog.transaction() as transaction:
            transaction.operations.count()
            together.wait(20)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    _kill(frail)
    frail.start(SMALL)
    for _ in range(8):
        catalog.ping()


def test_a_worker_outlives_its_catalog_and_records_what_ended_meanwhile(
    frail: Cluster, place: str, catalog: Catalog
) -> None:
    started, finish = threading.Event(), threading.Event()
    runs = list[uuid.UUID]()

    def run(operation_id: uuid.UUID) -> None:
        runs.append(operation_id)
        started.set()
        finish.wait(30)

    with working(JobWorker(place, run=run, concurrency=2)):
        during = _defer(catalog)
        assert started.wait(20)
        _kill(frail)
        finish.set()
        time.sleep(0.7)  # long enough for an attempt to record the end, which has to fail
        frail.start(SMALL)
        after = _defer(catalog)
        eventually(lambda: runs == [during.id, after.id])
        eventually(
            lambda: set(rows(place, "SELECT status::text FROM procrastinate_jobs")) == {("succeeded",)}
        )


def test_a_worker_waits_for_a_catalog_that_is_not_there_yet(
    frail: Cluster, place: str, catalog: Catalog
) -> None:
    operation = _defer(catalog)
    runs = list[uuid.UUID]()
    _kill(frail)
    with working(JobWorker(place, run=runs.append, concurrency=2)):
        time.sleep(0.3)
        frail.start(SMALL)
        eventually(lambda: runs == [operation.id])


def test_a_worker_stops_while_its_catalog_is_away(frail: Cluster, place: str, catalog: Catalog) -> None:
    started, finish = threading.Event(), threading.Event()

    def run(_: uuid.UUID) -> None:
        started.set()
        finish.wait(30)

    worker = JobWorker(place, run=run, concurrency=2)
    with working(worker, grace_seconds=0.5):
        _defer(catalog)
        assert started.wait(20)
        _kill(frail)
        finish.set()
        assert not worker.stop(0.5)
    frail.start(SMALL)
    assert rows(place, "SELECT status::text FROM procrastinate_jobs") == [("doing",)]


def test_a_fetched_job_whose_row_got_lost_is_queued_again(
    frail: Cluster, place: str, catalog: Catalog
) -> None:
    """The row says `doing` and nobody runs it: as if the answer to the fetch had been lost with the server."""
    runs = list[uuid.UUID]()
    with working(JobWorker(place, run=runs.append, concurrency=2)):
        first = _defer(catalog)
        eventually(lambda: runs == [first.id])
        eventually(lambda: rows(place, "SELECT status::text FROM procrastinate_jobs") == [("succeeded",)])
        rows(place, "UPDATE procrastinate_jobs SET status = 'doing' RETURNING id")
        _kill(frail)
        frail.start(SMALL)
        eventually(lambda: runs == [first.id, first.id])

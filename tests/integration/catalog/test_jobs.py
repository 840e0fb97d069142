"""Jobs run once, in their namespace's order, again when they ask for it, and again after a crash."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from stillframe.catalog import Catalog, JobWorker, PeriodicTask, RetryPolicy, recover
from stillframe.domain.operation import Operation
from stillframe.errors import CatalogUnavailable, Conflict, InternalError, RetryLater
from support.catalog import an_operation, eventually, rows, working

pytestmark = pytest.mark.integration

QUICK = RetryPolicy(first_seconds=0.05, longest_seconds=0.2)


class Diary:
    """What the jobs did, in the order in which they did it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[uuid.UUID, str] = {}
        self.lock = threading.Lock()

    def note(self, what: str, operation_id: uuid.UUID) -> None:
        with self.lock:
            self.lines.append(f"{what} {self.names.get(operation_id, '?')}")

    def count(self, line: str) -> int:
        with self.lock:
            return self.lines.count(line)


def _defer(catalog: Catalog, lock: str, *, queue: str = "operations") -> Operation:
    operation = an_operation()
    with catalog.transaction() as transaction:
        transaction.operations.insert(operation)
        transaction.defer(operation, lock=lock, queue=queue)
    return operation


def _defer_named(catalog: Catalog, diary: Diary, name: str, *, lock: str) -> None:
    operation = an_operation()
    diary.names[operation.id] = name
    with catalog.transaction() as transaction:
        transaction.operations.insert(operation)
        transaction.defer(operation, lock=lock)


def _worker(conninfo: str, run: Callable[[uuid.UUID], None], *, concurrency: int = 4) -> JobWorker:
    return JobWorker(conninfo, run=run, concurrency=concurrency, retry=QUICK)


def _statuses(conninfo: str) -> list[str]:
    return [row[0] for row in rows(conninfo, "SELECT status::text FROM procrastinate_jobs ORDER BY id")]


def test_a_job_runs_with_its_operations_id(catalog: Catalog, conninfo: str) -> None:
    seen = list[uuid.UUID]()
    with working(_worker(conninfo, seen.append)):
        operation = _defer(catalog, "a")
        eventually(lambda: seen == [operation.id])
        eventually(lambda: _statuses(conninfo) == ["succeeded"])


def test_jobs_of_one_lock_run_one_after_the_other_in_their_order(catalog: Catalog, conninfo: str) -> None:
    diary = Diary()

    def run(operation_id: uuid.UUID) -> None:
        diary.note("begin", operation_id)
        time.sleep(0.02)
        diary.note("end", operation_id)

    with working(_worker(conninfo, run)):
        for number in range(8):
            _defer_named(catalog, diary, f"a{number}", lock="a")
        eventually(lambda: diary.count("end a7"))
    assert diary.lines == [f"{what} a{number}" for number in range(8) for what in ("begin", "end")]


def test_jobs_of_different_locks_run_side_by_side(catalog: Catalog, conninfo: str) -> None:
    together = threading.Barrier(3)
    met = list[uuid.UUID]()

    def run(operation_id: uuid.UUID) -> None:
        together.wait(20)
        met.append(operation_id)

    with working(_worker(conninfo, run, concurrency=3)):
        for lock in "abc":
            _defer(catalog, lock)
        eventually(lambda: len(met) == 3)


def test_no_more_jobs_run_than_allowed(catalog: Catalog, conninfo: str) -> None:
    running, most, done = set[uuid.UUID](), list[int](), list[uuid.UUID]()

    def run(operation_id: uuid.UUID) -> None:
        running.add(operation_id)
        most.append(len(running))
        time.sleep(0.03)
        running.discard(operation_id)
        done.append(operation_id)

    with working(_worker(conninfo, run, concurrency=2)):
        for number in range(8):
            _defer(catalog, f"lock{number}")
        eventually(lambda: len(done) == 8)
    assert max(most) <= 2


def test_a_job_that_asks_for_it_runs_again_and_holds_its_lock_meanwhile(
    catalog: Catalog, conninfo: str
) -> None:
    diary = Diary()

    def run(operation_id: uuid.UUID) -> None:
        diary.note("try", operation_id)
        if diary.names[operation_id] == "first" and diary.count("try first") < 4:
            raise RetryLater("not yet")

    with working(_worker(conninfo, run)):
        _defer_named(catalog, diary, "first", lock="a")
        _defer_named(catalog, diary, "second", lock="a")
        eventually(lambda: diary.count("try second"))
    assert diary.lines == ["try first"] * 4 + ["try second"]


def test_a_job_is_given_up_after_the_allowed_attempts(catalog: Catalog, conninfo: str) -> None:
    attempts = list[uuid.UUID]()

    def run(operation_id: uuid.UUID) -> None:
        attempts.append(operation_id)
        raise Conflict("for ever busy")

    policy = RetryPolicy(first_seconds=0.01, attempts=3)
    with working(JobWorker(conninfo, run=run, concurrency=1, retry=policy)):
        _defer(catalog, "a")
        eventually(lambda: _statuses(conninfo) == ["failed"])
    assert len(attempts) == 3


@pytest.mark.parametrize("error", [InternalError("a mistake"), RuntimeError("a surprise"), SystemExit(1)])
def test_any_other_error_ends_the_job_and_not_the_worker(
    catalog: Catalog, conninfo: str, error: BaseException
) -> None:
    seen = list[uuid.UUID]()

    def run(operation_id: uuid.UUID) -> None:
        seen.append(operation_id)
        if len(seen) == 1:
            raise error

    with working(_worker(conninfo, run)):
        _defer(catalog, "a")
        _defer(catalog, "a")
        eventually(lambda: _statuses(conninfo) == ["failed", "succeeded"])
    assert len(seen) == 2


def test_a_worker_leaves_the_jobs_of_other_queues_alone(catalog: Catalog, conninfo: str) -> None:
    seen = list[uuid.UUID]()
    with working(_worker(conninfo, seen.append)):
        _defer(catalog, "a", queue="another node")
        mine = _defer(catalog, "b")
        eventually(lambda: _statuses(conninfo) == ["todo", "succeeded"])
    assert seen == [mine.id]


def test_stopping_waits_for_what_is_running_and_takes_nothing_new(catalog: Catalog, conninfo: str) -> None:
    started, finish = threading.Event(), threading.Event()

    def run(_: uuid.UUID) -> None:
        started.set()
        finish.wait(20)

    worker = _worker(conninfo, run, concurrency=1)
    with working(worker):
        _defer(catalog, "a")
        _defer(catalog, "b")
        assert started.wait(20)
        threading.Timer(0.2, finish.set).start()
        assert worker.stop(20)
    assert _statuses(conninfo) == ["succeeded", "todo"]


def test_a_job_that_does_not_end_is_left_for_the_next_start(catalog: Catalog, conninfo: str) -> None:
    started, finish = threading.Event(), threading.Event()

    def run(_: uuid.UUID) -> None:
        started.set()
        finish.wait(60)

    worker = _worker(conninfo, run)
    with working(worker):
        operation = _defer(catalog, "a")
        assert started.wait(20)
        assert not worker.stop(0.2)
    assert _statuses(conninfo) == ["doing"]
    finish.set()
    assert recover(conninfo) == 1
    seen = list[uuid.UUID]()
    with working(_worker(conninfo, seen.append)):
        eventually(lambda: seen == [operation.id])


def test_a_worker_may_be_stopped_before_it_starts(conninfo: str) -> None:
    worker = _worker(conninfo, lambda _: None)
    worker.stop(0)
    worker.run_until_stopped()


def test_what_a_killed_worker_was_at_is_taken_up_again(
    catalog: Catalog, conninfo: str, tmp_path: Path
) -> None:
    program = (
        "import sys, time, pathlib\n"
        "from stillframe.catalog import JobWorker\n"
        "def run(operation_id):\n"
        "    pathlib.Path(sys.argv[2]).write_text(str(operation_id))\n"
        "    time.sleep(600)\n"
        "JobWorker(sys.argv[1], run=run, concurrency=2).run_until_stopped()\n"
    )
    begun = tmp_path / "begun"
    interrupted, waiting = _defer(catalog, "a"), _defer(catalog, "a")
    with subprocess.Popen([sys.executable, "-c", program, conninfo, str(begun)]) as process:
        try:
            eventually(lambda: begun.exists() and begun.read_text() == str(interrupted.id))
        finally:
            os.kill(process.pid, signal.SIGKILL)
    assert _statuses(conninfo) == ["doing", "todo"]
    seen = list[uuid.UUID]()
    assert recover(conninfo, queue="another node") == 0
    assert recover(conninfo) == 1
    assert recover(conninfo) == 0
    with working(_worker(conninfo, seen.append)):
        eventually(lambda: len(seen) == 2)
    assert seen == [interrupted.id, waiting.id]


def test_recovering_from_a_catalog_that_is_away_says_so() -> None:
    with pytest.raises(CatalogUnavailable):
        recover("host=/nowhere dbname=catalog")


def test_jobs_that_ended_a_day_ago_are_forgotten(catalog: Catalog, conninfo: str) -> None:
    with working(_worker(conninfo, lambda _: None)):
        _defer(catalog, "a")
        _defer(catalog, "b")
        eventually(lambda: _statuses(conninfo) == ["succeeded", "succeeded"])
    with psycopg.connect(conninfo) as connection:
        connection.execute("UPDATE procrastinate_events SET at = at - interval '25 hours' WHERE job_id = 1")
    with working(_worker(conninfo, lambda _: None)):
        eventually(lambda: rows(conninfo, "SELECT id FROM procrastinate_jobs") == [(2,)])


def test_periodic_tasks_run_beside_the_jobs_until_the_worker_stops(conninfo: str) -> None:
    turns = list[float]()
    tasks = [PeriodicTask(name="sweep", every_seconds=0.01, action=lambda: turns.append(time.monotonic()))]
    worker = JobWorker(conninfo, run=lambda _: None, concurrency=1, periodic=tasks)
    with working(worker):
        eventually(lambda: len(turns) >= 3)
        worker.stop(5)
        seen = len(turns)
    assert len(turns) <= seen + 1

"""The queue of long work: a job per operation, kept in the catalog, run by this process's threads.

The rows, their locks and the worker's loop are procrastinate's. Ours: a job carries an operation's id and
nothing else; it is queued in the transaction that writes the operation; it runs in a thread of its own; and
the worker outlives its database (`stillframe.catalog.job_manager`).
"""

import asyncio
import threading
import uuid
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import structlog
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy, RetryDecision

from stillframe.catalog.driver import with_limits
from stillframe.catalog.job_manager import PatientJobManager
from stillframe.catalog.timers import PeriodicTask, Timers
from stillframe.catalog.translation import translate, translated
from stillframe.errors import RetryLater

DEFAULT_QUEUE = "operations"
OPERATION_TASK = "operation"
KEEP_HOURS = 24
"""How long a finished job's row is kept, for whoever looks into the queue; the operation itself stays."""

POLL_SECONDS = 2.0
"""Jobs are announced by NOTIFY; this is how late one may be whose announcement got lost with a connection."""

_TIDY_SECONDS = 3600.0
_RESTART_SECONDS = 1.0
_POOL_SECONDS = 5.0
_LAST_CALLS = 6
_LAST_CALL_SECONDS = 0.5

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a job that raised RetryLater runs again: after pauses that double, in seconds.

    With `attempts` the job fails at the end of that many; None means that it is repeated for ever.
    """

    first_seconds: float = 0.5
    longest_seconds: float = 60.0
    attempts: int | None = None

    def pause(self, failures: int) -> float | None:
        """How long to wait after that many failures (1 or more); None to give up."""
        if self.attempts is not None and failures >= self.attempts:
            return None
        doublings = min(failures - 1, 30)
        return min(self.first_seconds * 2.0**doublings, self.longest_seconds)


DEFAULT_RETRY = RetryPolicy()


class JobQueue:
    """Puts jobs into the queue, inside somebody else's transaction."""

    def __init__(self) -> None:
        self._app = App(connector=SyncPsycopgConnector())

    def defer(
        self, connection: "psycopg.Connection[Any]", operation_id: uuid.UUID, *, lock: str, queue: str
    ) -> None:
        """Insert the job of an operation through this connection and leave the commit to its owner."""
        job = self._app.configure_task(
            OPERATION_TASK,
            connection=connection,
            lock=lock,
            queue=queue,
            task_kwargs={"operation_id": str(operation_id)},
        )
        try:
            job.defer()
        except ConnectorException as error:
            raise translate(error.__cause__ or error) from None


def recover(conninfo: str, *, queue: str = DEFAULT_QUEUE) -> int:
    """Queue again every job of this queue that a worker was at when it died; how many those were.

    Only for a caller who knows that no worker is alive on this queue: their jobs would run twice. Raises
    CatalogUnavailable when the catalog does not answer.
    """
    with translated(), psycopg.connect(with_limits(conninfo)) as connection:
        return connection.execute(_QUEUE_AGAIN, {"queue": queue}).rowcount


_QUEUE_AGAIN = """
    SELECT procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL) FROM procrastinate_jobs
    WHERE status = 'doing' AND queue_name = %(queue)s ORDER BY id
"""


class JobWorker:
    """Runs the jobs of one queue, each in its own thread, and the periodic tasks beside them.

    It is the only worker of its queue: a job that shows as running and is not ours is taken for a lost one.
    `run` gets an operation's id. When it raises RetryLater the job is repeated by the retry policy; when it
    raises anything else the job has failed, and it is `run` that has to have recorded that in the operation.
    A job may run again although it had already ended, if the catalog was lost at that moment: `run` looks at
    the operation's status first.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        run: Callable[[uuid.UUID], None],
        concurrency: int,
        periodic: Sequence[PeriodicTask] = (),
        retry: RetryPolicy = DEFAULT_RETRY,
        queue: str = DEFAULT_QUEUE,
    ) -> None:
        """Prepare for a libpq connection string; nothing is connected and no thread runs yet."""
        self._conninfo = with_limits(conninfo)
        self._run = run
        self._concurrency = concurrency
        self._retry = retry
        self._queue = queue
        self._timers = Timers(periodic)
        self._started = threading.Event()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._wake_up: Callable[[], object] = _nothing
        self._lock = threading.Lock()
        self._grace_seconds = 0.0
        self._abandoned = False

    def run_until_stopped(self) -> None:
        """Work until `stop` is called. Blocks: give it a thread of its own. It can be called once.

        A catalog that is away, now or later, is waited for and never raised.
        """
        try:
            self._started.set()
            if not self._stopping.is_set():
                self._timers.start()
                _run_loop(self._serve())
        finally:
            self._timers.stop()
            self._ended.set()

    def stop(self, grace_seconds: float) -> bool:
        """Take no new job, wait that long for the running ones, and let `run_until_stopped` return.

        Returns whether all of them ended. One that did not is left to its thread, which does not keep the
        process alive; its job stays as it is, for `recover` at the next start.
        """
        with self._lock:
            self._grace_seconds = grace_seconds
            self._stopping.set()
            self._wake_up()
        if not self._started.is_set():
            return True
        return self._ended.wait(grace_seconds + _POOL_SECONDS) and not self._abandoned

    # --- in the worker's event loop -------------------------------------------------------------------------

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(_DaemonThreads())
        stopping = asyncio.Event()
        with self._lock:
            self._wake_up = lambda: loop.call_soon_threadsafe(stopping.set)
            if self._stopping.is_set():
                stopping.set()
        app, manager = self._build()
        working = asyncio.create_task(self._keep_working(app, manager))
        await _first_of(working, asyncio.create_task(stopping.wait()))
        with self._lock:
            self._wake_up = _nothing
        await self._wind_up(working, manager)

    async def _wind_up(self, working: "asyncio.Task[None]", manager: PatientJobManager) -> None:
        """Cancelling procrastinate's worker lets running jobs end; after the grace they are left behind."""
        working.cancel()
        ended, unfinished = await asyncio.wait({working}, timeout=self._grace_seconds)
        for task in ended:
            if not task.cancelled():
                task.result()  # raises what ended the work before anybody asked for it
        if unfinished:
            self._abandoned = True
            manager.abandon()
            _log.warning("jobs_left_running", seconds_waited=self._grace_seconds)

    def _build(self) -> tuple[App, PatientJobManager]:
        connector = PsycopgConnector(
            conninfo=self._conninfo,
            min_size=1,
            max_size=4,
            timeout=_POOL_SECONDS,
            reconnect_timeout=_POOL_SECONDS,
        )
        app = App(connector=connector)
        manager = PatientJobManager(connector, queue=self._queue)
        app.job_manager = manager
        app.task(name=OPERATION_TASK, retry=_Backoff(self._retry))(self._run_operation)
        return app, manager

    def _run_operation(self, operation_id: str) -> None:
        self._run(uuid.UUID(operation_id))

    async def _keep_working(self, app: App, manager: PatientJobManager) -> None:
        """Start procrastinate's worker again whenever it ends: only `stop` ends the work."""
        while True:
            try:
                await self._work(app, manager)
            except (ConnectorException, psycopg.Error) as error:
                _log.warning("job_worker_lost_catalog", reason=str(error.__cause__ or error))
            await asyncio.sleep(_RESTART_SECONDS)
            manager.expect_orphans()

    async def _work(self, app: App, manager: PatientJobManager) -> None:
        try:
            await app.open_async()
            await self._run_and_tidy(app, manager)
        finally:
            # Also when opening was cut off: the pool's own tasks run from its first moment.
            await app.close_async()

    async def _run_and_tidy(self, app: App, manager: PatientJobManager) -> None:
        tidying = asyncio.create_task(manager.tidy_for_ever(_TIDY_SECONDS, keep_hours=KEEP_HOURS))
        try:
            await app.run_worker_async(
                queues=[self._queue],
                concurrency=self._concurrency,
                fetch_job_polling_interval=POLL_SECONDS,
                abort_job_polling_interval=_TIDY_SECONDS,
                install_signal_handlers=False,
            )
        finally:
            tidying.cancel()


def _run_loop(main: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`, but what is left at the end gets a bounded time.

    A task of psycopg's pool swallows a cancellation that meets it at work, and `asyncio.run` would wait for ever.
    """
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main)
    finally:
        loop.run_until_complete(_end_all_others())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _end_all_others() -> None:
    for _ in range(_LAST_CALLS):
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if not others:
            return
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=_LAST_CALL_SECONDS)


async def _first_of(*tasks: "asyncio.Task[Any]") -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


class _Backoff(BaseRetryStrategy):
    """RetryLater is worth another attempt; nothing else is."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if not isinstance(exception, RetryLater):
            return None
        pause = self._policy.pause(job.attempts + 1)
        return None if pause is None else RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=pause))


class _DaemonThreads(ThreadPoolExecutor):
    """A new thread for each call, which never keeps the process alive; the worker bounds their number."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        threading.Thread(target=_carry_out, args=(future, fn, args, kwargs), name="job", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Nothing: an abandoned job's thread is not waited for."""


def _carry_out(
    future: "Future[Any]", fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001  it belongs to whoever waits for the future
        future.set_exception(error)
    else:
        future.set_result(result)


def _nothing() -> None:
    """No loop to wake."""

"""procrastinate's access to its tables, made to outlive the database.

procrastinate's own worker ends when the database goes away, and a job that ended at that moment stays `doing`
for ever. Here every exchange is repeated until the catalog is back, without disturbing the jobs that are
running, and what may have been lost with a reply is looked up:

* a fetched job whose row never reached us is `doing`, ours, and not held: it is queued again;
* an outcome whose acknowledgement got lost shows in the row's status or attempts: it is not written twice.

Two more gaps are closed. A job that waits for another one's lock, or for its next attempt, is announced by
nobody: we wake the loop ourselves. An announcement that comes while the loop is asking makes it ask again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from functools import partial

import structlog
from procrastinate.connector import BaseAsyncConnector
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Notification, Status
from procrastinate.manager import JobManager, NotificationCallback

from stillframe.catalog.translation import connection_was_lost, translate

AGAIN_SECONDS = 0.5
"""How soon the catalog is asked again after it did not answer."""

_log = structlog.get_logger(__name__)


class PatientJobManager(JobManager):
    """One worker's view of the queue; belongs to the worker's event loop."""

    def __init__(self, connector: BaseAsyncConnector, *, queue: str) -> None:
        super().__init__(connector)
        self._queue = queue
        self._held: set[int] = set()
        self._may_have_orphans = False
        self._abandoned = False
        self._on_notification: NotificationCallback | None = None
        self._notices = 0
        self._alarms: set[asyncio.Task[None]] = set()
        self._catalog_is_away = False

    def abandon(self) -> None:
        """From now on no outcome is written: what is still running stays `doing`, to be recovered later."""
        self._abandoned = True

    def expect_orphans(self) -> None:
        """Look for jobs that are ours and that nobody runs before the next one is fetched."""
        self._may_have_orphans = True

    # --- what the worker calls ------------------------------------------------------------------------------

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """The next job, now `doing` and held; None when there is none or the catalog does not answer."""
        try:
            if self._may_have_orphans:
                await self._release_orphans()
            job = await self._next_job(queues, worker_id)
        except ConnectorException as error:
            self._pass_over(error, "job_queue_unreachable")
            self._may_have_orphans = True
            self._wake_after(AGAIN_SECONDS)
            return None
        self._note_answer()
        if job is not None and job.id is not None:
            self._held.add(job.id)
        return job

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001  its signature
        """Write the end of a job, however long the catalog is away."""
        await self._record(job, partial(super().finish_job, job, status, delete_job))

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Write when a job is to be repeated, however long the catalog is away."""
        await self._record(job, partial(super().retry_job, job, retry_at, priority, queue, lock))
        if retry_at is not None:
            self._wake_after((retry_at - datetime.now(UTC)).total_seconds())

    async def update_heartbeat(self, worker_id: int) -> None:
        """Say that the worker lives; a beat that the catalog does not hear is left out."""
        try:
            await super().update_heartbeat(worker_id)
        except ConnectorException as error:
            self._pass_over(error, "worker_heartbeat_missed")

    async def unregister_worker(self, worker_id: int) -> None:
        """Take the worker off the list; one that cannot be taken off is pruned when it has been silent."""
        try:
            await super().unregister_worker(worker_id)
        except ConnectorException as error:
            self._pass_over(error, "worker_not_unregistered")

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Pass announcements on for ever, over as many connections as it takes."""
        self._on_notification = on_notification
        while True:
            try:
                await super().listen_for_jobs(on_notification=self._announce, queues=queues)
            except ConnectorException as error:
                self._pass_over(error, "job_announcements_interrupted")
            self._may_have_orphans = True
            # What was announced before the new connection listens is found by asking.
            self._wake_after(2 * AGAIN_SECONDS)
            await asyncio.sleep(AGAIN_SECONDS)

    async def tidy_for_ever(self, every_seconds: float, *, keep_hours: int) -> None:
        """Delete jobs that ended that long ago, again and again."""
        while True:
            try:
                await self.delete_old_jobs(
                    nb_hours=keep_hours, include_failed=True, include_cancelled=True, include_aborted=True
                )
            except ConnectorException as error:
                self._pass_over(error, "old_jobs_not_deleted")
            await asyncio.sleep(every_seconds)

    # --- below ----------------------------------------------------------------------------------------------

    async def _next_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        while True:
            seen = self._notices
            job = await super().fetch_job(queues, worker_id)
            if job is not None or seen == self._notices:
                return job

    async def _release_orphans(self) -> None:
        """Queue again what this queue shows as running although nobody here runs it."""
        for job in await self.list_jobs_async(queue=self._queue, status=Status.DOING.value):
            if job.id is not None and job.id not in self._held:
                await self.retry_job_by_id_async(job.id, datetime.now(UTC))
                _log.warning("job_queued_again", job_id=job.id)
        self._may_have_orphans = False

    async def _record(self, job: Job, write: Callable[[], Awaitable[None]]) -> None:
        in_doubt = False
        while not self._abandoned:
            try:
                if not (in_doubt and await self._is_recorded(job)):
                    await write()
                break
            except ConnectorException as error:
                self._pass_over(error, "job_outcome_not_recorded_yet")
                in_doubt = True
                await asyncio.sleep(AGAIN_SECONDS)
        if job.id is not None and not self._abandoned:
            self._held.discard(job.id)
            self._wake_after(0)

    async def _is_recorded(self, job: Job) -> bool:
        """Whether the row is no longer the run that we hold: ending or repeating it changes one of both."""
        rows = list(await self.list_jobs_async(id=job.id))
        return not any(row.status == Status.DOING.value and row.attempts == job.attempts for row in rows)

    async def _announce(self, *, channel: str, notification: Notification) -> None:
        self._notices += 1
        if self._on_notification is not None:
            await self._on_notification(channel=channel, notification=notification)

    def _wake_after(self, seconds: float) -> None:
        alarm = asyncio.get_running_loop().create_task(self._wake(seconds))
        self._alarms.add(alarm)
        alarm.add_done_callback(self._alarms.discard)

    async def _wake(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
        await self._announce(channel="", notification={"type": "job_inserted", "job_id": 0})

    def _pass_over(self, error: ConnectorException, event: str) -> None:
        """Note, once an outage, that the catalog is away; raise what is not explained by that."""
        if isinstance(error, UniqueViolation):
            # Two workers reached for jobs of one lock at the same moment: the other one got it.
            return
        if not connection_was_lost(error.__cause__):
            raise error
        if not self._catalog_is_away:
            _log.warning(event, reason=translate(error.__cause__ or error).message)
        self._catalog_is_away = True

    def _note_answer(self) -> None:
        if self._catalog_is_away:
            _log.info("job_queue_answers_again")
        self._catalog_is_away = False

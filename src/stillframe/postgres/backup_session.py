"""The session a copy of a running cluster is made in (rules 1-7).

It stays open from start to stop; when it breaks, PostgreSQL has aborted the backup and the copy is worthless.
"""

import re
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from stillframe.domain.cancel import CancelToken
from stillframe.domain.lsn import Lsn
from stillframe.errors import ServerUnavailable, SourceDataCorrupt
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import Session, connect

_WATCH_SECONDS = 0.1
_SESSION_ENDED = "57P01"

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupStart:
    """Where the copy begins: WAL from `lsn` on, a checkpoint's redo point, repairs all that is torn."""

    lsn: Lsn
    timeline: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupStop:
    """Where the copy ends, with the two texts exactly as PostgreSQL gave them (rule 6)."""

    lsn: Lsn
    backup_label: str
    tablespace_map: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupLabel:
    """What a backup_label says to the server that starts from it (PostgreSQL: read_backup_label())."""

    start_lsn: Lsn
    checkpoint_lsn: Lsn
    timeline: int


_START = re.compile(r"^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) \(file [0-9A-F]{24}\)$", re.MULTILINE)
_CHECKPOINT = re.compile(r"^CHECKPOINT LOCATION: ([0-9A-F]+/[0-9A-F]+)$", re.MULTILINE)
_TIMELINE = re.compile(r"^START TIMELINE: ([0-9]+)$", re.MULTILINE)


def parse_backup_label(text: str) -> BackupLabel:
    """Read a backup_label. Raises SourceDataCorrupt when a line that we rely on is not there."""
    found = [pattern.search(text) for pattern in (_START, _CHECKPOINT, _TIMELINE)]
    start, checkpoint, timeline = found
    if start is None or checkpoint is None or timeline is None:
        raise SourceDataCorrupt("The backup label is not one that PostgreSQL writes")
    return BackupLabel(
        start_lsn=Lsn.parse(start[1]),
        checkpoint_lsn=Lsn.parse(checkpoint[1]),
        timeline=int(timeline[1]),
    )


class BackupSession:
    """A backup that was begun. Its WAL stays until the session ends."""

    def __init__(self, session: Session, start: BackupStart, beside: ThreadPoolExecutor) -> None:
        self._session = session
        self._beside = beside
        self.start = start

    @property
    def session(self) -> Session:
        """For questions to the server by the thread that began the backup: a session more costs milliseconds."""
        return self._session

    def server_run(self) -> str:
        """Another one after every start and every recovery: the process that writes checkpoints is new then."""
        pid, started = self._session.row(
            "SELECT pid, backend_start::text FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
        )
        return f"{pid} since {started}"

    def beside(self, question: Callable[[], Answer]) -> "Future[Answer]":
        """The answer of somebody who uses the session, once those before have theirs; nobody waits meanwhile."""
        return self._beside.submit(question)

    def stop(self) -> BackupStop:
        """End the backup; call it when every file has been read. The WAL can be read until the session ends.

        Raises ServerUnavailable when the session broke meanwhile, SourceDataCorrupt when WAL that is
        needed has gone.
        """
        with _explaining_the_end():
            lsn, label, tablespace_map = self._session.row(
                "SELECT lsn::text, labelfile, spcmapfile FROM pg_backup_stop(wait_for_archive => false)",
            )
            self._check_wal_kept()
            self._flush_wal(Lsn.parse(lsn))
        return BackupStop(lsn=Lsn.parse(lsn), backup_label=label, tablespace_map=tablespace_map)

    def _flush_wal(self, lsn: Lsn) -> None:
        """The segment switch at the end writes everything out, but for a record that ended a segment anyway."""
        (flushed,) = self._session.row("SELECT pg_current_wal_flush_lsn()::text")
        if Lsn.parse(flushed) < lsn:
            self._session.row("SELECT pg_logical_emit_message(false, 'stillframe', '', true)::text")

    def check(self) -> None:
        """Raise, as `stop` would, when the backup can no longer succeed. Quick; ask now and then."""
        with _explaining_the_end():
            self._check_wal_kept()

    def _check_wal_kept(self) -> None:
        rows = self._session.rows(
            "SELECT wal_status FROM pg_replication_slots WHERE active_pid = pg_backend_pid() AND temporary",
        )
        if not rows or rows[0][0] in {"lost", "unreserved"}:
            raise SourceDataCorrupt(
                "The server removed WAL that the snapshot needs, because more was written than may be kept",
                hint="Let the server keep more WAL during a snapshot, or take it at a quieter time.",
            )


@contextmanager
def _explaining_the_end() -> Iterator[None]:
    """A server that needs the space of held WAL ends the session that holds it, and says only that it did."""
    try:
        yield
    except ServerUnavailable as error:
        if error.facts.get("sqlstate") != _SESSION_ENDED:
            raise
        raise ServerUnavailable(
            "The server ended the session of the snapshot",
            hint="It was shut down, or more WAL was written during the snapshot than it may keep.",
        ) from error


@contextmanager
def backup_session(
    cluster: Cluster,
    *,
    label: str,
    cancel: CancelToken,
    deadline: float = 3600,
) -> Iterator[BackupSession]:
    """Begin a backup of the running cluster; leaving the block ends it, stopped or not.

    Waits for the checkpoint, at most `deadline` seconds, or until cancelled. The WAL from its beginning on is
    held by a temporary slot: it goes with the session, however that ends, and the server's limit for slots
    bounds it. Raises ServerUnavailable or Cancelled.
    """
    with (
        connect(cluster, statement_timeout=deadline) as session,
        ThreadPoolExecutor(1, thread_name_prefix="backup-beside") as beside,
    ):
        if session.row("SELECT pg_is_in_recovery()")[0]:
            raise ServerUnavailable("The server is still recovering, so no snapshot can be taken of it")
        # First: another checkpoint may come at any moment after the backup's own, and take WAL away.
        _hold_wal(session)
        with _cancellable(session, cancel):
            lsn, timeline = session.row(
                "SELECT start::text, timeline_id"
                " FROM pg_backup_start(%s, fast => true) AS start, pg_control_checkpoint()",
                (label,),
            )
        yield BackupSession(session, BackupStart(lsn=Lsn.parse(lsn), timeline=timeline), beside)


def _hold_wal(session: Session) -> None:
    session.row(
        "SELECT pg_create_physical_replication_slot(%s, immediately_reserve => true, temporary => true)",
        (f"stillframe_{secrets.token_hex(8)}",),
    )


@contextmanager
def _cancellable(session: Session, cancel: CancelToken) -> Iterator[None]:
    """Cancel the session's statement when somebody asks; the checkpoint of a busy server takes minutes."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_WATCH_SECONDS):
            if cancel.cancelled:
                session.cancel()

    watcher = threading.Thread(target=watch, name="backup-start-watch", daemon=True)
    watcher.start()
    try:
        yield
    except ServerUnavailable:
        cancel.raise_if_cancelled()
        raise
    finally:
        done.set()
        watcher.join()
    cancel.raise_if_cancelled()

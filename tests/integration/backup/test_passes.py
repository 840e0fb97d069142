"""A snapshot beside much work is taken in passes, so that a restore of it has little WAL to replay."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stillframe.backup.progress import Progress
from stillframe.domain.cancel import CancelToken
from stillframe.domain.clock import SystemClock
from stillframe.domain.identifiers import LineageId
from stillframe.errors import Cancelled
from stillframe.postgres.cluster import Cluster
from stillframe.repository import CaptureMode, Level, Repository
from support.backup import new_repository, restored, take
from support.postgres import QUIET, login, running_namespace

pytestmark = pytest.mark.integration

_SHORT = 1 << 20
_ROWS = 40_000
_SUMS = "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM {} x"


class Interrupted(Progress):
    """Does something at the end of each pass, before it knows how much WAL there is, for so many passes."""

    def __init__(self, work: Callable[[int], None], *, passes: int) -> None:
        super().__init__(SystemClock())
        self._work = work
        self._left = passes
        self.passes = 0

    def begin(self, phase: str) -> None:
        """As `Progress.begin`."""
        super().begin(phase)
        self.passes += phase == "checkpoint"
        if phase == "finishing" and self._left > 0:
            self._left -= 1
            self._work(self.passes)


@pytest.fixture(scope="module")
def busy() -> Iterator[Cluster]:
    with running_namespace(QUIET) as cluster:
        with login(cluster) as session:
            session.execute(
                "CREATE TABLE still AS SELECT g AS id, md5(g::text) AS t FROM generate_series(1, 300000) g"
            )
            session.execute(f"CREATE TABLE busy AS SELECT g AS id, 0 AS n FROM generate_series(1, {_ROWS}) g")
            session.execute("CREATE INDEX ON busy (id)")
            # Otherwise the first look at the rows would change their pages.
            session.execute("VACUUM FREEZE")
        yield cluster


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return new_repository(tmp_path)


def change(cluster: Cluster, *, rows: int = _ROWS) -> Callable[[int], None]:
    """Updates so many rows, and makes, fills and drops tables."""

    def work(number: int) -> None:
        name = f"made_{uuid.uuid4().hex[:8]}"
        with login(cluster) as session:
            session.execute(f"UPDATE busy SET n = n + {number} WHERE id <= {rows}".encode())
            session.execute(f"CREATE TABLE {name} AS SELECT * FROM busy LIMIT 100".encode())
            session.execute("DROP TABLE IF EXISTS gone")
            session.execute(f"ALTER TABLE {name} RENAME TO gone".encode())

    return work


def state(cluster: Cluster) -> list[object]:
    """All rows of all tables."""
    with login(cluster) as session:
        names = session.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        ).fetchall()
        return [(name, session.execute(_SUMS.format(name).encode()).fetchone()) for (name,) in names]


def test_what_changed_meanwhile_is_read_once_more_and_the_wal_is_short(
    busy: Cluster, repository: Repository
) -> None:
    lineage = LineageId(uuid.uuid4())
    progress = Interrupted(change(busy), passes=1)
    document = take(repository, busy, progress=progress, short_wal=_SHORT, lineage_id=lineage)
    assert progress.passes == 2
    assert document.facts.wal_bytes <= _SHORT
    assert (document.facts.mode, document.parent_id) == (CaptureMode.FULL, None)
    assert document.facts.full_reason is not None
    assert progress.current.done_bytes == progress.current.total_bytes == document.facts.bytes_read
    assert list(repository.snapshot_ids()) == [document.snapshot_id]
    assert repository.check(level=Level.BYTES).clean
    with restored(repository, document) as copy:
        assert state(copy) == state(busy)

    # The next one relies on where the last pass began.
    change(busy, rows=50)(7)
    following = take(repository, busy, parent=document.snapshot_id, short_wal=_SHORT, lineage_id=lineage)
    assert following.facts.mode is CaptureMode.INCREMENTAL
    assert following.facts.bytes_read < document.facts.bytes_read / 4
    with restored(repository, following, timeline=3) as copy:
        assert state(copy) == state(busy)


def test_passes_end_when_they_gain_nothing(busy: Cluster, repository: Repository) -> None:
    progress = Interrupted(change(busy), passes=9)
    document = take(repository, busy, progress=progress, short_wal=_SHORT)
    # The second read what the first had left, and left as much.
    assert progress.passes == 2
    assert document.facts.wal_bytes > _SHORT
    with restored(repository, document) as copy:
        assert state(copy) == state(busy)


def test_little_wal_takes_one_pass(busy: Cluster, repository: Repository) -> None:
    progress = Interrupted(change(busy, rows=10), passes=9)
    document = take(repository, busy, progress=progress)
    assert progress.passes == 1
    with restored(repository, document) as copy:
        assert state(copy) == state(busy)


def test_a_second_pass_that_is_cancelled_leaves_nothing(busy: Cluster, repository: Repository) -> None:
    cancel = CancelToken()
    update = change(busy)

    def work(number: int) -> None:
        update(number)
        if number == 2:
            cancel.cancel("for a test")

    progress = Interrupted(work, passes=2)
    with pytest.raises(Cancelled):
        take(repository, busy, progress=progress, cancel=cancel, short_wal=_SHORT)
    assert progress.passes == 2
    found = repository.statistics()
    assert (found.snapshots, found.packs, found.node_packs, found.open_or_abandoned_writers) == (0, 0, 0, 0)


def test_what_only_the_first_pass_needed_does_not_harm_a_sweep(busy: Cluster, repository: Repository) -> None:
    def empty(_number: int) -> None:
        with login(busy) as session:
            session.execute("TRUNCATE still")
            session.execute("INSERT INTO still SELECT g, 'new' FROM generate_series(1, 20000) g")

    document = take(repository, busy, progress=Interrupted(empty, passes=1), short_wal=_SHORT)
    for _ in range(2):
        repository.sweep()
    assert repository.check(level=Level.BYTES).clean
    with restored(repository, document) as copy:
        assert state(copy) == state(busy)

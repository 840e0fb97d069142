"""Two histories that PostgreSQL's own incremental backup copies wrongly, and an incremental snapshot does not.

Both faults were seen in PostgreSQL 18.6, where they have to appear. A release that does without one skips the test
and says so, as does a file system on which the first cannot appear. docs/explanation/correctness.md describes them.
"""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from stillframe.backup import parent
from stillframe.domain.lsn import Lsn
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import connect
from stillframe.postgres.pages import PAGE_SIZE, new_pages
from stillframe.postgres.wal_summaries import FOLDER, NO_LIMIT, Blocks, ForkChanges, merge_summaries
from support.equivalence import UNDISTURBED, Rig, equivalence_rig, summary_files
from support.equivalence_native import SEEN_IN, Difference, Fault, NativeTools, differences, start_of
from support.postgres import cluster_in, login, reachable_directory, stopped_at_the_end

pytestmark = pytest.mark.integration

_QUEUES = tuple(f"queue{number}" for number in range(12))
"""Each shrinks in one summary and grows in the next. That a directory lists thirteen names in order by chance happens
once in six thousand million times; some file systems always do."""


_BULK = (
    "CREATE TABLE bulk AS SELECT n, repeat('q', 700) AS t FROM generate_series(1, 9000) AS n",
    "VACUUM bulk",
)


@dataclass(kw_only=True)
class Pair:
    """The same cluster, copied by both."""

    rig: Rig
    tools: NativeTools

    def begin(self) -> None:
        """The copies that the incremental ones are to rely on."""
        self.tools.extend()
        self.rig.capture()

    def copy_incrementally(self) -> None:
        """Ours comes second, asserts that it was incremental, and equals a full copy."""
        self.tools.extend()
        self.rig.verified()

    def run(self, *statements: str) -> None:
        """As the admin, each in a transaction of its own."""
        with login(self.rig.cluster) as admin:
            for statement in statements:
                admin.execute(statement.encode())

    def checkpoint(self) -> Lsn:
        """End a summary; some position within it."""
        with connect(self.rig.cluster) as session:
            (row,) = session.rows("SELECT pg_current_wal_insert_lsn()::text")
            session.execute("CHECKPOINT")
        return Lsn.parse(str(row[0]))

    def paths(self, tables: Sequence[str]) -> dict[str, str]:
        """Where each table is, and its name."""
        with login(self.rig.cluster) as admin:
            found = [admin.execute("SELECT pg_relation_filepath(%s)", (name,)).fetchone() for name in tables]
        return {str(row[0]): name for row, name in zip(found, tables, strict=True) if row is not None}


@pytest.fixture
def pair() -> Iterator[Pair]:
    with equivalence_rig() as rig, reachable_directory() as directory:
        yield Pair(rig=rig, tools=NativeTools(cluster=rig.cluster, directory=directory))


def test_native_copies_depend_on_the_order_in_which_a_directory_lists_the_summaries(pair: Pair) -> None:
    for name in _QUEUES:
        _create_queue(pair, name)
    pair.begin()
    positions = [_shrink_and_grow(pair, None, _QUEUES[0])]
    for grows, shrinks in zip(_QUEUES, (*_QUEUES[1:], None), strict=True):
        positions.append(_shrink_and_grow(pair, grows, shrinks))
    paths = pair.paths(_QUEUES)
    pair.copy_incrementally()
    odd, combined = _compared(pair)
    wrong, endangered = {paths[one.path] for one in odd}, _listed_backwards(pair.rig.cluster, positions)
    if not endangered:
        assert not odd
        pytest.skip(
            "This file system lists files in the order in which they were made, which is the right one"
        )
    _require_seen(pair, odd)
    assert {difference.fault for difference in odd} == {Fault.OLDER}
    assert wrong == endangered
    rows, expected = _rows(pair, combined, _QUEUES)
    assert {name for name in _QUEUES if rows[name] != expected[name]} == wrong


def _create_queue(pair: Pair, name: str) -> None:
    pair.run(
        f"CREATE TABLE {name} AS SELECT n, repeat('q', 700) AS t FROM generate_series(1, 1200) AS n",
        f"VACUUM {name}",
    )


def _shrink_and_grow(pair: Pair, grows: str | None, shrinks: str | None) -> Lsn:
    if grows is not None:
        pair.run(f"INSERT INTO {grows} SELECT -n, repeat('r', 700) FROM generate_series(1, 500) AS n")
    if shrinks is not None:
        pair.run(f"DELETE FROM {shrinks} WHERE n > 300", f"VACUUM {shrinks}")
    return pair.checkpoint()


def _listed_backwards(cluster: Cluster, positions: Sequence[Lsn]) -> set[str]:
    """The tables whose growth the directory lists before their truncation."""
    listed = [path.name for path in (cluster.data_directory / FOLDER).iterdir()]
    places = [_place(listed, position) for position in positions]
    return {name for name, (cut, grown) in zip(_QUEUES, pairwise(places), strict=True) if grown < cut}


def _place(listed: Sequence[str], position: Lsn) -> int:
    """Where the list has the summary that holds this position."""
    (place,) = (
        place
        for place, name in enumerate(listed)
        if name.endswith(".summary") and int(name[8:24], 16) < position <= int(name[24:40], 16)
    )
    return place


def test_native_copies_bring_back_old_pages_for_pages_that_were_never_initialised(pair: Pair) -> None:
    pair.run(*_BULK)
    pair.begin()
    before = len(summary_files(pair.rig.cluster))
    _cut_and_copy_in(pair)
    pair.copy_incrementally()
    # One for the truncation and the growth, and up to three for the checkpoints of three copies.
    assert before < len(summary_files(pair.rig.cluster)) <= before + 4
    odd, combined = _compared(pair)
    (path,) = pair.paths(("bulk",))
    empty = _empty_blocks(pair.rig.cluster.data_directory / path)
    assert empty, "no page was left uninitialised, so nothing was tried"
    _require_seen(pair, odd)
    assert {(difference.path, difference.block) for difference in odd} == {(path, block) for block in empty}
    assert {difference.fault for difference in odd} == {Fault.FOR_EMPTY}
    rows, expected = _rows(pair, combined, ("bulk",))
    assert rows["bulk"][0] > expected["bulk"][0] == 1000


def _cut_and_copy_in(pair: Pair) -> None:
    """COPY makes a table longer by many pages at once, and leaves some of them to nobody: no WAL mentions them."""
    pair.run("DELETE FROM bulk WHERE n > 500", "VACUUM bulk")
    statement = b"COPY bulk FROM STDIN"
    with login(pair.rig.cluster) as admin, admin.cursor() as cursor, cursor.copy(statement) as copy:
        for number in range(500):
            copy.write_row((number, "b" * 3000))


def test_the_comparison_would_notice_the_same_faults_in_ours(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    _create_queue(pair, "queue")
    pair.rig.capture()
    _forget_cuts(monkeypatch)
    _shrink_and_grow(pair, None, "queue")
    _shrink_and_grow(pair, "queue", None)
    with monkeypatch.context() as backwards:
        backwards.setattr(parent, "merge_summaries", lambda files: merge_summaries(reversed(files)))
        _require_noticed(pair, "queue")
    pair.run(*_BULK)
    # A full one: what is wrong now would be inherited.
    pair.rig.last = None
    pair.rig.capture()
    _cut_and_copy_in(pair)
    _require_noticed(pair, "bulk")


def _require_noticed(pair: Pair, table: str) -> None:
    (path,) = pair.paths((table,))
    with pytest.raises(AssertionError, match=f"{path} block"):
        pair.rig.verified()


def _forget_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on pages beyond a cut are read only when they are listed, as PostgreSQL does it."""
    merge = ForkChanges.merge

    def forgetting(changes: ForkChanges, limit: int, blocks: Blocks) -> None:
        merge(changes, limit, blocks)
        if changes.limit > 0:
            changes.limit = NO_LIMIT

    monkeypatch.setattr(ForkChanges, "merge", forgetting)


def _empty_blocks(path: Path) -> list[int]:
    content = path.read_bytes()
    assert len(content) % PAGE_SIZE == 0
    return [block for block, empty in enumerate(new_pages(content).tolist()) if empty]


def _compared(pair: Pair) -> tuple[list[Difference], Path]:
    """How the combined native copy differs from a native full one; the copy, which pg_verifybackup approves of."""
    full, combined = pair.tools.full(), pair.tools.combine()
    assert "backup successfully verified" in pair.tools.verify(combined)
    return differences(combined, full, start=start_of(pair.tools.chain[-1])), combined


def _require_seen(pair: Pair, odd: list[Difference]) -> None:
    """In the release that is known for it the fault has to be there; another may be without."""
    installation = pair.rig.cluster.installation
    if installation.version_num != SEEN_IN and not odd:
        pytest.skip(
            f"PostgreSQL {installation.build} copied this history rightly: its fault seems to be mended"
        )
    assert odd


Rows = dict[str, tuple[int, int]]


def _rows(pair: Pair, combined: Path, tables: Sequence[str]) -> tuple[Rows, Rows]:
    """How many rows each table has, and their sum: in the native copy, started, and in the source."""
    expected = {name: _count(pair.rig.cluster, name) for name in tables}
    with reachable_directory() as directory:
        copy = cluster_in(directory)
        combined.rename(copy.data_directory)
        if (owner := copy.identity.owner) is not None:
            subprocess.run(["chown", "-R", "{}:{}".format(*owner), str(copy.data_directory)], check=True)
        with stopped_at_the_end(copy):
            copy.start(UNDISTURBED)
            return {name: _count(copy, name) for name in tables}, expected


def _count(cluster: Cluster, table: str) -> tuple[int, int]:
    with login(cluster) as admin:
        row = admin.execute(f"SELECT count(*), sum(n) FROM {table}".encode()).fetchone()
    assert row is not None
    count, total = row
    assert isinstance(count, int)
    assert isinstance(total, int)
    return count, total

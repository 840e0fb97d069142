"""A snapshot restored by cloning a running cluster's files is the snapshot, whatever that cluster does meanwhile."""

import contextlib
import os
import random
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from stillframe.backup.local_clone import CloneBase, clone_problem
from stillframe.backup.restore import restore_from_base, start_restored
from stillframe.domain.cancel import CancelToken
from stillframe.domain.identifiers import LineageId
from stillframe.postgres.cluster import Cluster, StopMode
from stillframe.postgres.connection import connect
from stillframe.postgres.pages import PAGE_SIZE
from stillframe.postgres.roles import prepare_namespace
from stillframe.postgres.scram import scram_verifier
from stillframe.postgres.wal_summaries import SummariesUnusable
from stillframe.repository import Repository, SnapshotDocument
from support.backup import lay_out, new_progress, new_repository, take
from support.damage import flip_bit
from support.hydration_disks import disk
from support.postgres import (
    ADMIN,
    PASSWORD,
    SMALL,
    cluster_in,
    login,
    pgbench,
    pgbench_beside,
    reachable_directory,
    stopped_at_the_end,
)

pytestmark = pytest.mark.integration

# Read before the tests are run: none of them sees the developer's own settings.
_FILE_SYSTEMS = os.environ.get("STILLFRAME_CLONE_FILE_SYSTEMS", "xfs").split()
"""Also "btrfs"; all tests passed on both, and one is enough for every day."""
_ROUNDS = 1


@pytest.fixture(scope="module", params=_FILE_SYSTEMS)
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory on a file system that can clone files."""
    with reachable_directory() as directory, disk(directory, request.param) as mounted:
        assert clone_problem(mounted.mount_point) is None
        yield mounted.mount_point


@pytest.fixture(scope="module")
def base(place: Path) -> Iterator[CloneBase]:
    """A running cluster there, with some tables."""
    cluster = cluster_in(place)
    with stopped_at_the_end(cluster):
        cluster.initialize()
        cluster.start(SMALL)
        prepare_namespace(cluster, admin=ADMIN, verifier=scram_verifier(PASSWORD), database="dev")
        pgbench(cluster, "-i", "-q", "-s", "3")
        run(
            cluster,
            "CREATE TABLE facts AS SELECT n, repeat(md5(n::text), 8) AS t FROM generate_series(1, 40000) AS n",
            "CREATE INDEX ON facts (n)",
            "CREATE TABLE gone AS SELECT n FROM generate_series(1, 20000) AS n",
            "CREATE TABLE long_texts AS SELECT string_agg(md5(n::text), '') AS t FROM generate_series(1, 90000) AS n",
            "CREATE TABLE cut AS SELECT n, repeat('x', 200) AS t FROM generate_series(1, 20000) AS n",
            "VACUUM",
        )
        yield CloneBase(cluster=cluster, lineage_id=LineageId(uuid.uuid4()), origins=())


@pytest.fixture(scope="module")
def repository() -> Iterator[Repository]:
    with reachable_directory() as directory:
        yield new_repository(directory)


@pytest.fixture
def target(place: Path) -> Iterator[Cluster]:
    """Where the snapshot is restored to; gone after the test."""
    made = cluster_in(place / uuid.uuid4().hex)
    made.identity.make_directory(made.data_directory.parent)
    made.identity.make_directory(made.data_directory)
    with stopped_at_the_end(made):
        yield made


def run(cluster: Cluster, *statements: str, database: str = "dev") -> None:
    """Run these as the admin, each in a transaction of its own."""
    with login(cluster, database=database) as admin:
        for statement in statements:
            admin.execute(statement.encode())


def cloned(repository: Repository, document: SnapshotDocument, target: Cluster, base: CloneBase) -> int:
    """Restore by clones; how many bytes had not to be fetched."""
    with repository.open_snapshot(document.snapshot_id) as reader:
        return restore_from_base(reader, target, base, progress=new_progress(), cancel=CancelToken())


def assert_same_as_copied(repository: Repository, document: SnapshotDocument, target: Cluster) -> None:
    """The directory equals one that was restored without any base, file by file and byte by byte."""
    with reachable_directory() as directory:
        copied = cluster_in(directory)
        lay_out(repository, document, copied)
        names = {found.relative_to(copied.data_directory) for found in copied.data_directory.rglob("*")}
        assert {
            found.relative_to(target.data_directory) for found in target.data_directory.rglob("*")
        } == names
        for name in names:
            one, other = target.data_directory / name, copied.data_directory / name
            assert (one.stat().st_mode, one.stat().st_uid) == (other.stat().st_mode, other.stat().st_uid), (
                name
            )
            if other.is_file():
                assert different_pages(one, other) == [], name


def different_pages(one: Path, other: Path) -> list[int]:
    """The numbers of the pages in which two files differ; -1 when their lengths do."""
    ours, theirs = one.read_bytes(), other.read_bytes()
    if len(ours) != len(theirs):
        return [-1]
    return [
        at // PAGE_SIZE
        for at in range(0, len(ours), PAGE_SIZE)
        if ours[at : at + PAGE_SIZE] != theirs[at : at + PAGE_SIZE]
    ]


def test_what_was_changed_since_is_as_it_was_and_only_that_is_fetched(
    repository: Repository, base: CloneBase, target: Cluster
) -> None:
    document = take(repository, base.cluster, lineage_id=base.lineage_id)
    run(
        base.cluster,
        "UPDATE facts SET t = 'changed' WHERE n % 2000 = 0",
        "DELETE FROM cut WHERE n > 1000",
        "VACUUM cut",
        "INSERT INTO cut SELECT n, 'again' FROM generate_series(1, 5000) AS n",
        "DROP TABLE gone",
        "CREATE TABLE gone AS SELECT n FROM generate_series(1, 100) AS n",
        "CREATE TABLE later AS SELECT n FROM generate_series(1, 10000) AS n",
        "TRUNCATE long_texts",
        "VACUUM FULL pgbench_tellers",
        "CREATE DATABASE second",
    )
    taken = cloned(repository, document, target, base)
    assert taken > document.statistics.logical_bytes * 0.6
    assert_same_as_copied(repository, document, target)
    start_restored(target, document.facts, timeline=document.facts.timeline + 1, settings=SMALL, deadline=60)
    with login(target) as admin:
        assert admin.execute("SELECT count(*) FROM facts WHERE t = 'changed'").fetchone() == (0,)
        assert admin.execute("SELECT count(*) FROM gone").fetchone() == (20000,)
    run(base.cluster, "DROP DATABASE second", "DROP TABLE later")


def test_it_is_the_snapshot_while_the_base_is_written_to(
    repository: Repository, base: CloneBase, place: Path
) -> None:
    """Snapshot, clone and everything between in the middle of updates, vacuums, truncations and checkpoints."""
    chance = random.Random(4711)
    clients = pgbench_beside(base.cluster, "-n", "-c", "3", "-T", "600")
    try:
        for number in range(_ROUNDS):
            document = take(repository, base.cluster, lineage_id=base.lineage_id)
            for _ in range(chance.randrange(4)):
                disturb(base.cluster, chance)
            target = cluster_in(place / f"written-{number}-{uuid.uuid4().hex[:6]}")
            target.identity.make_directory(target.data_directory.parent)
            target.identity.make_directory(target.data_directory)
            assert cloned(repository, document, target, base) > 0
            assert_same_as_copied(repository, document, target)
        assert clients.poll() is None
    finally:
        clients.kill()
        clients.communicate()


def disturb(cluster: Cluster, chance: random.Random) -> None:
    """Something that changes files in another way than rows do."""
    name = f"churn_{chance.randrange(3)}"
    run(
        cluster,
        *chance.choice(
            [
                ("VACUUM FREEZE pgbench_accounts",),
                (
                    f"DROP TABLE IF EXISTS {name}",
                    f"CREATE TABLE {name} AS SELECT n FROM generate_series(1, 30000) n",
                ),
                (
                    f"CREATE TABLE IF NOT EXISTS {name} (n int)",
                    f"TRUNCATE {name}",
                    f"INSERT INTO {name} VALUES (1)",
                ),
                ("REINDEX TABLE facts",),
                ("DELETE FROM cut WHERE n % 3 = 0", "VACUUM cut"),
                ("INSERT INTO cut SELECT n, 'more' FROM generate_series(1, 3000) AS n",),
                ("SELECT count(*) FROM facts",),
            ]
        ),
    )
    with connect(cluster) as session:
        session.execute("CHECKPOINT")


def test_a_base_that_crashed_meanwhile_is_no_less_right(
    repository: Repository, base: CloneBase, target: Cluster
) -> None:
    document = take(repository, base.cluster, lineage_id=base.lineage_id)
    run(base.cluster, "UPDATE facts SET t = 'before the crash' WHERE n < 2000")
    base.cluster.stop(StopMode.KILL)
    base.cluster.start(SMALL)
    run(base.cluster, "UPDATE facts SET t = 'after the crash' WHERE n BETWEEN 3000 AND 4000")
    assert cloned(repository, document, target, base) > 0
    assert_same_as_copied(repository, document, target)


def test_other_databases_are_not_cloned_even_if_they_look_the_same(
    repository: Repository, base: CloneBase, target: Cluster
) -> None:
    document = take(repository, base.cluster, lineage_id=base.lineage_id)
    another = replace(base, lineage_id=LineageId(uuid.uuid4()))
    with pytest.raises(SummariesUnusable, match="do not come from"):
        cloned(repository, document, target, another)
    assert list(target.data_directory.iterdir()) == []


def test_without_the_summaries_of_all_that_happened_nothing_is_cloned(
    repository: Repository, base: CloneBase, target: Cluster
) -> None:
    document = take(repository, base.cluster, lineage_id=base.lineage_id)
    run(base.cluster, "UPDATE facts SET t = 'not told' WHERE n < 100")
    with connect(base.cluster) as session:
        session.execute("CHECKPOINT")
        session.execute("SELECT pg_sleep(1)")
    lost = max(base.cluster.data_directory.glob("pg_wal/summaries/*.summary"), key=lambda path: path.name[8:])
    kept = lost.rename(lost.with_suffix(".kept"))
    try:
        with pytest.raises(SummariesUnusable, match="was not summarised"):
            cloned(repository, document, target, base)
        assert list(target.data_directory.iterdir()) == []
    finally:
        kept.rename(lost)


def test_a_base_that_does_not_run_is_not_cloned(
    repository: Repository, base: CloneBase, target: Cluster
) -> None:
    document = take(repository, base.cluster, lineage_id=base.lineage_id)
    base.cluster.stop()
    try:
        with pytest.raises(SummariesUnusable):
            cloned(repository, document, target, base)
        assert list(target.data_directory.iterdir()) == []
    finally:
        base.cluster.start(SMALL)


def test_a_base_that_has_met_damage_is_not_cloned(
    repository: Repository, base: CloneBase, target: Cluster
) -> None:
    """Clones are not read, so what is wrong with them would come along."""
    document = take(repository, base.cluster, lineage_id=base.lineage_id)
    with login(base.cluster) as admin:
        row = admin.execute("SELECT pg_relation_filepath('facts')").fetchone()
    assert row is not None
    path = base.cluster.data_directory / str(row[0])
    base.cluster.stop()
    flip_bit(path, 7 * PAGE_SIZE + 4000)
    base.cluster.start(SMALL)
    try:
        with login(base.cluster) as admin, pytest.raises(psycopg.errors.DataCorrupted):
            admin.execute("SELECT count(t) FROM facts")
        with pytest.raises(SummariesUnusable, match="damaged"):
            cloned(repository, document, target, base)
    finally:
        base.cluster.stop()
        flip_bit(path, 7 * PAGE_SIZE + 4000)
        base.cluster.start(SMALL)
        with connect(base.cluster, "dev") as session:
            session.execute("SELECT pg_stat_reset()")


def test_files_that_are_still_arriving_are_not_cloned(
    repository: Repository, base: CloneBase, target: Cluster
) -> None:
    document = take(repository, base.cluster, lineage_id=base.lineage_id)
    base.cluster.begin_arrival(b"from a test")
    try:
        with pytest.raises(SummariesUnusable, match="arriving"):
            cloned(repository, document, target, base)
    finally:
        with contextlib.suppress(FileNotFoundError):
            base.cluster.end_arrival()


def test_a_file_that_vanishes_is_fetched(
    repository: Repository, base: CloneBase, target: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if its table was dropped between the list of files and its turn."""
    document = take(repository, base.cluster, lineage_id=base.lineage_id)
    whole = cloned(repository, document, target, base)
    with repository.open_snapshot(document.snapshot_id) as reader:
        largest = max((entry for entry in reader.files() if entry.is_relation), key=lambda entry: entry.size)
    path = base.cluster.data_directory / largest.path
    another = cluster_in(target.data_directory.parent / "another")
    another.identity.make_directory(another.data_directory.parent)
    another.identity.make_directory(another.data_directory)
    path.rename(path.with_suffix(".away"))
    try:
        assert cloned(repository, document, another, base) == whole - largest.size
    finally:
        path.with_suffix(".away").rename(path)
    assert_same_as_copied(repository, document, another)


def test_a_file_system_without_reflinks_says_so(tmp_path: Path) -> None:
    with disk(tmp_path, "ext4") as mounted:
        assert clone_problem(mounted.mount_point) is not None

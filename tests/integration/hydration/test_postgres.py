"""A real server on a directory whose relation files are still arriving: whatever it does, nothing is lost."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stillframe.hydration import tag, tagged
from stillframe.postgres.cluster import Cluster, StopMode
from stillframe.postgres.connection import connect
from support.hydration import HydratorProcess, Place, eventually, skip_unless_supported
from support.hydration_changes import require_sound
from support.postgres import (
    SMALL,
    cluster_in,
    login,
    pgbench,
    pgbench_beside,
    reachable_directory,
    running_namespace,
    stopped_at_the_end,
)

pytestmark = pytest.mark.integration

_RELATION = re.compile(r"\d+(_fsm|_vm|_init)?(\.\d+)?")
_TABLES = ("kept", "changed", "rewritten", "vacuumed", "pgbench_accounts")
_DATA = (
    "CREATE TABLE kept AS SELECT g AS id, md5(g::text) AS t FROM generate_series(1, 40000) g",
    "CREATE INDEX ON kept (t)",
    "CREATE TABLE changed AS SELECT * FROM kept",
    "CREATE TABLE rewritten AS SELECT * FROM kept",
    "CREATE TABLE vacuumed AS SELECT * FROM kept",
    "CREATE TABLE emptied AS SELECT * FROM kept",
    "CREATE TABLE dropped AS SELECT * FROM kept",
    "CREATE TABLE shrunk AS SELECT * FROM kept",
)
_DAMAGE = (
    "UPDATE changed SET t = 'new ' || id WHERE id % 100 = 0",
    "TRUNCATE emptied",
    "INSERT INTO emptied SELECT g, 'again' FROM generate_series(1, 20000) g",
    "DROP TABLE dropped",
    "CHECKPOINT",
    "CREATE TABLE fresh AS SELECT g AS id, 'fresh' AS t FROM generate_series(1, 30000) g",
    "ALTER TABLE rewritten ALTER COLUMN id TYPE bigint",
    "DELETE FROM vacuumed WHERE id % 3 = 0",
    "VACUUM vacuumed",
    "DELETE FROM shrunk WHERE id > 1000",
    # Cuts the end of the file off, and lets it grow again.
    "VACUUM shrunk",
    "INSERT INTO shrunk SELECT g, 'grown' FROM generate_series(1, 30000) g",
    "VACUUM FULL changed",
    "CHECKPOINT",
    "CREATE DATABASE by_wal TEMPLATE template1 STRATEGY wal_log",
    "CREATE DATABASE by_files TEMPLATE template1 STRATEGY file_copy",
    "DROP DATABASE by_wal",
)


@contextmanager
def _half_arrived(*, crashed_after: str | None = None) -> Iterator[tuple[Cluster, Place]]:
    """Of a server that was shut down, or killed after a statement that WAL has and its files may not have."""
    with running_namespace() as original, reachable_directory() as directory:
        skip_unless_supported(directory)
        pgbench(original, "-i", "-s", "1", "-q")
        with login(original) as session:
            for statement in _DATA:
                session.execute(statement)
        if crashed_after is not None:
            _run(original, ("CHECKPOINT", crashed_after))
        original.stop(StopMode.FAST if crashed_after is None else StopMode.KILL)
        cluster = cluster_in(directory)
        for name in ("data", "reference"):
            subprocess.run(["cp", "-a", original.data_directory, directory / name], check=True)
        (directory / "half").symlink_to(cluster.data_directory)
        for path in _relation_files(cluster.data_directory):
            _empty(path)
        with stopped_at_the_end(cluster):
            yield cluster, Place(directory, filled=True)


def _relation_files(data: Path) -> list[Path]:
    found = [*data.glob("base/*/*"), *data.glob("global/*")]
    return [path for path in found if _RELATION.fullmatch(path.name) and path.stat().st_size]


def _empty(path: Path) -> None:
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        file.truncate(0)
        file.truncate(size)
        tag(file.fileno(), size)


def _run(cluster: Cluster, statements: tuple[str, ...]) -> None:
    with connect(cluster, database="dev") as session:
        session.execute("SET search_path = public")
        for statement in statements:
            session.execute(statement)


def _checked(cluster: Cluster, tables: tuple[str, ...]) -> list[tuple[object, ...]]:
    question = "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM {} x"
    with login(cluster) as session:
        found: list[tuple[object, ...]] = []
        for table in tables:
            row = session.execute(question.format(table)).fetchone()
            assert row is not None
            found.append((table, *row))
    return found


@contextmanager
def _eager(place: Place) -> Iterator[Cluster]:
    """The same cluster, complete from the beginning."""
    with reachable_directory() as directory:
        cluster = cluster_in(directory)
        subprocess.run(["cp", "-a", place.reference, cluster.data_directory], check=True)
        with stopped_at_the_end(cluster):
            cluster.start(SMALL)
            yield cluster


def test_a_server_that_changes_everything_while_files_arrive_ends_up_as_if_they_had_been_there() -> None:
    tables = (*_TABLES, "emptied", "shrunk", "fresh")
    with _half_arrived() as (cluster, place):
        hydrator = HydratorProcess(place)
        try:
            hydrator.start(cluster, SMALL)
            assert _checked(cluster, ("kept",))[0][1] == 40000
            assert 0 < hydrator.status.arrived_bytes < hydrator.status.total_bytes / 2
            _run(cluster, _DAMAGE[:6])
            place.slow(slow=True)
            hydrator.client.background()
            _run(cluster, _DAMAGE[6:])
            place.slow(slow=False)
            hydrator.complete()
        finally:
            hydrator.kill()
        found = _checked(cluster, tables)
        require_sound(cluster)
        assert list(tagged(cluster.data_directory)) == []
        cluster.stop()
        cluster.start(SMALL)
        assert _checked(cluster, tables) == found
        with _eager(place) as eager:
            _run(eager, _DAMAGE)
            assert _checked(eager, tables) == found


def test_a_server_whose_hydrator_was_killed_is_killed_and_recovers_with_a_new_one() -> None:
    with _half_arrived() as (cluster, place):
        for _ in range(3):
            hydrator = HydratorProcess(place)
            hydrator.start(cluster, SMALL)
            pgbench(cluster, "-n", "-c", "2", "-t", "50")
            place.slow(slow=True)
            hydrator.client.background()
            load = pgbench_beside(cluster, "-n", "-c", "4", "-T", "20")
            aim = hydrator.status.arrived_bytes + (1 << 20)
            eventually(lambda h=hydrator, aim=aim: h.status.arrived_bytes > aim)  # type: ignore[misc]
            hydrator.kill()
            cluster.stop(StopMode.KILL)
            load.communicate()
            place.slow(slow=False)
        hydrator = HydratorProcess(place)
        try:
            hydrator.start(cluster, SMALL)
            assert _checked(cluster, ("kept",))[0][1] == 40000
            with login(cluster) as session:
                sums = session.execute(
                    "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(delta) FROM pgbench_history),"
                    " (SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(tbalance) FROM pgbench_tellers)"
                ).fetchone()
            assert sums is not None
            assert len(set(sums)) == 1
            hydrator.complete()
        finally:
            hydrator.kill()
        require_sound(cluster)
        with _eager(place) as eager:
            assert _checked(eager, ("kept",)) == _checked(cluster, ("kept",))


def test_recovery_fetches_nothing_for_the_pages_that_its_wal_replaces() -> None:
    with _half_arrived(crashed_after="DELETE FROM changed") as (cluster, place):
        hydrator = HydratorProcess(place)
        try:
            hydrator.start(cluster, SMALL)
            with login(cluster) as session:
                row = session.execute("SELECT pg_relation_size('changed')").fetchone()
            assert row is not None
            status = hydrator.status
            assert status.arrived_bytes - status.fetched_bytes > int(str(row[0])) * 0.9
            hydrator.complete()
        finally:
            hydrator.kill()
        require_sound(cluster)
        found = _checked(cluster, _TABLES)
        with _eager(place) as eager:
            assert _checked(eager, _TABLES) == found

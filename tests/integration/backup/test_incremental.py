"""An incremental snapshot equals a full copy of the same moment, whatever happened since its parent."""

import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stillframe.domain.identifiers import LineageId
from stillframe.postgres import files
from stillframe.postgres.cluster import StopMode
from stillframe.postgres.connection import connect
from stillframe.postgres.pages import PAGE_SIZE, new_pages
from stillframe.repository import AncestryEntry, CaptureMode, FileEntry, SnapshotWriter
from support.backup import restored
from support.equivalence import UNDISTURBED, Rig, equivalence_rig, summary_files
from support.postgres import login

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    """One cluster for all tests of this module; each one makes its own tables."""
    with equivalence_rig() as rig:
        rig.capture()
        yield rig


@pytest.fixture
def rig(shared: Rig) -> Rig:
    return shared


def run(rig: Rig, *statements: str, database: str = "dev") -> None:
    """Run these as the admin, each in a transaction of its own."""
    with login(rig.cluster, database=database) as admin:
        for statement in statements:
            admin.execute(statement.encode())


def manage(rig: Rig, *statements: str, database: str = "postgres") -> None:
    """Run these as the service's own role."""
    with connect(rig.cluster, database) as session:
        for statement in statements:
            session.execute(statement)


def path_of(rig: Rig, relation: str) -> str:
    with login(rig.cluster) as admin:
        row = admin.execute("SELECT pg_relation_filepath(%s)", (relation,)).fetchone()
    assert row is not None
    return str(row[0])


def test_a_changed_row_reads_and_stores_next_to_nothing_of_the_namespace(rig: Rig) -> None:
    run(rig, "CREATE TABLE few AS SELECT n, repeat('x', 400) AS t FROM generate_series(1, 20000) AS n")
    run(rig, "VACUUM few", "UPDATE few SET n = -n WHERE n = 1")
    rig.capture()
    run(rig, "UPDATE few SET n = -n WHERE n = 777")
    after = rig.verified()
    with rig.repository.open_snapshot(after.snapshot_id) as reader:
        size = reader.entry(path_of(rig, "few"))
    assert size is not None
    assert after.statistics.pages < size.blocks / 2
    assert after.statistics.new_frames - after.statistics.known_frames < 20


def test_the_names_in_a_directory_are_not_read_again_while_none_of_them_changes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(rig, "CREATE TABLE calm AS SELECT generate_series(1, 100) AS n", "VACUUM calm")
    folder = str(Path(path_of(rig, "calm")).parent)
    time.sleep(0.1)
    rig.capture()
    read: list[str] = []
    real = files._scanned

    def noting(directory: Path) -> "list[os.DirEntry[str]]":
        read.append(str(directory.relative_to(rig.cluster.data_directory)))
        return real(directory)

    monkeypatch.setattr(files, "_scanned", noting)
    run(rig, "UPDATE calm SET n = -n WHERE n = 7")
    rig.capture()
    assert "pg_xact" in read
    assert folder not in read
    assert "global" not in read
    run(rig, "CREATE TABLE new_among_them AS SELECT 1 AS n")
    rig.verified()
    assert folder in read


def test_the_names_of_all_files_are_not_compared_when_wal_explains_them(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(
        rig, "CREATE TABLE stays AS SELECT generate_series(1, 100) AS n", "CREATE TABLE goes AS SELECT 1 AS n"
    )
    rig.capture()
    run(rig, "UPDATE stays SET n = -n", "DROP TABLE goes", "CREATE TABLE comes AS SELECT 2 AS n")
    compared: list[str] = []
    real = SnapshotWriter.parent_files

    def noting(writer: SnapshotWriter, directory: str) -> dict[str, FileEntry] | None:
        compared.append(directory)
        return real(writer, directory)

    monkeypatch.setattr(SnapshotWriter, "parent_files", noting)
    run(rig, "VACUUM stays")
    rig.verified()
    assert not any(path.startswith("base/") for path in compared)


def test_a_map_that_appears_without_wal_is_found_all_the_same(rig: Rig) -> None:
    run(rig, "CREATE TABLE mapped AS SELECT generate_series(1, 100) AS n")
    rig.capture()
    path = rig.cluster.data_directory / (path_of(rig, "mapped") + "_vm")
    assert not path.exists()
    path.write_bytes(bytes(PAGE_SIZE))
    if rig.cluster.identity.owner is not None:
        os.chown(path, *rig.cluster.identity.owner)
    path.chmod(0o600)
    document = rig.verified()
    with rig.repository.open_snapshot(document.snapshot_id) as reader:
        assert reader.entry(path_of(rig, "mapped") + "_vm") is not None


def test_scattered_pages_share_frames(rig: Rig) -> None:
    run(
        rig,
        "CREATE TABLE wide (n int, t text) WITH (fillfactor = 50)",
        "ALTER TABLE wide ALTER t SET STORAGE PLAIN",
        "INSERT INTO wide SELECT n, repeat('w', 3000) FROM generate_series(1, 6000) AS n",
        "VACUUM (FREEZE) wide",
    )
    rig.capture()
    run(rig, "UPDATE wide SET n = -n WHERE n % 10 = 0")
    document = rig.verified()
    assert document.statistics.pages > 500
    assert document.statistics.new_frames < document.statistics.pages / 10


def test_rows_changed_in_place_and_moved_and_their_indexes(rig: Rig) -> None:
    run(
        rig,
        "CREATE TABLE churn (id int PRIMARY KEY, hot int, cold int, t text) WITH (fillfactor = 70)",
        "CREATE INDEX ON churn (cold)",
        "CREATE INDEX ON churn USING hash (t)",
        "CREATE INDEX ON churn USING gin (to_tsvector('simple', t))",
        "INSERT INTO churn SELECT n, 0, n, md5(n::text) FROM generate_series(1, 20000) AS n",
    )
    rig.capture()
    run(
        rig,
        "UPDATE churn SET hot = 1 WHERE id % 97 = 0",
        "UPDATE churn SET cold = -cold WHERE id % 53 = 0",
        "DELETE FROM churn WHERE id % 11 = 0",
        "INSERT INTO churn SELECT n, 0, n, md5(n::text) FROM generate_series(30000, 33000) AS n",
        "VACUUM churn",
        "REINDEX INDEX churn_pkey",
    )
    rig.verified()
    run(rig, "UPDATE churn SET t = md5(t) WHERE id % 301 = 0", "SELECT count(*) FROM churn")
    rig.verified()


def test_what_was_cut_off_and_grew_again_is_not_taken_from_the_parent(rig: Rig) -> None:
    """The truncation and the growth stand in different summaries, which have to be merged in their order."""
    run(rig, "CREATE TABLE queue AS SELECT n, repeat('q', 700) AS t FROM generate_series(1, 12000) AS n")
    rig.capture()
    before = len(summary_files(rig.cluster))
    run(rig, "DELETE FROM queue WHERE n > 3000", "VACUUM queue")
    manage(rig, "CHECKPOINT")
    run(rig, "INSERT INTO queue SELECT n, repeat('r', 900) FROM generate_series(1, 2000) AS n")
    manage(rig, "CHECKPOINT")
    run(rig, "DELETE FROM queue WHERE n <= 10", "VACUUM queue")
    rig.verified()
    assert len(summary_files(rig.cluster)) >= before + 3


def test_pages_that_were_never_initialised_above_a_truncation_are_not_taken_from_the_parent(rig: Rig) -> None:
    """COPY makes a table longer by many pages at once, and leaves some of them to nobody: no WAL mentions them."""
    run(rig, "CREATE TABLE bulk AS SELECT n, repeat('q', 700) AS t FROM generate_series(1, 9000) AS n")
    rig.capture()
    # Not all of it: the limit has to lie within the file, below its former length.
    run(rig, "DELETE FROM bulk WHERE n > 500", "VACUUM bulk")
    with login(rig.cluster) as admin, admin.cursor() as cursor, cursor.copy("COPY bulk FROM STDIN") as copy:
        for number in range(500):
            copy.write_row((number, "b" * 3000))
    rig.verified()
    content = (rig.cluster.data_directory / path_of(rig, "bulk")).read_bytes()
    assert new_pages(content).any(), "no page was left uninitialised, so nothing was tried"


def test_tables_emptied_rewritten_dropped_and_made(rig: Rig) -> None:
    run(
        rig,
        "CREATE TABLE emptied AS SELECT generate_series(1, 20000) AS n",
        "CREATE TABLE rewritten AS SELECT generate_series(1, 20000) AS n",
        "CREATE TABLE packed AS SELECT generate_series(1, 20000) AS n",
        "CREATE INDEX rewritten_n ON rewritten (n)",
        "CREATE TABLE dropped AS SELECT generate_series(1, 20000) AS n",
    )
    rig.capture()
    run(
        rig,
        "TRUNCATE emptied",
        "INSERT INTO emptied SELECT generate_series(1, 500)",
        "DELETE FROM rewritten WHERE n % 2 = 0",
        "CLUSTER rewritten USING rewritten_n",
        "VACUUM FULL packed",
        "DROP TABLE dropped",
        "CREATE TABLE dropped AS SELECT generate_series(1, 700) AS n",
        "BEGIN; CREATE TABLE brief AS SELECT 1; TRUNCATE brief; INSERT INTO brief VALUES (2); COMMIT",
    )
    rig.verified()


def test_databases_made_dropped_and_moved(rig: Rig) -> None:
    manage(rig, "CREATE TABLESPACE place LOCATION ''")
    manage(rig, "CREATE DATABASE gone", "CREATE DATABASE moving")
    rig.capture()
    manage(
        rig,
        "DROP DATABASE gone",
        "CREATE DATABASE copied TEMPLATE dev STRATEGY file_copy",
        "CREATE DATABASE logged TEMPLATE dev STRATEGY wal_log",
        "ALTER DATABASE moving SET TABLESPACE place",
    )
    rig.verified()
    manage(rig, "CREATE TABLE public.here AS SELECT generate_series(1, 3000) AS n", database="moving")
    rig.verified()
    manage(rig, "ALTER DATABASE moving SET TABLESPACE pg_default", "DROP DATABASE copied")
    rig.verified()


def test_tables_that_become_unlogged_and_logged(rig: Rig) -> None:
    run(
        rig,
        "CREATE TABLE wavering AS SELECT generate_series(1, 5000) AS n",
        "CREATE UNLOGGED TABLE careless AS SELECT generate_series(1, 5000) AS n",
    )
    rig.capture()
    run(rig, "ALTER TABLE wavering SET UNLOGGED", "ALTER TABLE careless SET LOGGED")
    rig.verified()
    run(rig, "INSERT INTO wavering SELECT generate_series(1, 5000)", "UPDATE careless SET n = n + 1")
    run(rig, "ALTER TABLE wavering SET LOGGED", "TRUNCATE careless")
    rig.verified()


def test_large_objects_long_values_sequences_and_prepared_transactions(rig: Rig) -> None:
    run(
        rig,
        "CREATE TABLE stuff (n int, t text)",
        "ALTER TABLE stuff ALTER t SET STORAGE EXTERNAL",
        "INSERT INTO stuff SELECT n, repeat(md5(n::text), 400) FROM generate_series(1, 200) AS n",
        "SELECT lo_from_bytea(4711, decode(repeat('ab', 300000), 'hex'))",
        "CREATE SEQUENCE tickets",
    )
    rig.capture()
    run(
        rig,
        "UPDATE stuff SET t = repeat(md5(t), 300) WHERE n % 7 = 0",
        "SELECT lo_put(4711, 100000, decode(repeat('cd', 5000), 'hex'))",
        "SELECT nextval('tickets') FROM generate_series(1, 100)",
        "BEGIN; INSERT INTO stuff VALUES (-1, 'prepared'); PREPARE TRANSACTION 'one'",
    )
    rig.verified()
    run(rig, "COMMIT PREPARED 'one'")
    rig.verified()


def test_a_server_that_was_killed_and_recovered_meanwhile(rig: Rig) -> None:
    run(rig, "CREATE TABLE survivor AS SELECT generate_series(1, 20000) AS n")
    rig.capture()
    run(rig, "UPDATE survivor SET n = -n WHERE n % 100 = 0")
    with login(rig.cluster) as admin, admin.transaction():
        admin.execute("INSERT INTO survivor SELECT generate_series(1, 20000)")
        rig.cluster.stop(StopMode.KILL)
        admin.close()
    rig.cluster.start(UNDISTURBED)
    run(rig, "DELETE FROM survivor WHERE n < -19000")
    rig.verified()


def test_pages_that_a_crash_left_without_any_wal_are_in_the_copy(rig: Rig) -> None:
    lazy = replace(UNDISTURBED, extra={**UNDISTURBED.extra, "wal_writer_delay": "10s"})
    rig.cluster.write_settings(lazy)
    rig.cluster.reload()
    run(rig, "CREATE TABLE stretched AS SELECT n, repeat('g', 700) AS t FROM generate_series(1, 100) AS n")
    rig.capture()
    place = rig.cluster.data_directory / path_of(rig, "stretched")
    before = place.stat().st_size
    with login(rig.cluster) as admin, admin.transaction():
        # Files are made longer at once; what WAL says of it is still in memory.
        admin.execute("INSERT INTO stretched SELECT n, repeat('l', 700) FROM generate_series(1, 300) AS n")
        rig.cluster.stop(StopMode.KILL)
        admin.close()
    rig.cluster.start(UNDISTURBED)
    assert place.stat().st_size > before
    rig.verified()


def test_the_first_snapshot_of_a_restored_cluster_is_incremental_to_the_one_it_came_from(rig: Rig) -> None:
    run(rig, "CREATE TABLE travelled AS SELECT n, repeat('t', 300) AS t FROM generate_series(1, 9000) AS n")
    origin = rig.capture()
    with restored(rig.repository, origin, timeline=7) as copy:
        copy.write_settings(UNDISTURBED)
        copy.reload()
        child = replace(
            rig,
            cluster=copy,
            lineage=LineageId(uuid.uuid4()),
            ancestry=(
                AncestryEntry(
                    lineage_id=origin.facts.lineage_id,
                    timeline=origin.facts.timeline,
                    fork_lsn=origin.facts.stop_lsn,
                ),
            ),
            last=origin,
        )
        run(child, "DELETE FROM travelled WHERE n > 4000", "VACUUM travelled")
        first = child.verified()
        assert first.facts.timeline == 7
        assert first.statistics.new_plain_bytes < first.statistics.logical_bytes / 4
        run(child, "INSERT INTO travelled SELECT n, 'u' FROM generate_series(1, 100) AS n")
        second = child.verified()
        # And it comes back once more, with what was written on each timeline.
        with restored(rig.repository, second) as grandchild, login(grandchild) as admin:
            assert admin.execute("SELECT count(*), sum(n) FROM travelled").fetchone() == (4100, 8007050)


def test_what_the_origin_wrote_after_a_fork_makes_its_snapshot_no_parent(rig: Rig) -> None:
    run(rig, "CREATE TABLE forked AS SELECT generate_series(1, 1000) AS n")
    origin = rig.capture()
    run(rig, "UPDATE forked SET n = -n")
    later = rig.capture()
    with restored(rig.repository, origin, timeline=9) as copy:
        ancestry = (
            AncestryEntry(
                lineage_id=origin.facts.lineage_id,
                timeline=origin.facts.timeline,
                fork_lsn=origin.facts.stop_lsn,
            ),
        )
        lineage = LineageId(uuid.uuid4())
        child = replace(rig, cluster=copy, lineage=lineage, ancestry=ancestry, last=later)
        document = child.capture()
    assert document.facts.mode is CaptureMode.FULL
    assert document.facts.full_reason is not None
    assert "forked" in document.facts.full_reason


def test_a_file_that_is_not_whole_pages_is_read_in_full(rig: Rig) -> None:
    run(rig, "CREATE TABLE ragged AS SELECT generate_series(1, 20000) AS n")
    rig.capture()
    path = rig.cluster.data_directory / path_of(rig, "ragged")
    with path.open("ab") as file:
        file.write(bytes(100))
    run(rig, "UPDATE ragged SET n = 0 WHERE n = 1")
    document = rig.verified()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // PAGE_SIZE * PAGE_SIZE)
    assert document.statistics.pages >= path.stat().st_size // PAGE_SIZE


def test_pages_at_the_edges_of_segments_and_of_the_summaries_chunks(rig: Rig) -> None:
    """A table that is mostly a hole: its last page, wherever that is, is where a new row goes."""
    run(rig, "CREATE TABLE edges (n int)")
    edges = (65535, 65536, 65537, 131071, 131072, 131073)
    for block in edges:
        _extend(rig, "edges", blocks=block + 1)
        run(rig, f"INSERT INTO edges VALUES ({block})")
    with login(rig.cluster) as admin:
        rows = admin.execute("SELECT n, (ctid::text::point)[0]::int FROM edges ORDER BY n").fetchall()
    assert rows == [(block, block) for block in edges]
    rig.capture()
    run(rig, "UPDATE edges SET n = -n")
    document = rig.verified()
    assert document.statistics.pages < 5000
    with rig.repository.open_snapshot(document.snapshot_id) as reader:
        for block in edges:
            segment, within = divmod(block, 131072)
            entry = reader.entry(path_of(rig, "edges") + (f".{segment}" if segment else ""))
            assert entry is not None
            assert new_pages(reader.read_blocks(entry, within, 1)).tolist() == [False]
    run(rig, "DROP TABLE edges")


def _extend(rig: Rig, relation: str, *, blocks: int) -> None:
    """Make a table's files as long as those of a table of that many pages, as PostgreSQL itself would."""
    base = rig.cluster.data_directory / path_of(rig, relation)
    for segment in range((blocks - 1) // 131072 + 1):
        path = base.with_name(base.name + (f".{segment}" if segment else ""))
        path.touch(mode=0o600)
        if rig.cluster.identity.owner is not None:
            os.chown(path, *rig.cluster.identity.owner)
        os.truncate(path, min(blocks - segment * 131072, 131072) * PAGE_SIZE)

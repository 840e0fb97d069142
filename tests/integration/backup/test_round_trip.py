"""A snapshot of a busy namespace comes back with every row, and as a cluster of its own."""

import subprocess
from pathlib import Path

import numpy as np
import psycopg
import pytest

from stillframe.backup.restore import BACKUP_LABEL, restore, start_restored
from stillframe.domain.cancel import CancelToken
from stillframe.errors import Conflict, InvalidRequest, ServerUnavailable
from stillframe.postgres.cluster import Cluster, StopMode
from stillframe.postgres.connection import connect
from stillframe.postgres.control import (
    CONTROL_FILE,
    INVALID_CHECKPOINT,
    parse_control_file,
    read_control_file,
)
from stillframe.postgres.files import Listing, list_data_directory
from stillframe.postgres.pages import PAGE_SIZE, page_lsns
from stillframe.repository import CaptureMode, Repository
from support.backup import lay_out, new_progress, restored, take
from support.postgres import SMALL, cluster_in, login, pgbench_beside, reachable_directory, stopped_at_the_end

pytestmark = pytest.mark.integration

SAME_EVERYWHERE = {
    "dev": (
        "SELECT count(*), sum(id), md5(string_agg(note, '' ORDER BY id)) FROM orders",
        "SELECT md5(t), length(t) FROM long_texts",
        "SELECT md5(lo_get(4711))",
        "SELECT last_value FROM tickets",
        "SELECT count(*), sum(n) FROM quick",
        "SELECT count(*) FROM quick WHERE n BETWEEN 10 AND 20",
        "SELECT has_table_privilege('analyst', 'orders', 'SELECT')",
        "SELECT rolname, rolconfig FROM pg_roles WHERE rolname IN ('analyst', 'admin') ORDER BY 1",
    ),
    "archive": ("SELECT count(*), sum(year) FROM old.years",),
}


def answers(cluster: Cluster) -> dict[str, list[object]]:
    """What the fixed questions are answered with."""
    found: dict[str, list[object]] = {}
    for database, questions in SAME_EVERYWHERE.items():
        with login(cluster, database=database) as admin:
            found[database] = [admin.execute(question.encode()).fetchall() for question in questions]
    return found


def test_every_database_role_and_object_comes_back_while_the_source_was_written_to(
    shop: Cluster, repository: Repository
) -> None:
    before = answers(shop)
    writing = pgbench_beside(shop, "-T", "4", "-c", "4")
    progress = new_progress()
    document = take(repository, shop, progress=progress)
    _, complaints = writing.communicate(timeout=60)
    assert writing.returncode == 0, complaints
    assert document.facts.mode is CaptureMode.FULL
    assert document.facts.damage == []
    assert progress.current.done_bytes == progress.current.total_bytes
    assert {database.name for database in document.facts.databases} >= {"dev", "archive", "postgres"}
    with restored(repository, document) as copy:
        assert answers(copy) == before
        with login(copy) as admin:
            sums = admin.execute(
                "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)"
                " AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history)"
                " OR (SELECT count(*) FROM pgbench_history) = 0"
            ).fetchone()
            assert sums == (True,)
            assert admin.execute("SELECT count(*) FROM scratch").fetchone() == (0,)
            admin.execute("INSERT INTO scratch VALUES (1)")
        login(copy, "analyst", "Analysts1word").close()
        amcheck = str(copy.installation.program("pg_amcheck"))
        place = ["--host", str(copy.socket_directory), "--username", "stillframe"]
        checked = subprocess.run(
            [amcheck, *place, "--all", "--install-missing", "--heapallindexed"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_restored_cluster_is_on_the_timeline_it_was_given_and_leaves_no_trace_of_recovery(
    shop: Cluster, repository: Repository
) -> None:
    document = take(repository, shop)
    with (
        restored(repository, document, timeline=9) as first,
        restored(repository, document, timeline=12) as second,
    ):
        for copy, number in ((first, 9), (second, 12)):
            with connect(copy) as session:
                (name,) = session.row("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
                assert int(name[:8], 16) == number
                assert session.row("SELECT pg_is_in_recovery()") == (False,)
            present = {path.name for path in (copy.data_directory / "pg_wal").glob("*.history")}
            assert present == {f"{number:08X}.history"}
            for name in ("recovery.signal", "standby.signal", "promote"):
                assert not (copy.data_directory / name).exists()
            assert "recovery_target" not in (copy.data_directory / "stillframe.conf").read_text()


def test_a_restored_cluster_opens_without_a_checkpoint_and_survives_being_killed_before_its_first(
    shop: Cluster, repository: Repository
) -> None:
    writing = pgbench_beside(shop, "-T", "4", "-c", "4")
    document = take(repository, shop)
    writing.communicate(timeout=60)
    with restored(repository, document, timeline=7) as copy:
        before = answers(copy)
        for number in range(3):
            with login(copy) as admin:
                admin.execute(f"CREATE TABLE since_{number} AS SELECT {number} AS n".encode())
            copy.stop(StopMode.KILL)
            assert read_control_file(copy.data_directory).newest_timeline == 7
            copy.start(SMALL)
            assert answers(copy) == before
        log = "".join(path.read_text() for path in copy.log_directory.glob("*.log"))
        with login(copy) as admin:
            for number in range(3):
                assert admin.execute(f"SELECT n FROM since_{number}".encode()).fetchone() == (number,)
        with connect(copy) as session:
            session.execute("CHECKPOINT")
        assert read_control_file(copy.data_directory).timeline == 7
        # Nothing but promotion opens a server that was restored so.
        assert "received promote request" in log
        child = take(repository, copy)
    assert child.facts.timeline == 7
    with restored(repository, child, timeline=8) as grandchild:
        assert answers(grandchild) == before


def test_a_snapshot_of_a_restored_cluster_restores_with_its_whole_ancestry(
    shop: Cluster, repository: Repository
) -> None:
    with restored(repository, take(repository, shop), timeline=4) as child:
        with login(child) as admin:
            admin.execute("CREATE TABLE generation AS SELECT 2 AS n")
        document = take(repository, child)
    assert document.facts.timeline == 4
    assert document.facts.timeline_history.startswith("1\t")
    with pytest.raises(InvalidRequest), restored(repository, document, timeline=4):
        pass
    with restored(repository, document, timeline=5) as grandchild, login(grandchild) as admin:
        assert admin.execute("SELECT n FROM generation").fetchone() == (2,)


def test_a_second_capture_stores_almost_nothing(shop: Cluster, repository: Repository) -> None:
    first = take(repository, shop)
    second = take(repository, shop)
    assert second.statistics.new_stored_bytes < first.statistics.new_stored_bytes / 50
    assert second.statistics.logical_bytes >= first.statistics.logical_bytes


def test_pages_that_did_not_change_are_the_same_byte_for_byte(shop: Cluster, repository: Repository) -> None:
    with connect(shop) as session:
        session.execute("CHECKPOINT")
    document = take(repository, shop)
    with reachable_directory() as directory:
        target = cluster_in(directory)
        progress = new_progress()
        lay_out(repository, document, target, progress=progress)
        assert (
            progress.current.done_bytes == progress.current.total_bytes == document.statistics.logical_bytes
        )
        source, copy = list_data_directory(shop.data_directory), list_data_directory(target.data_directory)
        assert _names(source) == _names(copy)
        assert [(folder.path, folder.mode) for folder in source.directories] == [
            (folder.path, folder.mode) for folder in copy.directories
        ]
        compared = sum(
            _compare(
                shop.data_directory / file.path, target.data_directory / file.path, document.facts.start_lsn
            )
            for file in source.files
            if file.relation is not None
        )
        assert compared > 1000
        control = parse_control_file((target.data_directory / CONTROL_FILE).read_bytes())
        assert control.checkpoint == INVALID_CHECKPOINT
        assert control.system_identifier == read_control_file(shop.data_directory).system_identifier


def _names(listing: Listing) -> set[str]:
    return {file.path for file in listing.files}


def _compare(source: Path, copy: Path, start_lsn: int) -> int:
    """Compare the pages that were last changed before the snapshot began; how many those are."""
    live, stored = source.read_bytes(), copy.read_bytes()
    pages = min(len(live), len(stored)) // PAGE_SIZE
    live, stored = live[: pages * PAGE_SIZE], stored[: pages * PAGE_SIZE]
    old = np.flatnonzero(page_lsns(live) < start_lsn) if pages else ()
    for page in old:
        place = slice(page * PAGE_SIZE, (page + 1) * PAGE_SIZE)
        assert live[place] == stored[place], f"{source} block {page}"
    return len(old)


def test_what_must_not_travel_does_not(shop: Cluster, repository: Repository) -> None:
    with connect(shop, "dev") as session:
        session.execute("CREATE TEMP TABLE passing AS SELECT generate_series(1, 100) AS n")
        document = take(repository, shop)
    with repository.open_snapshot(document.snapshot_id) as reader:
        paths = {file.path for file in reader.files()}
        folders = {folder.path for folder in reader.directories()}
    unwanted = {"postmaster.pid", "postmaster.opts", "backup_label", "recovery.signal", "current_logfiles"}
    assert not unwanted & paths
    assert not any(
        "/t" in path and path.rsplit("/", 1)[1].startswith("t") for path in paths if path.startswith("base/")
    )
    assert not any(path.startswith(("pg_replslot/", "pg_wal/summaries/", "pg_stat_tmp/")) for path in paths)
    assert {"pg_wal", "pg_wal/archive_status", "pg_wal/summaries", "pg_replslot", "pg_notify"} <= folders
    assert {path for path in paths if path.startswith("pg_wal/")}


def test_unlogged_tables_travel_as_their_empty_form_only(shop: Cluster, repository: Repository) -> None:
    with login(shop) as admin:
        row = admin.execute("SELECT pg_relation_filepath('scratch')").fetchone()
    assert row is not None
    document = take(repository, shop)
    with repository.open_snapshot(document.snapshot_id) as reader:
        assert reader.entry(str(row[0])) is None
        assert reader.entry(f"{row[0]}_init") is not None


def test_a_restore_never_touches_a_directory_that_is_in_use(shop: Cluster, repository: Repository) -> None:
    document = take(repository, shop)
    with reachable_directory() as directory:
        target = cluster_in(directory)
        lay_out(repository, document, target)
        with pytest.raises(Conflict):
            lay_out(repository, document, target)


def test_a_directory_whose_label_got_lost_does_not_start(shop: Cluster, repository: Repository) -> None:
    document = take(repository, shop)
    with reachable_directory() as directory:
        target = cluster_in(directory)
        lay_out(repository, document, target)
        (target.data_directory / BACKUP_LABEL).unlink()
        with stopped_at_the_end(target), pytest.raises(ServerUnavailable, match="checkpoint"):
            target.start(SMALL)


def test_a_snapshot_that_lost_a_piece_of_wal_does_not_start(shop: Cluster, repository: Repository) -> None:
    document = take(repository, shop)
    with reachable_directory() as directory:
        target = cluster_in(directory)
        lay_out(repository, document, target)
        for segment in (target.data_directory / "pg_wal").glob("0000000*"):
            segment.unlink()
        with stopped_at_the_end(target), pytest.raises(ServerUnavailable):
            start_restored(target, document.facts, timeline=2, settings=SMALL, deadline=30)


def test_an_interrupted_restore_leaves_nothing_that_starts(shop: Cluster, repository: Repository) -> None:
    document = take(repository, shop)
    cancel = CancelToken()
    with reachable_directory() as directory:
        target = cluster_in(directory)
        progress = new_progress()
        with repository.open_snapshot(document.snapshot_id) as reader:
            cancel.cancel("enough")
            with pytest.raises(Exception, match="enough"):
                restore(
                    reader, target.data_directory, identity=target.identity, progress=progress, cancel=cancel
                )
        assert not (target.data_directory / CONTROL_FILE).exists()
        with stopped_at_the_end(target), pytest.raises((ServerUnavailable, psycopg.Error)):
            target.start(SMALL)

"""What goes wrong while a snapshot is taken or restored is named, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from stillframe.backup import capture as capture_module
from stillframe.backup.capture import Remarks
from stillframe.backup.progress import Progress
from stillframe.domain.cancel import CancelToken
from stillframe.domain.clock import SystemClock
from stillframe.errors import Cancelled, DiskFull, ServerUnavailable, SourceDataCorrupt, Unsupported
from stillframe.postgres.cluster import Cluster, StopMode
from stillframe.postgres.connection import connect
from stillframe.postgres.control import CONTROL_FILE
from stillframe.postgres.files import Listing, list_data_directory
from stillframe.postgres.pages import PAGE_SIZE
from stillframe.postgres.settings import MEGABYTE
from stillframe.postgres.wal_summaries import Doubt
from stillframe.repository import Repository
from support.backup import lay_out, new_repository, restored, take
from support.postgres import (
    SMALL,
    cluster_in,
    login,
    reachable_directory,
    running_namespace,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def victim() -> Iterator[Cluster]:
    with running_namespace() as cluster:
        with login(cluster) as admin:
            admin.execute(
                "CREATE TABLE stones AS SELECT n, repeat('x', 500) AS t FROM generate_series(1, 5000) AS n"
            )
            admin.execute("VACUUM stones")
        yield cluster


class HookedProgress(Progress):
    """Runs something once, when a phase begins."""

    def __init__(self, phase: str, action: Callable[[], None]) -> None:
        super().__init__(SystemClock())
        self._hook: tuple[str, Callable[[], None]] = (phase, action)

    def begin(self, phase: str) -> None:
        super().begin(phase)
        if phase == self._hook[0]:
            self._hook[1]()


def test_a_damaged_page_is_named_with_database_relation_file_and_block(
    victim: Cluster, repository: Repository
) -> None:
    path = _file_of(victim, "stones")
    victim.stop()
    _flip(victim.data_directory / path, block=7)
    victim.start(SMALL)
    document = take(repository, victim)
    assert document.facts.damage == [
        f"A page fails its checksum and stays so: database dev, relation public.stones, file {path}, block 7."
    ]


def test_damage_that_makes_a_page_look_newer_than_the_snapshot_is_damage_all_the_same(
    victim: Cluster, repository: Repository
) -> None:
    path = _file_of(victim, "stones")
    victim.stop()
    with (victim.data_directory / path).open("r+b") as file:
        file.seek(4 * PAGE_SIZE)
        file.write(b"\xff" * 8)
    victim.start(SMALL)
    (sentence,) = take(repository, victim).facts.damage
    assert sentence.endswith(f"file {path}, block 4.")


@pytest.mark.parametrize(("fork", "block"), [("fsm", 1), ("vm", 0)])
def test_a_damaged_map_loses_nothing_and_is_no_damage_but_is_told(
    victim: Cluster, repository: Repository, fork: str, block: int
) -> None:
    path = f"{_file_of(victim, 'stones')}_{fork}"
    victim.stop()
    _flip(victim.data_directory / path, block=block)
    victim.start(SMALL)
    remarks, where = Remarks(), "database dev, relation public.stones"
    assert take(repository, victim, remarks=remarks).facts.damage == []
    assert remarks.damaged_maps == (
        f"A page fails its checksum and stays so: {where}, file {path}, block {block}.",
    )
    assert remarks.doubt is Doubt.NO_PARENT


def test_wal_stays_through_checkpoints_that_follow_the_backups_own(
    victim: Cluster, repository: Repository
) -> None:
    def checkpoints() -> None:
        with connect(victim) as session:
            for _ in range(3):
                session.execute("SELECT pg_switch_wal()::text")
                session.execute("CHECKPOINT")

    document = take(repository, victim, progress=HookedProgress("comparing", checkpoints))
    with restored(repository, document):
        assert document.facts.damage == []


def test_a_torn_page_is_read_again_until_it_is_whole(
    victim: Cluster, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = victim.data_directory / _file_of(victim, "stones")
    torn = _Torn(path, block=3)
    monkeypatch.setattr(os, "preadv", torn.preadv)
    document = take(repository, victim)
    assert torn.reads > 1
    assert document.facts.damage == []
    with repository.open_snapshot(document.snapshot_id) as reader:
        entry = reader.entry(str(path.relative_to(victim.data_directory)))
        assert entry is not None
        assert reader.read_blocks(entry, 3, 1) == path.read_bytes()[3 * PAGE_SIZE : 4 * PAGE_SIZE]


class _Torn:
    """Gives one page half old, half new, the first time it is read."""

    def __init__(self, path: Path, *, block: int) -> None:
        self._file = path.stat()
        self._at = block * PAGE_SIZE
        self._real = os.preadv
        self.reads = 0

    def preadv(self, descriptor: int, buffers: list[memoryview], offset: int) -> int:
        got = self._real(descriptor, buffers, offset)
        if os.path.samestat(os.fstat(descriptor), self._file) and offset <= self._at < offset + got:
            self.reads += 1
            if self.reads == 1:
                middle = self._at - offset + PAGE_SIZE // 2
                buffers[0][middle : middle + PAGE_SIZE // 2] = bytes(PAGE_SIZE // 2)
        return got


def test_tables_dropped_truncated_and_grown_while_they_are_copied_do_no_harm(
    victim: Cluster, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with login(victim) as admin:
        for name in ("dropped", "cut", "grown"):
            admin.execute(
                f"CREATE TABLE {name} AS SELECT n, repeat('y', 300) AS t FROM generate_series(1, 3000) n".encode()
            )

    def after_listing(root: Path) -> Listing:
        listing = list_data_directory(root)
        with login(victim) as admin:
            admin.execute("DROP TABLE dropped")
            admin.execute("DELETE FROM cut WHERE n > 100")
            admin.execute("VACUUM (TRUNCATE) cut")
            admin.execute("INSERT INTO grown SELECT n, repeat('z', 300) FROM generate_series(1, 9000) n")
            admin.execute("CREATE TABLE fresh AS SELECT 5 AS n")
            admin.execute("CREATE DATABASE born STRATEGY file_copy")
        with connect(victim) as session:
            session.execute("CHECKPOINT")
        return listing

    monkeypatch.setattr(capture_module, "list_data_directory", after_listing)
    document = take(repository, victim)
    with restored(repository, document) as copy:
        with login(copy) as admin:
            assert admin.execute("SELECT count(*) FROM cut").fetchone() == (100,)
            assert admin.execute("SELECT count(*) FROM grown").fetchone() == (12000,)
            assert admin.execute("SELECT n FROM fresh").fetchone() == (5,)
            assert admin.execute("SELECT to_regclass('dropped')").fetchone() == (None,)
        login(copy, database="born").close()


def test_cancelling_ends_the_copy_and_leaves_nothing_stored(victim: Cluster) -> None:
    with reachable_directory() as directory:
        repository = new_repository(directory)
        cancel = CancelToken()
        progress = HookedProgress("copying", lambda: cancel.cancel("not needed any more"))
        with pytest.raises(Cancelled, match="not needed"):
            take(repository, victim, progress=progress, cancel=cancel)
        assert list(repository.documents()) == []
        repository.sweep()
        assert _stored_bytes(directory / "repository") < 20_000
    assert _backups_running(victim) == 0


def test_cancelling_ends_the_wait_for_the_first_checkpoint(victim: Cluster, repository: Repository) -> None:
    cancel = CancelToken()
    cancel.cancel("too late")
    with pytest.raises(Cancelled, match="too late"):
        take(repository, victim, cancel=cancel)
    assert _backups_running(victim) == 0


def test_a_server_killed_during_the_copy_fails_the_snapshot(victim: Cluster, repository: Repository) -> None:
    progress = HookedProgress("finishing", lambda: victim.stop(StopMode.KILL))
    with pytest.raises(ServerUnavailable):
        take(repository, victim, progress=progress)
    assert list(repository.documents()) == []


_KILLED_WHILE_COPYING = """
import os, signal, sys
from pathlib import Path
from support.backup import new_repository, take
from support.postgres import cluster_in
from stillframe.backup.progress import Progress
from stillframe.domain.clock import SystemClock

class Deadly(Progress):
    def begin(self, phase):
        super().begin(phase)
        if phase == sys.argv[3]:
            os.kill(os.getpid(), signal.SIGKILL)

take(new_repository(Path(sys.argv[2])), cluster_in(Path(sys.argv[1])), progress=Deadly(SystemClock()))
"""


@pytest.mark.parametrize("phase", ["listing", "copying", "wal", "committing"])
def test_a_capture_that_is_killed_leaves_no_snapshot_and_no_burden_on_the_server(
    victim: Cluster, phase: str
) -> None:
    with reachable_directory() as directory:
        killed = subprocess.run(
            [
                sys.executable,
                "-c",
                _KILLED_WHILE_COPYING,
                str(victim.data_directory.parent),
                str(directory),
                phase,
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
        repository = new_repository(directory)
        assert list(repository.documents()) == []
        until = time.monotonic() + 10
        while _backups_running(victim) and time.monotonic() < until:
            time.sleep(0.05)
        assert _backups_running(victim) == 0
        document = take(repository, victim)
        assert [found.snapshot_id for found in repository.documents()] == [document.snapshot_id]


def test_wal_that_has_gone_fails_the_snapshot(victim: Cluster, repository: Repository) -> None:
    def lose() -> None:
        for path in (victim.data_directory / "pg_wal").glob("0000000100000000*"):
            path.rename(path.with_suffix(".lost"))

    with pytest.raises(SourceDataCorrupt, match="pg_wal"):
        take(repository, victim, progress=HookedProgress("wal", lose))
    assert list(repository.documents()) == []


def test_more_wal_than_may_be_kept_fails_the_snapshot_and_not_the_server(repository: Repository) -> None:
    bounded = replace(SMALL, max_wal_size=64 * MEGABYTE, max_slot_wal_keep_size=32 * MEGABYTE)
    with running_namespace(bounded) as busy:

        def write_a_lot() -> None:
            with connect(busy) as session:
                for _ in range(4):
                    session.execute("SELECT pg_logical_emit_message(false, 'test', repeat('y', 30000000))")
                    session.execute("CHECKPOINT")

        with pytest.raises((ServerUnavailable, SourceDataCorrupt)) as failed:
            take(repository, busy, progress=HookedProgress("copying", write_a_lot))
        assert failed.value.hint is not None
        assert "WAL" in failed.value.hint
        assert _backups_running(busy) == 0
        assert list(repository.documents()) == []


def test_a_tablespace_elsewhere_is_refused_by_name(victim: Cluster, repository: Repository) -> None:
    outside = victim.data_directory.parent / "outside"
    victim.identity.make_directory(outside)
    with connect(victim) as session:
        session.execute("SET allow_in_place_tablespaces = off")
        session.execute(f"CREATE TABLESPACE away LOCATION '{outside}'")
    with pytest.raises(Unsupported, match="tablespace"):
        take(repository, victim)


def test_a_full_disk_ends_a_restore_with_a_clear_error_and_no_startable_directory(
    victim: Cluster, repository: Repository
) -> None:
    document = take(repository, victim)
    with _small_disk(megabytes=16) as disk:
        target = cluster_in(disk)
        with pytest.raises(DiskFull):
            lay_out(repository, document, target)
        assert not (target.data_directory / CONTROL_FILE).exists()


def test_snapshots_of_two_namespaces_are_taken_side_by_side(victim: Cluster, repository: Repository) -> None:
    with running_namespace() as other:
        documents: list[object] = []
        workers = [
            threading.Thread(target=lambda source=source: documents.append(take(repository, source)))
            for source in (victim, other)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout=60)
        assert len(documents) == 2


def _file_of(cluster: Cluster, table: str) -> str:
    with connect(cluster, "dev") as session:
        return str(session.row("SELECT pg_relation_filepath(('public.' || %s)::regclass)", (table,))[0])


def _flip(path: Path, *, block: int) -> None:
    with path.open("r+b") as file:
        file.seek(block * PAGE_SIZE + 5000)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))


def _stored_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _backups_running(cluster: Cluster) -> int:
    """Slots that are left once the sessions that made them have noticed that their client is gone."""
    with connect(cluster) as session:
        for _ in range(200):
            left = int(session.row("SELECT count(*) FROM pg_replication_slots")[0])
            if not left:
                break
            time.sleep(0.05)
        return left


@contextmanager
def _small_disk(*, megabytes: int) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    with reachable_directory() as directory:
        point = directory / "disk"
        point.mkdir(mode=0o711)
        options = f"size={megabytes}m,mode=711"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(point)], capture_output=True, check=False
        )
        if mounted.returncode != 0:
            pytest.skip("this machine does not let us mount a file system")
        try:
            yield point
        finally:
            subprocess.run(["umount", str(point)], check=True)

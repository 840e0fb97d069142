"""A cluster's life on a real server: made, started, killed, found again, stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stillframe.errors import Conflict, OperatorError, ServerUnavailable
from stillframe.postgres.cluster import Cluster, ClusterState, StopMode, short_socket_directory
from stillframe.postgres.connection import connect
from stillframe.postgres.control import read_control_file
from stillframe.postgres.postmaster import PID_FILE, hold_postmaster, server_processes
from stillframe.postgres.settings import ServerSettings
from support.postgres import SMALL, cluster_in, reachable_directory, stopped_at_the_end

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with reachable_directory() as directory:
        made = cluster_in(directory)
        made.initialize()
        with stopped_at_the_end(made):
            yield made


def test_a_new_cluster_has_checksums_and_sorts_by_code_point_on_any_machine(cluster: Cluster) -> None:
    assert read_control_file(cluster.data_directory).data_checksum_version == 1
    cluster.start(SMALL)
    with connect(cluster) as session:
        assert session.row(
            "SELECT datlocprovider, datlocale, pg_encoding_to_char(encoding)"
            " FROM pg_database WHERE datname = 'postgres'"
        ) == ("b", "C.UTF-8", "UTF8")
        assert session.row(
            "SELECT current_setting('summarize_wal'), current_setting('listen_addresses')"
        ) == ("on", "")


def test_a_directory_with_something_in_it_is_not_initialized(tmp_path: Path) -> None:
    with reachable_directory() as directory:
        cluster = cluster_in(directory)
        cluster.data_directory.mkdir()
        (cluster.data_directory / "precious").write_text("mine")
        with pytest.raises(Conflict):
            cluster.initialize()
        assert (cluster.data_directory / "precious").read_text() == "mine"


def test_a_failed_initialization_leaves_an_empty_directory() -> None:
    with reachable_directory() as directory:
        cluster = cluster_in(directory)
        with pytest.raises(OperatorError, match="did not end within"):
            cluster.initialize(deadline=0.05)
        assert list(cluster.data_directory.iterdir()) == []


def test_starting_twice_keeps_the_server_that_runs(cluster: Cluster) -> None:
    first = cluster.start(SMALL)
    assert cluster.start(SMALL) == first
    assert cluster.status().pid == first


def test_a_stopped_cluster_is_clean_and_has_no_process(cluster: Cluster) -> None:
    cluster.start(SMALL)
    cluster.stop()
    assert cluster.status().state is ClusterState.STOPPED
    assert server_processes(cluster.data_directory) == []
    cluster.stop()


def test_a_killed_server_is_seen_as_crashed_and_starts_again(cluster: Cluster) -> None:
    pid = cluster.start(SMALL)
    with connect(cluster) as session:
        session.execute("CREATE TABLE IF NOT EXISTS public.kept (n int)")
        session.execute("INSERT INTO public.kept VALUES (1)")
    os.kill(pid, signal.SIGKILL)
    _wait_for(lambda: cluster.adopt() is None)
    assert cluster.status().state is ClusterState.CRASHED
    assert cluster.start(SMALL) != pid
    with connect(cluster) as session:
        assert session.row("SELECT count(*) >= 1 FROM public.kept") == (True,)


def test_a_crashed_cluster_starts_although_its_pid_now_belongs_to_a_stranger(cluster: Cluster) -> None:
    cluster.start(SMALL)
    cluster.stop(StopMode.KILL)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        note = cluster.data_directory / PID_FILE
        note.write_text(
            f"{stranger.pid}\n{cluster.data_directory}\n{int(time.time())}\n5432\n\n\n\nready   \n"
        )
        assert cluster.status().state is ClusterState.CRASHED
        cluster.stop(StopMode.KILL)
        note.write_text(
            f"{stranger.pid}\n{cluster.data_directory}\n{int(time.time())}\n5432\n\n\n\nready   \n"
        )
        cluster.start(SMALL)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_postmaster_of_one_directory_is_not_taken_for_that_of_another(cluster: Cluster) -> None:
    pid = cluster.start(SMALL)
    with reachable_directory() as directory:
        other = cluster_in(directory)
        other.data_directory.mkdir()
        (other.data_directory / PID_FILE).write_text(f"{pid}\n{other.data_directory}\n1\n5432\n\n\n\nready\n")
        with hold_postmaster(other.data_directory) as process:
            assert process is None
        other.stop(StopMode.KILL)
    assert cluster.status().pid == pid


def test_a_server_outlives_the_process_that_started_it(cluster: Cluster) -> None:
    cluster.stop()
    program = (
        "import os, signal, sys; from support.postgres import SMALL, cluster_in; from pathlib import Path;"
        "cluster_in(Path(sys.argv[1])).start(SMALL); os.kill(os.getpid(), signal.SIGKILL)"
    )
    paths = os.pathsep.join(sys.path)
    directory = str(cluster.data_directory.parent)
    ended = subprocess.run(
        [sys.executable, "-c", program, directory], check=False, env={**os.environ, "PYTHONPATH": paths}
    )
    assert ended.returncode == -signal.SIGKILL
    assert cluster.status().state is ClusterState.RUNNING
    with connect(cluster) as session:
        assert session.row("SELECT 1") == (1,)


def test_a_server_that_cannot_start_says_why(cluster: Cluster) -> None:
    cluster.stop()
    with pytest.raises(ServerUnavailable, match="shared_buffers"):
        cluster.start(ServerSettings(extra={"shared_buffers": "nonsense"}))
    cluster.start(SMALL)


def test_settings_are_read_again_on_reload(cluster: Cluster) -> None:
    cluster.start(SMALL)
    cluster.write_settings(ServerSettings(users={"datestyle": "SQL, DMY"}))
    cluster.reload()
    _wait_for(lambda: _shown(cluster) == "SQL, DMY")


def test_a_stuck_server_is_stopped_harder(cluster: Cluster) -> None:
    pid = cluster.start(SMALL)
    os.kill(pid, signal.SIGSTOP)
    cluster.stop(StopMode.IMMEDIATE, deadline=1)
    assert cluster.status().state is ClusterState.CRASHED
    assert server_processes(cluster.data_directory) == []


def test_a_long_socket_directory_gets_a_short_stand_in_that_is_always_the_same(cluster: Cluster) -> None:
    identity = cluster.identity
    short, long = Path("/srv/a/run"), Path("/srv") / ("x" * 120) / "run"
    assert short_socket_directory(short, identity=identity) == short
    stand_in = short_socket_directory(long, identity=identity)
    assert stand_in == short_socket_directory(long, identity=identity)
    assert len(str(stand_in)) < 80


def test_a_session_says_plainly_that_there_is_no_server() -> None:
    with reachable_directory() as directory, pytest.raises(ServerUnavailable):
        connect(cluster_in(directory), deadline=2)


def _shown(cluster: Cluster) -> str:
    with connect(cluster) as session:
        return str(session.row("SELECT setting FROM pg_file_settings WHERE name = 'datestyle'")[0])


def _wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_reason_is_looked_for_in_what_the_server_wrote_last_and_nowhere_else() -> None:
    with reachable_directory() as directory:
        cluster = cluster_in(directory)
        assert cluster.log_tail() == "(it wrote no log)"
        cluster.log_directory.mkdir()
        for name, age in (("hydrator.log", 0), ("start.log", 10), ("postgresql-Mon.log", 10)):
            path = cluster.log_directory / name
            path.write_text(f"this is {name}\n")
            os.utime(path, (time.time() - age, 1_000_000_000 - age))
        assert cluster.log_tail() == "this is postgresql-Mon.log"
        os.utime(cluster.log_directory / "start.log")
        assert cluster.log_tail() == "this is start.log"
        (cluster.log_directory / "start.log").write_text("\n")
        assert cluster.log_tail() == "(it wrote no log)"

"""The process: started once, detached, unprivileged, replaceable; and what pausing and killing does to
clients."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stillframe.endpoint import messages
from stillframe.endpoint.client import EndpointClient
from stillframe.endpoint.routes import RouteOutcome, RouteState
from stillframe.errors import Conflict, InvalidRequest, NotFound, ServerUnavailable, Unsupported

pytestmark = pytest.mark.integration

ClientFor = Callable[[Path], EndpointClient]


def status_field(pid: int, name: str) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(f"{name}:"))


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or status_field(pid, "State")[0] == "Z"


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_process_is_nobodys_child_and_has_a_session_of_its_own(endpoint: Any) -> None:
    assert os.getpgid(endpoint.pid) != os.getpgid(0)
    assert os.getsid(endpoint.pid) != os.getsid(0)
    assert int(status_field(endpoint.pid, "PPid")[0]) != os.getpid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")
def test_a_process_started_by_root_is_not_root_in_any_way(endpoint: Any) -> None:
    assert set(status_field(endpoint.pid, "Uid")) == {str(Path(f"/proc/{endpoint.pid}").stat().st_uid)}
    assert "0" not in status_field(endpoint.pid, "Uid") + status_field(endpoint.pid, "Gid")
    assert status_field(endpoint.pid, "Groups") == []
    assert status_field(endpoint.pid, "CapEff") == ["0000000000000000"]
    assert status_field(endpoint.pid, "CapPrm") == ["0000000000000000"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")
@pytest.mark.parametrize("user", [None, "root", "no-such-user-here"])
def test_root_without_an_ordinary_user_to_become_does_not_start(tmp_path: Path, user: str | None) -> None:
    client = EndpointClient(tmp_path / "endpoint.sock", user=user)
    with pytest.raises(ServerUnavailable, match=r"endpoint does not run as|no user"):
        client.ensure_running()
    with pytest.raises(ServerUnavailable):
        client.ping()


def test_only_the_owner_may_use_the_control_socket(endpoint: Any) -> None:
    for name in ("endpoint.sock", "endpoint.sock.lock", "endpoint.sock.log"):
        mode = (endpoint.control.parent / name).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600, name


def test_no_secret_of_the_environment_gets_into_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client_for: ClientFor
) -> None:
    monkeypatch.setenv("STILLFRAME_SECRET_ACCESS_KEY", "hush")
    client = client_for(tmp_path / "endpoint.sock")
    pid = client.ensure_running().pid
    try:
        assert b"hush" not in Path(f"/proc/{pid}/environ").read_bytes()
    finally:
        client.shutdown()


def test_many_who_start_it_at_once_get_the_same_process(tmp_path: Path, client_for: ClientFor) -> None:
    control = tmp_path / "endpoint.sock"
    with ThreadPoolExecutor(4) as pool:
        pids = {pong.pid for pong in pool.map(lambda _: client_for(control).ensure_running(), range(4))}
    try:
        assert len(pids) == 1
        assert (tmp_path / "endpoint.sock.lock").read_text() == f"{min(pids)}\n"
    finally:
        client_for(control).shutdown()
    wait_until(lambda: gone(min(pids)))


def test_a_second_process_on_the_same_socket_refuses_and_leaves_the_first_alone(endpoint: Any) -> None:
    command = [
        sys.executable,
        "-m",
        "stillframe.endpoint",
        "--control",
        str(endpoint.control),
        "--user",
        "nobody",
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(os.path.isabs, sys.path))}
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 3
    assert "already holds" in second.stderr
    assert endpoint.client.ping().pid == endpoint.pid
    endpoint.connect().close()


def test_a_control_path_longer_than_a_socket_address_works(tmp_path: Path, client_for: ClientFor) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    client = client_for(directory / "endpoint.sock")
    pid = client.ensure_running().pid
    assert client.ping().pid == pid
    client.shutdown()
    wait_until(lambda: gone(pid))


def test_after_kill_nine_a_new_process_and_a_sync_bring_every_route_back(endpoint: Any) -> None:
    connection = endpoint.connect()
    endpoint.kill()
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    with pytest.raises(ServerUnavailable):
        endpoint.client.status()
    assert endpoint.client.ensure_running().pid != endpoint.pid
    (status,) = endpoint.client.sync((endpoint.route,))
    assert status.outcome is RouteOutcome.LISTENING
    with endpoint.connect() as again:
        assert again.execute("SELECT 1").fetchone() == (1,)


def test_connections_outlive_the_one_who_started_the_process(
    tmp_path: Path, server: Any, endpoint: Any
) -> None:
    """A starter that is killed: the process it started goes on."""
    control = tmp_path / "second.sock"
    user = "nobody" if os.geteuid() == 0 else None
    program = (
        "import os, sys; from pathlib import Path; from stillframe.endpoint.client import EndpointClient;"
        f"EndpointClient(Path({str(control)!r}), user={user!r}).ensure_running(); os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(os.path.isabs, sys.path))}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    client = EndpointClient(control, user=user)
    try:
        moved = replace(endpoint.route, port=free_port())
        client.open(moved)
        with psycopg.connect(
            host="127.0.0.1", port=moved.port, user="ann", dbname="dev", password="correct horse 8"
        ):
            assert client.status()[0].connections == 1
    finally:
        client.shutdown()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_sigterm_tells_idle_clients_and_ends_the_process(endpoint: Any) -> None:
    connection = endpoint.connect()
    os.kill(endpoint.pid, signal.SIGTERM)
    wait_until(lambda: gone(endpoint.pid))
    with pytest.raises(psycopg.errors.AdminShutdown):
        connection.execute("SELECT 1")
    connection.close()


def test_the_process_ends_when_its_directory_is_deleted(tmp_path: Path, client_for: ClientFor) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    pid = client_for(directory / "endpoint.sock").ensure_running().pid
    shutil.rmtree(directory)
    wait_until(lambda: gone(pid))


def test_a_taken_port_is_a_conflict_and_the_other_routes_are_served(endpoint: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        taken = replace(endpoint.route, route_id="wg-2", port=foreign.getsockname()[1])
        with pytest.raises(Conflict, match="is taken"):
            endpoint.client.open(taken)
        outcomes = [status.outcome for status in endpoint.client.sync((taken, endpoint.route))]
        assert outcomes == [RouteOutcome.PORT_TAKEN, RouteOutcome.LISTENING]
        endpoint.connect().close()
    assert endpoint.client.open(taken).outcome is RouteOutcome.LISTENING


def test_an_address_that_is_not_ours_is_an_error_and_not_a_taken_port(endpoint: Any) -> None:
    with pytest.raises(ServerUnavailable, match="cannot be bound"):
        endpoint.client.open(replace(endpoint.route, route_id="wg-2", host="192.0.2.1"))


def test_ipv6_loopback_can_be_bound(endpoint: Any) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    route = replace(endpoint.route, route_id="wg-6", host="::1", port=free_port())
    assert endpoint.client.open(route).outcome is RouteOutcome.LISTENING
    with psycopg.connect(host="::1", port=route.port, user="ann", dbname="dev", password="correct horse 8"):
        assert endpoint.client.status()[1].connections == 1


def test_unknown_routes_and_impossible_ones_are_told_apart(endpoint: Any) -> None:
    with pytest.raises(NotFound):
        endpoint.client.pause("no such route")
    with pytest.raises(InvalidRequest):
        endpoint.client.open(replace(endpoint.route, host="example.invalid"))


def test_while_paused_a_client_waits_and_is_relayed_to_the_server_that_took_over(
    endpoint: Any, other_server: Any
) -> None:
    """The course of a restore: pause, drain, switch, open; the port stays."""
    idle = endpoint.connect()
    endpoint.client.pause(endpoint.route.route_id)
    assert endpoint.client.drain(endpoint.route.route_id, seconds=1).told == 1
    with pytest.raises(psycopg.errors.AdminShutdown):
        idle.execute("SELECT 1")
    idle.close()
    with ThreadPoolExecutor(1) as pool:
        arriving = pool.submit(endpoint.connect)
        wait_until(lambda: endpoint.client.status()[0].connections_waiting == 1)
        with other_server.service() as connection:
            connection.execute("ALTER DATABASE dev SET application_name = 'the other one'")
        endpoint.relay_to(other_server)
        with arriving.result(timeout=10) as connection:
            assert connection.execute("SHOW application_name").fetchone() == ("the other one",)


def test_a_route_that_stays_paused_asks_to_try_again(impatient_endpoint: Any) -> None:
    impatient_endpoint.client.pause(impatient_endpoint.route.route_id)
    with pytest.raises(psycopg.OperationalError, match="the workgroup is restarting; try again in a moment"):
        impatient_endpoint.connect()
    impatient_endpoint.client.resume(impatient_endpoint.route.route_id)
    impatient_endpoint.connect().close()


def test_a_stopped_server_asks_to_try_again_and_works_when_it_is_back(
    endpoint: Any, other_server: Any
) -> None:
    endpoint.relay_to(other_server)
    idle = endpoint.connect()
    other_server.stop()
    with pytest.raises(psycopg.errors.AdminShutdown):  # the server's own message, relayed
        idle.execute("SELECT 1")
    idle.close()
    with pytest.raises(psycopg.OperationalError, match="not accepting connections; try again"):
        endpoint.connect()
    other_server.start()
    endpoint.connect().close()


def test_a_drain_lets_a_short_query_finish_and_cuts_a_long_one(endpoint: Any) -> None:
    with endpoint.connect() as short, endpoint.connect() as long, ThreadPoolExecutor(2) as pool:
        finishing = pool.submit(lambda: short.execute("SELECT 5 FROM pg_sleep(0.4)").fetchone())
        cut = pool.submit(long.execute, "SELECT pg_sleep(30)")
        with endpoint.connect() as watcher:
            query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT%pg_sleep(%'"
            wait_until(lambda: watcher.execute(query).fetchone() == (3,))  # and this one
        wait_until(lambda: endpoint.client.status()[0].connections == 2)
        result = endpoint.client.drain(endpoint.route.route_id, seconds=2)
        assert finishing.result(timeout=5) == (5,)
        with pytest.raises(psycopg.OperationalError):
            cut.result(timeout=5)
        assert (result.told, result.cut) == (1, 1)


def test_closing_a_route_frees_its_port_and_leaves_other_routes_alone(endpoint: Any) -> None:
    second = replace(endpoint.route, route_id="wg-2", port=free_port())
    endpoint.client.open(second)
    with endpoint.connect() as kept:
        assert endpoint.client.close("wg-2").state is RouteState.CLOSED
        with socket.create_server(("127.0.0.1", second.port)):
            assert kept.execute("SELECT 1").fetchone() == (1,)


def test_a_process_of_another_release_is_reported_and_left_alone(tmp_path: Path) -> None:
    control = tmp_path / "endpoint.sock"
    reply = messages.encode(messages.Pong(version="9.9", control_version=99, pid=1))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(control))
        listening.listen()

        def answer() -> None:
            accepted, _ = listening.accept()
            with accepted:
                accepted.recv(1000)
                accepted.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unsupported):
            EndpointClient(control).ensure_running()
        thread.join()


@pytest.mark.parametrize(
    "line", [b"{}\n", b"not json\n", b'{"op":"explode"}\n', b'{"op":"sync","routes":[{}]}\n', b"\xff\n"]
)
def test_a_request_that_is_none_gets_an_error_and_the_process_goes_on(endpoint: Any, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(endpoint.control))
        connection.sendall(line)
        assert isinstance(messages.decode_reply(connection.makefile("rb").readline()), messages.Failed)
    assert endpoint.client.ping().pid == endpoint.pid

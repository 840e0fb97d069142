"""Listening, and beginning and ending to serve."""

import socket
import threading

import pytest
from starlette.applications import Starlette

from stillframe.errors import ConfigurationInvalid
from stillframe.http.server import HttpServer, listen

pytestmark = pytest.mark.unit


def test_port_zero_takes_a_free_one() -> None:
    with listen("127.0.0.1", 0) as first, listen("127.0.0.1", 0) as second:
        assert first.getsockname()[1] != second.getsockname()[1] != 0


def test_an_address_that_is_taken_is_refused_with_advice() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationInvalid, match=f"127.0.0.1 port {port}") as caught:
            listen("127.0.0.1", port)
    assert caught.value.hint is not None
    assert "--port" in caught.value.hint


@pytest.mark.parametrize("host", ["192.0.2.1", "not a host"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationInvalid):
        listen(host, 0)


def test_the_server_says_when_it_is_ready_and_returns_after_stop() -> None:
    listener = listen("127.0.0.1", 0)
    ready = threading.Event()
    server = HttpServer(Starlette(), listener=listener, on_ready=ready.set)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(10)
    server.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert listener.fileno() == -1


def test_a_stop_before_the_start_is_not_forgotten() -> None:
    server = HttpServer(Starlette(), listener=listen("127.0.0.1", 0), on_ready=lambda: None)
    server.stop()
    thread = threading.Thread(target=server.run)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_an_idle_connection_does_not_keep_the_server_from_ending() -> None:
    listener = listen("127.0.0.1", 0)
    address = listener.getsockname()
    ready = threading.Event()
    server = HttpServer(Starlette(), listener=listener, on_ready=ready.set, grace_seconds=5)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(10)
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 404"
        server.stop()
        thread.join(4)
        assert not thread.is_alive()

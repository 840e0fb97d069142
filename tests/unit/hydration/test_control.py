"""The control socket, with no hydrator behind it."""

import os
import socket
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stillframe.errors import ServerUnavailable
from stillframe.hydration import HydrationStatus, HydratorClient
from stillframe.hydration.control import Actions, Control

pytestmark = pytest.mark.unit

_STATUS = HydrationStatus(
    total_bytes=5,
    arrived_bytes=4,
    files_left=3,
    on_demand_reads=2,
    on_demand_bytes=1,
    fetched_bytes=6,
    stalled="why",
    armed=True,
)


class _Called:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.armed = True
        self.receiving, self.sending = os.pipe()
        self.control: Control


@pytest.fixture(params=["control", "a/" * 60 + "control"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    found = tmp_path / str(request.param)
    found.parent.mkdir(parents=True, exist_ok=True)
    return found


@pytest.fixture
def called(path: Path) -> Iterator[_Called]:
    called = _Called()
    control = Control(
        path,
        Actions(
            status=lambda: _STATUS,
            background=lambda: called.calls.append("background"),
            stop=lambda: called.calls.append("stop"),
            group=lambda: called.sending if called.armed else None,
        ),
    )
    called.control = control
    path.touch()
    control.start()
    yield called
    control.end()
    assert not path.exists()
    os.close(called.receiving)
    os.close(called.sending)


def test_the_status_comes_as_it_is(called: _Called, path: Path) -> None:
    assert HydratorClient(path).status() == _STATUS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_background_and_stop_are_passed_on(called: _Called, path: Path) -> None:
    client = HydratorClient(path)
    client.background()
    client.stop()
    client.status()
    assert called.calls == ["background", "stop"]


def test_the_descriptor_is_a_copy_that_is_not_inherited_by_accident(called: _Called, path: Path) -> None:
    descriptor = HydratorClient(path).descriptor()
    assert not os.get_inheritable(descriptor)
    os.write(descriptor, b"through")
    os.close(descriptor)
    assert os.read(called.receiving, 10) == b"through"


def test_the_descriptor_is_not_given_before_every_file_is_marked_but_then_to_all_who_wait(
    called: _Called, path: Path
) -> None:
    called.armed = False
    with pytest.raises(ServerUnavailable, match="No hydrator answers"):
        HydratorClient(path, deadline=0.05).descriptor()
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(HydratorClient(path).descriptor) for _ in range(3)]
        # Others are answered meanwhile.
        assert HydratorClient(path).status() == _STATUS
        called.armed = True
        called.control.hand_out()
        for descriptor in waiting:
            os.close(descriptor.result())
    os.close(HydratorClient(path).descriptor())


def test_whoever_waits_for_the_descriptor_is_told_when_there_will_be_none(path: Path) -> None:
    control = Control(
        path,
        Actions(status=lambda: _STATUS, background=lambda: None, stop=lambda: None, group=lambda: None),
    )
    control.start()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(HydratorClient(path).descriptor)
        assert HydratorClient(path).status() == _STATUS
        control.end()
        with pytest.raises(ServerUnavailable):
            waiting.result()


@pytest.mark.parametrize("line", [b"nonsense\n", b'{"do":"dance"}\n', b'{"do":"status","more":1}\n', b""])
def test_a_caller_that_makes_no_sense_does_not_end_the_service(
    called: _Called, path: Path, line: bytes
) -> None:
    short = Path("/proc/self/fd") / str(os.open(path.parent, os.O_PATH)) / path.name
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(short))
        caller.sendall(line)
        caller.shutdown(socket.SHUT_WR)
        assert caller.recv(100) == b""
    os.close(int(short.parent.name))
    assert HydratorClient(path).status() == _STATUS


def test_nobody_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable, match="No hydrator answers"):
        HydratorClient(tmp_path / "nobody").status()


def test_an_answer_that_does_not_come_is_waited_for_only_so_long(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        for call in (HydratorClient.status, HydratorClient.descriptor, HydratorClient.stop):
            with pytest.raises(ServerUnavailable):
                call(HydratorClient(tmp_path / "silent", deadline=0.05))


def test_an_answer_that_is_cut_off_is_no_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "short"))
        listener.listen()

        def answer() -> None:
            for _ in range(2):
                caller, _ = listener.accept()
                caller.recv(100)
                caller.sendall(b'{"total_by')
                caller.close()

        thread = threading.Thread(target=answer)
        thread.start()
        for call in (HydratorClient.status, HydratorClient.descriptor):
            with pytest.raises(ServerUnavailable):
                call(HydratorClient(tmp_path / "short"))
        thread.join()

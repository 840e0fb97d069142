"""Hydrators are born without a program's start, belong to nobody, and outlive whoever asked for them."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere hydrators do not exist"),
]

_WORKER = """
import sys, time, uuid
from pathlib import Path
from stillframe.app.nursery import Nursery
from stillframe.config import Settings
from stillframe.service.hydrations import HydratorOrder

place = Path(sys.argv[1])

def hydrate(settings, order):
    (place / f"{order.incarnation_id}").write_text(str(order.check_pages))
    time.sleep(60)
    return 0

nursery = Nursery(Settings(data=place), hydrate)
for number in range(2):
    order = HydratorOrder(
        namespace_id=uuid.uuid4(), incarnation_id=uuid.UUID(int=number), region="us-east-1",
        layout_id=uuid.uuid4(), pin_id=uuid.uuid4(), control=str(place / "control"),
        boot_id="this", check_pages=bool(number),
    )
    print(nursery.launch(order), flush=True)
time.sleep(60)
"""


def _until(look: Callable[[], object], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _has_text(file: Path) -> bool:
    return file.exists() and bool(file.read_text())


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_hydrators_outlive_the_worker_and_its_nursery(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    ) as worker:
        assert worker.stdout is not None
        born = [int(worker.stdout.readline()) for _ in range(2)]
        try:
            for number, checked in enumerate(("False", "True")):
                file = tmp_path / str(uuid.UUID(int=number))
                _until(partial(_has_text, file))
                assert file.read_text() == checked
            for pid in born:
                assert int(_status(pid)["PPid"]) != worker.pid
                assert os.getsid(pid) == pid
            worker.kill()
            worker.wait()
            _until(lambda: set(_nurseries(tmp_path)) <= set(born))
            assert all(_status(pid)["State"][0] in "SR" for pid in born)
        finally:
            for pid in born:
                os.kill(pid, signal.SIGKILL)


def _nurseries(data: Path) -> list[int]:
    """Processes that call themselves the nursery of this directory."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"stillframe.app.nursery --data {data}" in command:
                found.append(int(process.name))
    return found

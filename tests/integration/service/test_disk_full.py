"""A full disk fails what needs room, with a sentence, and harms nothing else."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stillframe.clients import EXTENSION
from stillframe.service.room import RESERVE
from support.crash_checks import check_directories, check_namespaces, check_repository, check_swept
from support.crash_operations import BASE, OTHER, World
from support.crash_rig import Rig

pytestmark = pytest.mark.integration

MEBIBYTE = 1024 * 1024
SIZE = 640 * MEBIBYTE


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own, where root may make one."""
    path = Path(tempfile.mkdtemp(prefix="full-"))
    path.chmod(0o711)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0711", "stillframe-test", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        path.rmdir()
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
        path.rmdir()


def test_a_snapshot_and_a_restore_without_room_fail_cleanly(small_disk: Path) -> None:
    with Rig(small_disk) as rig:
        world = World(rig=rig.start())
        world.add_namespace(BASE, filled=True)
        world.add_namespace(OTHER)
        world.add_snapshot("early")
        _fill_with_noise(world)
        # Not enough to begin with; and enough to begin with, but not to end.
        _snapshot_without_room(world, small_disk, leaving=RESERVE // 2)
        _snapshot_without_room(world, small_disk, leaving=RESERVE + 8 * MEBIBYTE)
        world.add_snapshot("late")
        _restore_without_room(world, small_disk)
        world.restore("late", into=OTHER)
        world.restore("early", into=OTHER)
        check_namespaces(world)
        check_repository(rig)
        check_directories(rig)
        check_swept(rig)


def _fill_with_noise(world: World) -> None:
    """What does not compress: the snapshot of it needs about 24 MiB."""
    with world.login(BASE).connect("dev") as connection:
        connection.execute("CREATE TABLE noise (bytes bytea)")
        connection.execute("ALTER TABLE noise ALTER bytes SET STORAGE EXTERNAL")
        connection.execute(
            "INSERT INTO noise SELECT string_agg(uuid_send(gen_random_uuid()), ''::bytea)"
            " FROM generate_series(1, 1572864) g GROUP BY g % 512"
        )
    world.remember(BASE)


def _snapshot_without_room(world: World, disk: Path, *, leaving: int) -> None:
    with _Ballast(disk, leaving=leaving):
        world.rig.client().create_snapshot(namespaceName=BASE, snapshotName="full")
        assert world.rig.settle()["snapshot"]["full"]["status"] == "FAILED"
        _assert_says_why(world, "create_snapshot")
        detail = world.rig.client(EXTENSION).describe_snapshot(snapshotName="full")["detail"]
        assert "space" in detail["failure"]
        check_namespaces(world)
    world.drop_snapshot("full")


def _restore_without_room(world: World, disk: Path) -> None:
    with _Ballast(disk, leaving=RESERVE + 24 * MEBIBYTE):
        world.rig.client().restore_from_snapshot(
            namespaceName=OTHER, workgroupName=OTHER, snapshotName="late"
        )
        world.rig.settle()
        _assert_says_why(world, "restore_from_snapshot")
        check_namespaces(world)
        check_directories(world.rig)


def _assert_says_why(world: World, kind: str) -> None:
    last = world.last(kind)
    assert last is not None
    assert (last["status"], last["failureKind"]) == ("failed", "disk_full"), last
    assert "space" in last["failure"]
    assert last["hint"]


class _Ballast:
    """A file that takes all room but a little, for the length of a block."""

    def __init__(self, disk: Path, *, leaving: int) -> None:
        self._path = disk / "ballast"
        self._leaving = leaving

    def __enter__(self) -> None:
        free = shutil.disk_usage(self._path.parent).free
        with self._path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - self._leaving)

    def __exit__(self, *_: Any) -> None:
        self._path.unlink()

"""Small file systems of their own, whose power can be cut: whatever was not durable yet is gone.

ext4 and XFS are told to stop at once, without their log (the ioctl that file system developers test with). btrfs knows
no such call; its device lies on an XFS, where one instant of it can be kept by sharing its blocks.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from stillframe.hydration.filesystem import sync_file_system

KINDS = ("ext4", "xfs", "btrfs")
_SHUTDOWN = 2 << 30 | 4 << 16 | ord("X") << 8 | 125
_WITHOUT_LOG = 2
_SHARE_BLOCKS = 1 << 30 | 4 << 16 | 0x94 << 8 | 9
_MAKE = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "nodiscard"),
    "xfs": ("mkfs.xfs", "-q", "-f", "-K"),
    "btrfs": ("mkfs.btrfs", "-q", "-f", "-K"),
}
_SIZE = 2 << 30
_UNMOUNT_SECONDS = 20.0


class Disk:
    """A mounted file system in a sparse file below `root`. The mount point stays the same."""

    def __init__(self, root: Path, kind: str) -> None:
        self.kind = kind
        self.mount_point = root / f"mounted-{kind}"
        self._image = root / f"disk-{kind}"
        self.mount_point.mkdir()
        with self._image.open("xb") as image:
            image.truncate(_SIZE)
        _run(*_MAKE[kind], str(self._image))
        self.mount()

    def mount(self) -> None:
        """As after a start of the machine: the journal is replayed."""
        _run("mount", "-t", self.kind, "-o", "loop", str(self._image), str(self.mount_point))
        self.mount_point.chmod(0o711)

    def settle(self) -> None:
        """Make everything durable that is there."""
        sync_file_system(self.mount_point)

    def cut(self) -> None:
        """From this moment on nothing reaches the device any more."""
        directory = os.open(self.mount_point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(directory, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG))
        finally:
            os.close(directory)

    def unmount(self) -> None:
        """After everything that ran there was ended. Raises AssertionError when somebody does not let go."""
        until = time.monotonic() + _UNMOUNT_SECONDS
        while _is_mounted(self.mount_point):
            done = subprocess.run(["umount", self.mount_point], capture_output=True, text=True, check=False)
            assert done.returncode == 0 or time.monotonic() < until, done.stderr
            if done.returncode:
                time.sleep(0.02)

    def close(self) -> None:
        """Leave nothing behind, whoever still holds on to it; the loop device goes with the mount."""
        end_processes_in(self.mount_point)
        try:
            self.unmount()
        except AssertionError:
            # Gone from here at least, and for good with whoever holds on to it.
            subprocess.run(["umount", "--lazy", self.mount_point], check=False)
            raise


class SharedDisk(Disk):
    """One that knows no shutdown: what its device holds at one instant is kept, and is there after the next mount."""

    def __init__(self, root: Path, kind: str) -> None:
        self._below = Disk(root, "xfs")
        try:
            super().__init__(self._below.mount_point, kind)
        except BaseException:
            self._below.close()
            raise

    def cut(self) -> None:
        """What is written from this moment on will not have been."""
        kept = self._image.with_name("kept")
        with kept.open("xb") as copy, self._image.open("rb") as image:
            fcntl.ioctl(copy.fileno(), _SHARE_BLOCKS, image.fileno())

    def unmount(self) -> None:
        """As `Disk.unmount`; the instant of the last cut takes the device's place."""
        super().unmount()
        kept = self._image.with_name("kept")
        if kept.exists():
            kept.replace(self._image)

    def close(self) -> None:
        """Both."""
        try:
            super().close()
        finally:
            self._below.close()


@contextmanager
def disk(root: Path, kind: str) -> Iterator[Disk]:
    """A disk for the length of the block; the test is skipped, with the reason, where there can be none."""
    reason = why_no_disk(kind)
    if reason is not None:
        pytest.skip(reason)
    made = SharedDisk(root, kind) if kind == "btrfs" else Disk(root, kind)
    try:
        yield made
    finally:
        made.close()


@cache
def why_no_disk(kind: str) -> str | None:
    """What this machine lacks for such disks, found out by making one; None when it lacks nothing."""
    if os.geteuid() != 0:
        return "only root may mount file systems"
    for program in {_MAKE[kind][0], _MAKE["xfs"][0] if kind == "btrfs" else "mount"}:
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return _tried(kind)


def _tried(kind: str) -> str | None:
    with tempfile.TemporaryDirectory(prefix="sf-disk-", ignore_cleanup_errors=True) as directory:
        try:
            made = SharedDisk(Path(directory), kind) if kind == "btrfs" else Disk(Path(directory), kind)
        except subprocess.CalledProcessError as error:
            return f"no {kind} can be mounted here: {str(error.stderr).strip()}"
        try:
            made.cut()
        except OSError as error:
            return f"this kernel does not cut off a mounted {kind}: {error}"
        finally:
            made.close()
    return None


def _is_mounted(directory: Path) -> bool:
    """Asked of the kernel: a file system that was cut off answers no questions about itself."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return str(directory) in {line.split()[1] for line in mounts}


def end_processes_in(directory: Path) -> None:
    """SIGKILL for every process that stands in this directory, or has something of it open; waits until it is gone."""
    for _ in range(200):
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if _uses(entry, directory)]
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _uses(process: Path, directory: Path) -> bool:
    if not process.name.isdigit() or int(process.name) == os.getpid():
        return False
    # It may end while it is looked at.
    with contextlib.suppress(OSError):
        links = [process / "cwd", *(process / "fd").iterdir()]
        return any(_leads_into(link, directory) for link in links)
    return False


def _leads_into(link: Path, directory: Path) -> bool:
    with contextlib.suppress(OSError):
        return link.readlink().is_relative_to(directory)
    return False


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)

"""A stand-in for a database server: keeps its files open, and makes the system calls it is told to, one a line."""

import base64
import ctypes
import json
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_PUNCH = 3


class Calls:
    """One method a system call, named for it. Files are named relative to the directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[str, int] = {}

    def read(self, name: str, offset: int, length: int) -> bytes:
        """pread(2)."""
        return os.pread(self._descriptor(name), length, offset)

    def plain_read(self, name: str, offset: int, length: int) -> bytes:
        """lseek(2) and read(2)."""
        os.lseek(self._descriptor(name), offset, os.SEEK_SET)
        return os.read(self._descriptor(name), length)

    def preadv(self, name: str, offset: int, length: int) -> bytes:
        """preadv(2) into two parts."""
        parts = [bytearray(length // 2), bytearray(length - length // 2)]
        os.preadv(self._descriptor(name), parts, offset)
        return b"".join(parts)

    def mapped(self, name: str, offset: int, length: int) -> bytes:
        """mmap(2) and a look."""
        with mmap.mmap(self._descriptor(name), length, offset=offset, prot=mmap.PROT_READ) as view:
            return bytes(view)

    def sendfile(self, name: str, offset: int, length: int) -> bytes:
        """sendfile(2) into a new file."""
        return self._copied(lambda out: os.sendfile(out, self._descriptor(name), offset, length))

    def copy_file_range(self, name: str, offset: int, length: int) -> bytes:
        """copy_file_range(2) into a new file."""
        return self._copied(lambda out: os.copy_file_range(self._descriptor(name), out, length, offset, 0))

    def splice(self, name: str, offset: int, length: int) -> bytes:
        """splice(2) into a pipe."""
        receiving, sending = os.pipe()
        try:
            moved = os.splice(self._descriptor(name), sending, length, offset)
            return os.read(receiving, moved)
        finally:
            os.close(receiving)
            os.close(sending)

    def write(self, name: str, offset: int, data: str) -> bytes:
        """pwrite(2)."""
        return str(os.pwrite(self._descriptor(name), base64.b64decode(data), offset)).encode()

    def pwritev(self, name: str, offset: int, data: str) -> bytes:
        """pwritev(2) of two parts."""
        content = base64.b64decode(data)
        half = len(content) // 2
        return str(os.pwritev(self._descriptor(name), [content[:half], content[half:]], offset)).encode()

    def ftruncate(self, name: str, length: int) -> bytes:
        """ftruncate(2)."""
        os.ftruncate(self._descriptor(name), length)
        return b""

    def truncate(self, name: str, length: int) -> bytes:
        """truncate(2)."""
        os.truncate(self._directory / name, length)
        return b""

    def fallocate(self, name: str, offset: int, length: int) -> bytes:
        """posix_fallocate(3)."""
        os.posix_fallocate(self._descriptor(name), offset, length)
        return b""

    def punch(self, name: str, offset: int, length: int) -> bytes:
        """fallocate(2) with FALLOC_FL_PUNCH_HOLE."""
        assert _libc.fallocate(self._descriptor(name), _PUNCH, offset, length) == 0
        return b""

    def advise(self, name: str, offset: int, length: int) -> bytes:
        """posix_fadvise(2), POSIX_FADV_WILLNEED."""
        os.posix_fadvise(self._descriptor(name), offset, length, os.POSIX_FADV_WILLNEED)
        return b""

    def empty(self, name: str) -> bytes:
        """open(2) with O_TRUNC."""
        os.close(os.open(self._directory / name, os.O_RDWR | os.O_TRUNC))
        return b""

    def unlink(self, name: str) -> bytes:
        """unlink(2)."""
        (self._directory / name).unlink()
        return b""

    def create(self, name: str) -> bytes:
        """open(2) of a new file, at a path that may have been in use before."""
        self.close(name)
        self._open[name] = os.open(self._directory / name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        return b""

    def close(self, name: str) -> bytes:
        """close(2), if it is open."""
        if name in self._open:
            os.close(self._open.pop(name))
        return b""

    def size(self, name: str) -> bytes:
        """fstat(2)."""
        return str(os.fstat(self._descriptor(name)).st_size).encode()

    def fsync(self, name: str) -> bytes:
        """fsync(2)."""
        os.fsync(self._descriptor(name))
        return b""

    def _descriptor(self, name: str) -> int:
        if name not in self._open:
            self._open[name] = os.open(self._directory / name, os.O_RDWR)
        return self._open[name]

    def _copied(self, copy: Callable[[int], int]) -> bytes:
        out = os.open(self._directory.parent, os.O_TMPFILE | os.O_RDWR)
        try:
            return os.pread(out, copy(out), 0)
        finally:
            os.close(out)


def main(directory: Path) -> None:
    """Answer line by line until standard input ends."""
    calls = Calls(directory)
    for line in sys.stdin.buffer:
        call, *arguments = json.loads(line)
        try:
            answer = b"ok " + base64.b64encode(getattr(calls, call)(*arguments))
        except OSError as error:
            answer = b"no " + base64.b64encode(str(error).encode())
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Half-arrived directories for tests: a hydrator in a process of its own, and a "server" that does what it is told.

What the files should have in them lies in a reference directory. Files called `FAIL` and `SLOW` beside it make the
source fail and take its time. The hydrator is this file, run as a program.
"""

import base64
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from stillframe.errors import ServerUnavailable, StoreUnavailable
from stillframe.hydration import HydrationStatus, Hydrator, HydratorClient, Surroundings, probe, tag
from stillframe.hydration.pages import PAGE_SIZE
from stillframe.hydration.source import IsMissing
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.settings import ServerSettings
from support.hydration_pages import is_whole

SECONDS = 60.0


def page(number: int) -> bytes:
    """A page that says which it is. Every eighth is zero, as in real files."""
    return bytes(PAGE_SIZE) if number % 8 == 7 else f"page {number:6d} ".encode().ljust(PAGE_SIZE, b"#")


def pages(count: int, *, first: int = 0) -> bytes:
    """So many of them."""
    return b"".join(page(first + number) for number in range(count))


def skip_unless_supported(directory: Path) -> None:
    """Skip, saying why, where accesses can not be held."""
    found = probe(directory)
    if not found.supported:
        pytest.skip(found.reason)


class ReferenceSource:
    """Content from a directory of complete files."""

    def __init__(self, reference: Path) -> None:
        self._reference = reference

    def read(self, path: str, offset: int, length: int) -> bytes:
        """As `Source.read`."""
        self._suffer()
        with (self._reference / path).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def around(self, path: str, offset: int, length: int) -> tuple[int, int]:
        """As `Source.around`: nothing, or a page more to either side if there is a file called `WIDE`."""
        if not (self._reference.parent / "WIDE").exists():
            return offset, length
        start = max(0, offset - PAGE_SIZE)
        end = min((self._reference / path).stat().st_size, offset + length + PAGE_SIZE)
        return start, max(end, offset + length) - start

    def first(self, paths: Collection[str]) -> Iterator["ReferenceBatch"]:
        """As `Source.first`: what is in the directory `first`."""
        return self.batches([path for path in paths if path.startswith("first/")])

    def batches(self, paths: Collection[str]) -> Iterator["ReferenceBatch"]:
        """As `Source.batches`: one a file."""
        for path in sorted(paths):
            yield ReferenceBatch(self, path, (self._reference / path).stat().st_size)

    def _suffer(self) -> None:
        beside = self._reference.parent
        if (beside / "FAIL").exists():
            raise StoreUnavailable("The store has a bad day")
        if (beside / "SLOW").exists():
            time.sleep(0.02)


class ReferenceBatch:
    """A whole file, eight pages at a time; what is zero is left out."""

    def __init__(self, source: ReferenceSource, path: str, size: int) -> None:
        self._source = source
        self._path = path
        self._size = size

    def pieces(self, is_missing: IsMissing) -> Iterator[tuple[str, int, memoryview]]:
        """As `Batch.pieces`."""
        for offset in range(0, self._size, 8 * PAGE_SIZE):
            length = min(8 * PAGE_SIZE, self._size - offset)
            if not is_missing(self._path, offset, length):
                continue
            data = self._source.read(self._path, offset, length)
            if any(data):
                yield self._path, offset, memoryview(data)


class Place:
    """`half` is arriving from `reference`, both below one directory; `filled` when somebody else makes them."""

    def __init__(self, root: Path, *, filled: bool = False) -> None:
        self.root = root
        self.half = root / "half"
        self.reference = root / "reference"
        self.control = root / "control"
        if not filled:
            self.half.mkdir()
            self.reference.mkdir()

    def lay_out(self, name: str, content: bytes) -> Path:
        """A tagged file without content, and what it should have."""
        (self.reference / name).parent.mkdir(parents=True, exist_ok=True)
        (self.reference / name).write_bytes(content)
        path = self.half / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            tag(file.fileno(), len(content))
            file.truncate(len(content))
        return path

    def fail(self, *, failing: bool) -> None:
        """Whether the source fails from now on."""
        self._flag("FAIL", on=failing)

    def slow(self, *, slow: bool) -> None:
        """Whether the source takes its time from now on."""
        self._flag("SLOW", on=slow)

    def writes(self) -> None:
        """The server waits for the disk from now on."""
        self._flag("WRITES", on=True)

    def making(self, *, making: bool) -> None:
        """Whether files are still being made from now on."""
        self._flag("MAKING", on=making)

    def widen(self) -> None:
        """The source gives more than what was asked for from now on."""
        self._flag("WIDE", on=True)

    def _flag(self, name: str, *, on: bool) -> None:
        if on:
            (self.root / name).touch()
        else:
            (self.root / name).unlink(missing_ok=True)


class HydratorProcess:
    """A hydrator that can be killed."""

    def __init__(
        self,
        place: Place,
        *,
        check_pages: bool = False,
        descriptors: int | None = None,
        checksums: bool = False,
        armed: bool = True,
    ) -> None:
        """`descriptors` is how many it may have open, None for as many as this process.

        With `checksums` the pages are PostgreSQL's, and whole when they carry their checksum. Waited for until it is
        `armed`, or not.
        """
        self.client = HydratorClient(place.control)
        # A killed one leaves its socket behind.
        place.control.unlink(missing_ok=True)
        options = [str(int(check_pages)), str(descriptors or 0), str(int(checksums))]
        command = [sys.executable, __file__, str(place.root), *options]
        self._process = subprocess.Popen(command, env=_environment())
        try:
            eventually(self.is_armed if armed else self._answers)
        except BaseException:
            self.kill()
            raise

    def is_armed(self) -> bool:
        """Whether every file is marked."""
        return self._answers() and self.status.armed

    def _answers(self) -> bool:
        assert self._process.poll() is None, "the hydrator ended"
        with suppress(ServerUnavailable):
            self.client.status()
            return True
        return False

    @property
    def status(self) -> HydrationStatus:
        """How far it is."""
        return self.client.status()

    def start(self, cluster: Cluster, settings: ServerSettings) -> None:
        """Start a server on the directory, which holds the group for as long as it lives."""
        group = self.client.descriptor()
        # A shell starts the server, and uses the low numbers itself.
        high = os.dup2(group, 200, inheritable=False)
        os.close(group)
        try:
            cluster.start(settings, inherited=(high,))
        finally:
            os.close(high)

    def begin_background(self) -> None:
        """Have everything come; it may be complete already, and gone."""
        with suppress(ServerUnavailable):
            self.client.background()

    def complete(self) -> None:
        """Have everything come, and wait until the process has ended well."""
        self.begin_background()
        assert self._process.wait(SECONDS) == 0

    def ended(self) -> int | None:
        """Its exit status, if it has one."""
        return self._process.poll()

    def kill(self) -> None:
        """Without warning."""
        self._process.kill()
        self._process.wait()


class Server:
    """A process that holds the group and the files' descriptors, as a database server does."""

    def __init__(self, place: Place, hydrator: HydratorProcess) -> None:
        group = hydrator.client.descriptor()
        program = Path(__file__).with_name("hydration_server.py")
        command = [sys.executable, "-S", str(program), str(place.half)]
        self._process = subprocess.Popen(
            command,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(group,),
        )
        os.close(group)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def ask(self, call: str, *arguments: object) -> None:
        """Begin a call without waiting for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([call, *arguments]).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> bytes:
        """What the call that was begun gave."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server is dead"
        kind, value = line.split(b" ", 1)
        assert kind == b"ok", base64.b64decode(value).decode()
        return base64.b64decode(value)

    def do(self, call: str, *arguments: object) -> bytes:
        """One call, to its end."""
        self.ask(call, *arguments)
        return self.answer()

    def write(self, name: str, offset: int, data: bytes) -> None:
        """pwrite(2)."""
        self.do("write", name, offset, base64.b64encode(data).decode())

    def answered(self) -> bool:
        """Whether the call that was begun has ended."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def held(self) -> bool:
        """Whether it waits for content at this moment."""
        return "fanotify" in Path(f"/proc/{self.pid}/wchan").read_text()

    def waits(self) -> bool:
        """Whether it is held in the kernel by now, and stays so for a moment."""
        eventually(self.held)
        time.sleep(0.1)
        return self.held()

    def kill(self) -> None:
        """Without warning."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()


@contextmanager
def running(place: Place, *, check_pages: bool = False) -> Iterator[tuple[HydratorProcess, Server]]:
    """Both, ended in the order that lets nothing through."""
    hydrator = HydratorProcess(place, check_pages=check_pages)
    server = Server(place, hydrator)
    try:
        yield hydrator, server
    finally:
        server.kill()
        hydrator.kill()


def eventually(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait until `condition()` is true."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _looks_whole(_path: str, _number: int, data: bytes) -> bool:
    return data.startswith(b"page") and data.endswith(b"#")


def _has_checksum(path: str, number: int, data: bytes) -> bool:
    return any(data) and is_whole(data, path.rpartition("/")[2], number)


def _be_hydrator(root: Path, *, check_pages: bool, descriptors: int, checksums: bool) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    hydrator = Hydrator(
        root / "half",
        ReferenceSource(root / "reference"),
        control=root / "control",
        page_is_whole=_has_checksum if checksums else _looks_whole,
        surroundings=Surroundings(server_writes=(root / "WRITES").exists),
    )
    making = root / "MAKING"
    hydrator.arm(check_pages=check_pages, is_made=lambda: not making.exists())
    return 0 if hydrator.run() else 1


if __name__ == "__main__":
    _root, _check, _descriptors, _checksums = sys.argv[1:]
    sys.exit(
        _be_hydrator(
            Path(_root), check_pages=_check == "1", descriptors=int(_descriptors), checksums=_checksums == "1"
        )
    )

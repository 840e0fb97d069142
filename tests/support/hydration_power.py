"""A server at work on a half-arrived directory whose power is cut, over and over, and what it had promised by then."""

import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from stillframe.errors import ServerUnavailable
from stillframe.hydration import tag, tagged
from stillframe.hydration.filesystem import sync_file_system
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.settings import MEGABYTE, ServerSettings
from support.crash_fingerprint import differences, fingerprint
from support.hydration import HydratorProcess, Place
from support.hydration_changes import (
    CHANGES,
    KEPT,
    MAINTENANCE,
    TABLES,
    Change,
    OverSocket,
    fill,
    require_sound,
    statements_of,
)
from support.hydration_disks import Disk, end_processes_in
from support.hydration_pages import PageReader, relation_files
from support.postgres import cluster_in, login, reachable_directory, running_namespace

DURABLE = ServerSettings(
    max_connections=40,
    # Few, so that changed pages are written at any moment, and not only by checkpoints.
    shared_buffers=8 * MEGABYTE,
    max_wal_size=64 * MEGABYTE,
)
_SERIES = 1_000_000


class Activity(threading.Thread):
    """Something that goes on until the power goes; `ended` is set then."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()


class Worker(Activity):
    """Changes one table, one change after the other, the same ones whenever it is asked for them; until the power goes.

    `promised` is how many were acknowledged.
    """

    def __init__(
        self, number: int, cluster: Cluster, *, seed: int, done: int, instant: threading.Lock
    ) -> None:
        super().__init__()
        self._number = number
        self._cluster = cluster
        self._seed = seed
        self._instant = instant
        self.promised = done

    def run(self) -> None:
        """Nothing but the end of the server ends it, or `ended`."""
        with suppress(psycopg.Error), login(self._cluster) as connection:
            while not self.ended.is_set():
                change_of(self._number, self.promised + 1, seed=self._seed).run(connection)
                # Not while somebody says which instant is the last one.
                with self._instant:
                    self.promised += 0 if self.ended.is_set() else 1


class Caretaker(Activity):
    """Everything that changes no row, and databases that are made of one which is arriving."""

    def __init__(
        self, cluster: Cluster, chance: random.Random, *, name: str, instant: threading.Lock
    ) -> None:
        super().__init__()
        self._cluster = cluster
        self._chance = chance
        self._name = name
        self._instant = instant
        self.made: list[str] = []

    def run(self) -> None:
        """As `Worker.run`."""
        with suppress(psycopg.Error), login(self._cluster) as connection:
            while not self.ended.is_set():
                if self._chance.random() < 0.1:
                    self._make_database(connection)
                else:
                    statement = self._chance.choice((*MAINTENANCE, "VACUUM {}"))
                    connection.execute(statement.format(self._chance.choice(TABLES)).encode())

    def _make_database(self, connection: "psycopg.Connection[Any]") -> None:
        name = f"{self._name}_{len(self.made)}"
        strategy = self._chance.choice(("wal_log", "file_copy"))
        connection.execute(f"CREATE DATABASE {name} TEMPLATE second STRATEGY {strategy}".encode())
        with self._instant:
            if not self.ended.is_set():
                self.made.append(name)


class Checkpointer(Activity):
    """Checkpoints at any moment: what they leave is what recovery relies on."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        super().__init__()
        self._cluster = cluster
        self._chance = chance

    def run(self) -> None:
        """As `Worker.run`."""
        from stillframe.errors import StillframeError
        from stillframe.postgres.connection import connect

        with suppress(StillframeError, psycopg.Error), connect(self._cluster, database="postgres") as session:
            while not self.ended.wait(self._chance.uniform(0.01, 0.6)):
                session.execute("CHECKPOINT")


class OutsideReader(Activity):
    """Reads pages all the time; `wrong` is what it should not have seen."""

    def __init__(self, reader: PageReader, data: Path, chance: random.Random) -> None:
        super().__init__()
        self._reader = reader
        self._data = data
        self._chance = chance
        self.seen = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        """Until `ended`: what is read after the power went says nothing."""
        while not self.ended.is_set():
            with suppress(OSError):
                try:
                    self.seen += self._reader.read_some(self._data, 5, self._chance)
                except AssertionError as error:
                    if not self.ended.is_set():
                        self.wrong.append(str(error))


def change_of(worker: int, number: int, *, seed: int) -> Change:
    """The `number`-th change of a worker, counted from 1."""
    chance = random.Random(f"{seed}-{worker}-{number}")
    kind = chance.choice(sorted(CHANGES))
    statements = statements_of(kind, TABLES[worker], chance.randint(1, 12_000))
    return Change(step=worker * _SERIES + number, statements=statements)


class HalfArrived:
    """One directory on a disk, from its layout to its completion, with as many power cuts between as it is told."""

    def __init__(self, disk: Disk, reference: Path, seed: int, *, report: Callable[[str], None]) -> None:
        self._disk = disk
        self._reference = reference
        self._seed = seed
        self._chance = random.Random(seed)
        self._report = report
        self._done = dict.fromkeys(range(len(TABLES)), 0)
        self._made: list[str] = []
        self._cuts = 0
        self._root = disk.mount_point / f"life-{seed}"
        self.cluster = cluster_in(self._root)
        self._place = Place(disk.mount_point.parent / f"beside-{seed}", filled=True)
        self._reader = PageReader(reference)
        self.cuts_while_arriving = 0

    def lay_out(self) -> None:
        """Files of the right length with nothing in them, durable."""
        self._root.mkdir(mode=0o711)
        self._place.root.mkdir()
        (self._place.root / "half").symlink_to(self.cluster.data_directory)
        (self._place.root / "reference").symlink_to(self._reference)
        subprocess.run(["cp", "-a", self._reference, self.cluster.data_directory], check=True)
        for path in relation_files(self.cluster.data_directory):
            size = path.stat().st_size
            if size:
                os.truncate(path, 0)
                with path.open("r+b") as file:
                    file.truncate(size)
                    tag(file.fileno(), size)
        sync_file_system(self._disk.mount_point)

    def live_and_lose_power(self, seconds: float) -> None:
        """Work for a while; then everything that is not durable is lost, and all processes are gone."""
        with self._hydrated() as hydrator:
            self._require_promises()
            # Mostly in the middle of everything; now and then when the last files are completed.
            self._place.slow(slow=self._chance.random() < 0.7)
            hydrator.begin_background()
            instant = threading.Lock()
            workers = [
                Worker(number, self.cluster, seed=self._seed, done=done, instant=instant)
                for number, done in self._done.items()
            ]
            self._cuts += 1
            caretaker = Caretaker(
                self.cluster,
                random.Random(self._chance.random()),
                name=f"made_{self._cuts}",
                instant=instant,
            )
            reader = OutsideReader(
                self._reader, self.cluster.data_directory, random.Random(self._chance.random())
            )
            threads: list[Activity] = [
                *workers,
                caretaker,
                Checkpointer(self.cluster, random.Random(seconds)),
                reader,
            ]
            for thread in threads:
                thread.start()
            time.sleep(seconds)
            arrived = self._how_far(hydrator)
            with instant:
                self._disk.cut()
                for thread in threads:
                    thread.ended.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        self._disk.unmount()
        self._disk.mount()
        assert reader.wrong == []
        for number, worker in enumerate(workers):
            self._done[number] = worker.promised
        self._made += caretaker.made
        self._report(
            f"cut {self._cuts} of life {self._seed}: {arrived}, promised {self._done}, read {reader.seen}"
        )

    @property
    def arrives(self) -> bool:
        """Whether something is still missing."""
        return any(tagged(self.cluster.data_directory))

    def complete(self) -> dict[str, Any]:
        """Let everything come; what the databases hold then, whose promises and pages are checked."""
        with self._hydrated() as hydrator:
            self._require_promises()
            self._place.slow(slow=False)
            hydrator.complete()
            assert not self.arrives
            self._reader.read_all(self.cluster.data_directory)
            found = fingerprint(OverSocket(cluster=self.cluster))
            require_sound(self.cluster)
            self.cluster.stop()
        return found

    def expected(self) -> dict[str, Any]:
        """What an eagerly restored copy holds after the same changes."""
        with reachable_directory() as directory:
            double = cluster_in(directory)
            subprocess.run(["cp", "-a", self._reference, double.data_directory], check=True)
            double.start(
                ServerSettings(max_connections=40, shared_buffers=32 * MEGABYTE, extra={"fsync": "off"})
            )
            try:
                with login(double) as connection:
                    for number, done in self._done.items():
                        for step in range(1, done + 1):
                            change_of(number, step, seed=self._seed).run(connection)
                    for name in self._made:
                        connection.execute(f"CREATE DATABASE {name} TEMPLATE second".encode())
                return fingerprint(OverSocket(cluster=double))
            finally:
                double.stop()

    def remove(self) -> None:
        """Make room for the next one."""
        subprocess.run(["rm", "-rf", self._root, self._place.root], check=True)

    @contextmanager
    def _hydrated(self) -> Iterator[HydratorProcess]:
        """Hydrator and server, as the service resumes them after a start of the machine; both are gone at the end."""
        hydrator = HydratorProcess(self._place, check_pages=self._cuts > 0, checksums=True)
        try:
            hydrator.start(self.cluster, DURABLE)
            yield hydrator
        finally:
            end_processes_in(self._disk.mount_point)
            hydrator.kill()

    def _how_far(self, hydrator: HydratorProcess) -> str:
        try:
            status = hydrator.status
        except ServerUnavailable:
            return "complete"
        self.cuts_while_arriving += 1
        return f"{status.arrived_bytes * 100 // max(1, status.total_bytes)} %"

    def _require_promises(self) -> None:
        """Whatever was acknowledged is there; what was under way is there or not, as a whole and in order."""
        with login(self.cluster) as connection:
            steps: set[Any] = {step for (step,) in connection.execute("SELECT step FROM applied")}
            names = {str(name) for (name,) in connection.execute("SELECT datname FROM pg_database")}
            kept = connection.execute("SELECT count(*), sum(id) FROM kept").fetchone()
        assert kept == (KEPT, KEPT * (KEPT + 1) // 2)
        for number, promised in self._done.items():
            found = sum(1 for step in steps if step // _SERIES == number)
            assert {number * _SERIES + step for step in range(1, found + 1)} <= steps
            assert promised <= found <= promised + 1, f"worker {number}: {promised} promised, {found} found"
            self._done[number] = found
        assert set(self._made) <= names
        self._made = sorted(name for name in names if name.startswith("made_"))
        for name in self._made:
            with login(self.cluster, database=name) as connection:
                assert connection.execute("SELECT count(*) FROM notes").fetchone() == (3000,)

    def require_same(self) -> None:
        """To its end, and compare."""
        assert differences(self.complete(), self.expected()) == []


@contextmanager
def reference_directory() -> Iterator[Path]:
    """The data directory of a cluster with some content, cleanly stopped."""
    with running_namespace() as cluster:
        fill(lambda database: login(cluster, database=database))
        cluster.stop()
        yield cluster.data_directory

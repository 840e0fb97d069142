"""A namespace whose files arrive from an object store that can be slow or fail, and its eagerly restored double."""

import random
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psycopg

from stillframe.app.composition import build_parts
from stillframe.backup.restore import restore, start_restored
from stillframe.config import load_settings
from stillframe.domain.cancel import CancelToken
from stillframe.domain.identifiers import SnapshotId, parse_region
from stillframe.errors import ServerUnavailable
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import connect
from stillframe.postgres.machine import find_machine, namespace_cluster
from stillframe.service.arrivals import arrival_note, hydrator_of
from support.backup import new_progress
from support.crash_fingerprint import Login, fingerprint
from support.crash_processes import Process, kill, of_role
from support.crash_rig import NotNow, Rig
from support.hydration_changes import Change, OverSocket, fill, require_sound
from support.hydration_pages import PageReader
from support.postgres import SMALL, cluster_in, reachable_directory, stopped_at_the_end
from support.s3 import CREDENTIALS, FaultyProxy, Forward, Reply, Request, S3Server, server_error
from support.service import REGION

Result = TypeVar("Result")
Rows = list[tuple[Any, ...]]

ORIGIN, TARGET, FULL = "origin", "target", "full"
PATIENCE = 60.0
_SLOW_BYTES_PER_SECOND = 8_000_000


class ArrivingNamespace:
    """The namespace `target` of a service of its own, restored again and again from snapshots that lie on S3."""

    def __init__(self, rig: Rig, proxy: FaultyProxy) -> None:
        self.rig = rig
        self._proxy = proxy
        self._slow = False
        self._machine = find_machine(None, server_user=rig.settings.server_user)
        self._cluster: Cluster | None = None
        self._login: Login | None = None
        self._threads = ThreadPoolExecutor(2)

    # --- making -------------------------------------------------------------------------------------------------

    def fill(self) -> None:
        """A namespace with something in it, its snapshot `full`, and an empty namespace to restore into."""
        for name in (ORIGIN, TARGET):
            self.rig.client().create_namespace(
                namespaceName=name, adminUsername="admin", adminUserPassword=self.rig.password
            )
            self._create_workgroup(name)
        fill(self.rig.login(ORIGIN).connect)
        self.snapshot(FULL, of=ORIGIN)
        self.rig.client().delete_workgroup(workgroupName=ORIGIN)
        self.rig.settle()

    def _create_workgroup(self, name: str) -> None:
        self.rig.client().create_workgroup(namespaceName=name, workgroupName=name, baseCapacity=8)
        self.rig.settle(PATIENCE)

    def snapshot(self, name: str, *, of: str = TARGET) -> None:
        """Take one, and wait until it is AVAILABLE."""
        self.rig.client().create_snapshot(namespaceName=of, snapshotName=name)
        taken = self.rig.settle(PATIENCE)["snapshot"][name]
        assert taken["status"] == "AVAILABLE", (self.rig.operations()[-1], self.rig.tail())

    def restore(self, snapshot: str) -> None:
        """Make the namespace this snapshot, with files that arrive when they are asked for."""
        self.rig.client().restore_from_snapshot(
            namespaceName=TARGET, workgroupName=TARGET, snapshotName=snapshot
        )
        self.rig.settle(PATIENCE)
        self._cluster = self._login = None
        last = [one for one in self.rig.operations() if one["kind"] == "restore_from_snapshot"][-1]
        assert last["status"] == "succeeded", last

    def cycle_workgroup(self) -> None:
        """Stop the server and start it again, as the API does it."""
        self.rig.client().delete_workgroup(workgroupName=TARGET)
        self.rig.settle(PATIENCE)
        self._login = None
        self._create_workgroup(TARGET)

    # --- asking -------------------------------------------------------------------------------------------------

    def login(self) -> Login:
        """The admin's, at the address the workgroup had when it answered the last time."""
        if self._login is None:
            self._login = self.rig.login(TARGET)
        return self._login

    def patiently(self, use: "Callable[[psycopg.Connection[Any]], Result]", database: str = "dev") -> Result:
        """What `use` makes of a connection, tried again while the server is away."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self.login().connect(database) as connection:
                    connection.execute(f"SET statement_timeout = '{PATIENCE:.0f}s'".encode())
                    return use(connection)
            except (psycopg.OperationalError, *NotNow) as error:
                self._login = None
                if time.monotonic() > deadline:
                    raise AssertionError(f"no answer: {error}\n{self.rig.tail()}") from error
                time.sleep(0.05)

    def rows(self, statement: str, database: str = "dev") -> Rows:
        """Of one statement."""
        return self.patiently(lambda connection: connection.execute(statement.encode()).fetchall(), database)

    def maintain(self, statement: str) -> None:
        """Something that changes no row, again if it was cut off."""
        self.patiently(lambda connection: connection.execute(statement.encode()))

    def checkpoint(self) -> None:
        """A new beginning for crash recovery."""
        cluster = self.cluster()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with connect(cluster, database="postgres") as session:
                    session.execute("CHECKPOINT")
                return
            except ServerUnavailable:
                assert time.monotonic() < deadline, self.rig.tail()
                time.sleep(0.05)

    def apply(self, change: Change) -> bool:
        """Try it once; whether it has happened, also when the answer was lost."""
        try:
            with self.login().connect("dev") as connection:
                connection.execute(f"SET statement_timeout = '{PATIENCE:.0f}s'".encode())
                change.run(connection)
        except (psycopg.OperationalError, *NotNow):
            return self.patiently(change.happened)
        return True

    def begin(self, change: Change) -> "Future[bool]":
        """`apply`, in a thread."""
        return self._threads.submit(self.apply, change)

    # --- trouble ------------------------------------------------------------------------------------------------

    def slow(self, *, slow: bool) -> None:
        """Whether the store takes its time from now on."""
        self._slow = slow
        self._proxy.arm(_slowly if slow else None)

    @contextmanager
    def failing_store(self) -> Iterator[None]:
        """A store that answers nothing but errors for the length of the block."""
        self._proxy.arm(server_error)
        try:
            yield
        finally:
            self.slow(slow=self._slow)

    def strike(self, victim: str) -> None:
        """Kill what the name stands for; the service is started again if it was among that."""
        # Asked before: nobody answers afterwards.
        cluster = self.cluster()
        kill(self._victims(victim, cluster))
        if victim == "machine":
            _forget_boot(cluster)
        if victim in {"service", "machine"}:
            self.rig.service.wait(PATIENCE)
        self.rig.ensure_running()

    def _victims(self, victim: str, cluster: Cluster) -> list[Process]:
        found, data = self.rig.processes(), cluster.data_directory
        servers = [one for one in found if one.place == data]
        match victim:
            case "service":
                return of_role(found, "service") + of_role(found, "worker") + of_role(found, "nursery")
            case "server":
                return of_role(servers, "postmaster")
            case "backend":
                return of_role(servers, "backend")[-1:]
            case "machine":
                return found
            case _:
                return of_role(found, victim)

    def restart_service(self) -> None:
        """In order."""
        assert self.rig.terminate(PATIENCE) == 0
        self.rig.start()

    # --- the files ----------------------------------------------------------------------------------------------

    def cluster(self) -> Cluster:
        """The cluster of its only incarnation; another one after every restore."""
        if self._cluster is None:
            settings = self.rig.settings
            namespace = self.rig.client().get_namespace(namespaceName=TARGET)["namespace"]["namespaceId"]
            (directory,) = settings.paths.namespace(namespace).iterdir()
            ids = uuid.UUID(namespace), uuid.UUID(directory.name)
            self._cluster = namespace_cluster(settings, self._machine, *ids)
        return self._cluster

    def is_arriving(self) -> bool:
        """Whether something is still missing."""
        return self.cluster().arrival_note() is not None

    def background(self) -> None:
        """Let everything come, if somebody is there to bring it."""
        with suppress(ServerUnavailable):
            hydrator_of(self.cluster()).background()

    def complete(self) -> None:
        """Let everything come, and wait for it."""
        deadline = time.monotonic() + 2 * PATIENCE
        while self.is_arriving():
            assert time.monotonic() < deadline, f"it never arrived\n{self.rig.tail()}"
            self.background()
            time.sleep(0.05)

    def await_hydrator(self) -> None:
        """Return when somebody answers for what is missing, or nothing is.

        A server outlives its hydrator for a moment. It never reads a hole, for it is killed first; but with its end
        the kernel lets through who else waits.
        """
        deadline = time.monotonic() + PATIENCE
        while self.is_arriving() and not of_role(self.rig.processes(), "hydrator"):
            assert time.monotonic() < deadline, f"nobody brings anything\n{self.rig.tail()}"
            time.sleep(0.01)

    def read_pages(self, reader: PageReader, count: int, chance: random.Random) -> int:
        """Single pages, by a process that no server knows of, while somebody answers for what is missing."""
        cluster = self.cluster()
        return reader.read_some(cluster.data_directory, count, chance)

    def assert_sound(self) -> None:
        """Every heap, index and visibility map is what PostgreSQL's own checks expect."""
        require_sound(self.cluster())


class EagerDouble:
    """The snapshot `full` restored without hydration, once; every look at it is a fresh copy."""

    def __init__(self, root: Path, arriving: ArrivingNamespace, environment: dict[str, str]) -> None:
        self._arriving = arriving
        self._kept = cluster_in(root)
        self._kept.identity.make_directory(self._kept.data_directory.parent)
        snapshot = arriving.rig.client().get_snapshot(snapshotName=FULL)["snapshot"]["snapshotArn"]
        parts = build_parts(
            load_settings(overrides={"data": arriving.rig.data, "port": 0, **_as_overrides(environment)})
        )
        repository = parts.repositories.of(parse_region(REGION))
        with repository.open_snapshot(SnapshotId(uuid.UUID(snapshot.rpartition("/")[2]))) as reader:
            self._facts = reader.document.facts
            restore(
                reader,
                self._kept.data_directory,
                identity=self._kept.identity,
                progress=new_progress(),
                cancel=CancelToken(),
            )

    @property
    def files(self) -> Path:
        """Every file of the snapshot, complete, and never started."""
        return self._kept.data_directory

    def after(self, history: list[Change]) -> dict[str, Any]:
        """What it holds when these changes were made to it."""
        with reachable_directory() as directory:
            cluster = cluster_in(directory)
            subprocess.run(["cp", "-a", self.files, cluster.data_directory], check=True)
            with stopped_at_the_end(cluster):
                start_restored(cluster, self._facts, timeline=self._facts.timeline + 1, settings=SMALL)
                here = OverSocket(cluster=cluster, password=self._arriving.rig.password)
                with here.connect("dev") as connection:
                    for change in history:
                        change.run(connection)
                return fingerprint(here)


@contextmanager
def arriving_namespace(server: S3Server) -> Iterator[tuple[ArrivingNamespace, EagerDouble]]:
    """Both, on a service that brings only what is asked for until it is told otherwise."""
    proxy = FaultyProxy(server)
    location = proxy.through(server.tried_location())
    environment = {
        "STILLFRAME_REPOSITORY_URL": str(location),
        "STILLFRAME_REPOSITORY_ENDPOINT_URL": str(location.endpoint_url),
        "STILLFRAME_REPOSITORY_ACCESS_KEY_ID": CREDENTIALS.access_key_id,
        "STILLFRAME_REPOSITORY_SECRET_ACCESS_KEY": CREDENTIALS.secret_access_key,
        "STILLFRAME_REPOSITORY_TIMEOUT_SECONDS": "10",
        "STILLFRAME_HYDRATE_IN_BACKGROUND": "false",
        "STILLFRAME_RESTORE_STRATEGY": "hydration",
    }
    try:
        with Rig(None, **environment) as rig, reachable_directory() as beside:
            arriving = ArrivingNamespace(rig.start(), proxy)
            arriving.fill()
            yield arriving, EagerDouble(beside, arriving, environment)
    finally:
        proxy.close()


def _forget_boot(cluster: Cluster) -> None:
    """As if the machine had been started anew: what is there has to be looked at before it is believed."""
    note = arrival_note(cluster)
    if note is not None:
        cluster.begin_arrival(msgspec.json.encode(msgspec.structs.replace(note, boot_id="an earlier run")))


def _slowly(request: Request, forward: Forward) -> Reply:
    """As over a thin line: what is big takes longer."""
    reply = forward(request)
    time.sleep(0.005 + len(reply.body) / _SLOW_BYTES_PER_SECOND)
    return reply


def _as_overrides(environment: dict[str, str]) -> dict[str, str]:
    return {
        name.removeprefix("STILLFRAME_").lower(): value
        for name, value in environment.items()
        if name.startswith("STILLFRAME_REPOSITORY")
    }

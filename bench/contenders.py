"""Ours and the peers behind one face: take a full copy, bring it back, both durable when they return.

Where a peer gives no such guarantee by itself, its result is synced by the same code that ours uses, and the
time for it counts.
"""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from bench.measure import tree_bytes
from bench.warehouse import ADMIN, DATABASE, Source, Warehouse
from stillframe.backup.capture import CaptureRequest, capture
from stillframe.backup.progress import Progress
from stillframe.backup.restore import restore
from stillframe.domain.cancel import CancelToken
from stillframe.domain.clock import SystemClock
from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY, LineageId, SnapshotId
from stillframe.kms import LocalKeyManagement
from stillframe.objectstore import LocalObjectStore
from stillframe.postgres.osfiles import sync_tree
from stillframe.repository import Repository, SnapshotAttributes


class Contender(Protocol):
    """Something that copies a running cluster and brings the copy back.

    `prepare_*` and `clean_*` are not timed. `rounds` is how many of the asked rounds it takes part in at most:
    a slow one says enough in two.
    """

    name: str
    guarantees: str
    rounds: int

    def prepare_copy(self) -> None:
        """Make room for a copy that shares nothing with an earlier one."""
        ...

    def copy(self) -> None:
        """Take the copy; durable on return."""
        ...

    def stored(self) -> int:
        """Bytes that the last copy added."""
        ...

    def prepare_return(self) -> None:
        """Make room for what comes back."""
        ...

    def bring_back(self) -> None:
        """Bring the last copy back; durable on return."""
        ...

    def clean_return(self) -> None:
        """Remove what came back."""
        ...

    def close(self) -> None:
        """Remove everything."""
        ...


class Service:
    """Stillframe as its users have it: by boto3, until the answer says AVAILABLE."""

    name = "Stillframe, by boto3"
    guarantees = "fsync; compressed, encrypted, every page checked; restored server recovered and running"
    rounds = 99

    def __init__(self, house: Warehouse, source: Source) -> None:
        self._house = house
        self._source = source
        self._snapshot = ""
        self._before = 0
        self._targets = 0

    def prepare_copy(self) -> None:
        """A fresh key, under which nothing is stored yet."""
        self._house.rekey(self._source.namespace)
        self._before = self._size()
        self._snapshot = f"full-{uuid.uuid4().hex[:12]}"

    def copy(self) -> None:
        """CreateSnapshot until AVAILABLE."""
        self._house.snapshot(self._source.namespace, self._snapshot)

    def stored(self) -> int:
        """What the repository has grown by."""
        return self._size() - self._before

    def prepare_return(self) -> None:
        """An empty namespace with a workgroup."""
        self._targets += 1
        self._house.make(self._target)

    def bring_back(self) -> None:
        """RestoreFromSnapshot until AVAILABLE: the server runs and takes connections."""
        self._house.restore(self._target, self._snapshot)

    def clean_return(self) -> None:
        """Count the rows once more, then delete namespace and workgroup."""
        with self._house.connect(self._source.workgroup) as source, self._house.connect(self._target) as copy:
            query = "SELECT count(*), sum(o_orderkey), sum(o_totalprice) FROM orders"
            assert source.execute(query).fetchone() == copy.execute(query).fetchone(), "rows were lost"
        self._house.remove(self._target)

    def close(self) -> None:
        """Everything of the service goes with its directory."""

    def _size(self) -> int:
        return tree_bytes(self._house.repository)

    @property
    def _target(self) -> str:
        return f"target-{self._targets}"


class Engine:
    """Stillframe's engine alone: no API, no catalog, no job, and files instead of a started server."""

    name = "Stillframe, engine alone"
    guarantees = "fsync; compressed, encrypted, every page checked"
    rounds = 99

    def __init__(self, house: Warehouse, source: Source) -> None:
        self._source = source
        self._identity = house.machine.identity
        self._threads = house.local.settings.copy_threads
        self._root = _fresh(house.root / "engine")
        self._target = house.root / "engine-restored"
        self._repository: Repository | None = None
        self._snapshot_id = SnapshotId(uuid.uuid4())

    def prepare_copy(self) -> None:
        """An empty repository."""
        _fresh(self._root)
        keys = LocalKeyManagement(self._root / "keys")
        keys.ensure_key(AWS_OWNED_KMS_KEY)
        self._repository = Repository.create_or_open(LocalObjectStore(self._root / "repository"), keys)
        self._snapshot_id = SnapshotId(uuid.uuid4())

    def copy(self) -> None:
        """One capture."""
        assert self._repository is not None
        with self._repository.begin_snapshot(
            key_id=AWS_OWNED_KMS_KEY, snapshot_id=self._snapshot_id
        ) as writer:
            request = CaptureRequest(
                lineage_id=LineageId(uuid.uuid4()), attributes=_attributes(), threads=self._threads
            )
            capture(
                self._source.cluster, writer, request, progress=Progress(SystemClock()), cancel=CancelToken()
            )

    def stored(self) -> int:
        """The whole repository."""
        return tree_bytes(self._root)

    def prepare_return(self) -> None:
        """An empty directory."""
        shutil.rmtree(self._target, ignore_errors=True)

    def bring_back(self) -> None:
        """All files, durable."""
        assert self._repository is not None
        with self._repository.open_snapshot(self._snapshot_id) as reader:
            restore(
                reader,
                self._target,
                identity=self._identity,
                progress=Progress(SystemClock()),
                cancel=CancelToken(),
                threads=self._threads,
            )

    def clean_return(self) -> None:
        """Remove the files."""
        _require_cluster(self._target)
        shutil.rmtree(self._target)

    def close(self) -> None:
        """Remove the repository."""
        shutil.rmtree(self._root, ignore_errors=True)


class PlainBaseBackup:
    """pg_basebackup into a directory; brought back by copying that directory."""

    name = "pg_basebackup, plain"
    guarantees = "fsync; not compressed, not encrypted, pages checked by the server"
    rounds = 99

    def __init__(self, house: Warehouse, source: Source) -> None:
        self._source = source
        self._copy = house.root / "basebackup-plain"
        self._target = house.root / "basebackup-restored"

    def prepare_copy(self) -> None:
        """No directory yet."""
        shutil.rmtree(self._copy, ignore_errors=True)

    def copy(self) -> None:
        """pg_basebackup -Fp -c fast -X stream, synced by itself."""
        _base_backup(self._source, "-D", str(self._copy), "-Fp")

    def stored(self) -> int:
        """The directory."""
        return tree_bytes(self._copy)

    def prepare_return(self) -> None:
        """No directory yet."""
        shutil.rmtree(self._target, ignore_errors=True)

    def bring_back(self) -> None:
        """cp -a, then fsync of every file: cp has no such option."""
        run("cp", "-a", str(self._copy), str(self._target))
        sync_tree(self._target)

    def clean_return(self) -> None:
        """Remove the files."""
        _require_cluster(self._target)
        shutil.rmtree(self._target)

    def close(self) -> None:
        """Remove the copy."""
        shutil.rmtree(self._copy, ignore_errors=True)


class TarBaseBackup(PlainBaseBackup):
    """pg_basebackup into compressed tar files; brought back by unpacking them."""

    name = "pg_basebackup, -Ft -z"
    guarantees = "fsync; compressed, not encrypted, pages checked by the server"
    rounds = 2

    def __init__(self, house: Warehouse, source: Source) -> None:
        super().__init__(house, source)
        self._copy = house.root / "basebackup-tar"

    def copy(self) -> None:
        """pg_basebackup -Ft -z: gzip at its default level, one thread."""
        _base_backup(self._source, "-D", str(self._copy), "-Ft", "-z")

    def bring_back(self) -> None:
        """tar -xz of the data and of the WAL, then fsync of every file."""
        self._target.mkdir(mode=0o700)
        run("tar", "-xzf", str(self._copy / "base.tar.gz"), "-C", str(self._target))
        run("tar", "-xzf", str(self._copy / "pg_wal.tar.gz"), "-C", str(self._target / "pg_wal"))
        sync_tree(self._target)


class Restic:
    """restic of the live directory between pg_backup_start and pg_backup_stop, then of the WAL it needs."""

    name = "restic"
    guarantees = "fsync of the repository; compressed, encrypted, pages not checked"
    rounds = 99

    def __init__(self, house: Warehouse, source: Source) -> None:
        self._house = house
        self._source = source
        self._root = _fresh(house.root / "restic")
        self._target = house.root / "restic-restored"
        self._before = 0

    def prepare_copy(self) -> None:
        """An empty repository in restic's default format, which compresses."""
        _fresh(self._root)
        self._restic("init")
        self._before = 0

    def prepare_next(self) -> None:
        """Keep what is stored: the next copy shares with it."""
        self._before = tree_bytes(self._root / "repository")

    def copy(self) -> None:
        """Two backups: the directory, and then the label and the WAL from start to stop."""
        data = self._source.cluster.data_directory
        with self._house.service_connection(self._source) as session:
            session.execute("SELECT pg_backup_start('bench', fast => true)")
            excluded = (
                f"--exclude={data / name}" for name in ("pg_wal/*", "postmaster.pid", "postmaster.opts")
            )
            self._restic("backup", "--tag", "data", *excluded, str(data))
            stopped = session.execute(
                "SELECT lsn::text, labelfile, pg_walfile_name(lsn) FROM pg_backup_stop(wait_for_archive => false)"
            ).fetchone()
        assert stopped is not None
        label = self._root / "backup_label"
        label.write_text(stopped[1])
        self._restic("backup", "--tag", "wal", str(label), *_needed_wal(data, stopped[1], stopped[2]))

    def stored(self) -> int:
        """What the repository has grown by."""
        return tree_bytes(self._root / "repository") - self._before

    def prepare_return(self) -> None:
        """No directory yet."""
        shutil.rmtree(self._target, ignore_errors=True)

    def bring_back(self) -> None:
        """restic restore of both, then fsync of every file: restic has no such option."""
        for tag in ("data", "wal"):
            self._restic("restore", "latest", "--tag", tag, "--target", str(self._target))
        sync_tree(self._target)

    def clean_return(self) -> None:
        """Remove the files."""
        _require_cluster(self._target / self._source.cluster.data_directory.relative_to("/"))
        shutil.rmtree(self._target)

    def close(self) -> None:
        """Remove the repository."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _restic(self, *arguments: str) -> None:
        run(
            "restic",
            "--quiet",
            *arguments,
            environment={
                "RESTIC_REPOSITORY": str(self._root / "repository"),
                "RESTIC_PASSWORD": "benchmark",
                "RESTIC_CACHE_DIR": str(self._root / "cache"),
            },
        )


def contenders(house: Warehouse, source: Source) -> list[Contender]:
    """Everybody who can take part on this machine, ours first."""
    found: list[Contender] = [
        Service(house, source),
        Engine(house, source),
        PlainBaseBackup(house, source),
        TarBaseBackup(house, source),
    ]
    if shutil.which("restic"):
        found.append(Restic(house, source))
    return found


@contextmanager
def closing_all(everybody: Sequence[Contender]) -> Iterator[None]:
    """Remove what they stored, however the block is left."""
    try:
        yield
    finally:
        for one in everybody:
            one.close()


def incremental_base_backup(source: Source, target: Path, manifest: Path) -> None:
    """pg_basebackup's own incremental copy, by the manifest of an earlier one."""
    _base_backup(source, "-D", str(target), "-Fp", f"--incremental={manifest}")


def _base_backup(source: Source, *options: str) -> None:
    cluster = source.cluster
    program = cluster.installation.program("pg_basebackup")
    address = ("-h", str(cluster.socket_directory), "-p", str(cluster.socket_port), "-U", "stillframe", "-w")
    run(str(program), *address, "-c", "fast", "-X", "stream", *options)


def _needed_wal(data: Path, label: str, last: str) -> list[str]:
    # The label's first line ends in "(file 000000010000000000000042)".
    first = label.splitlines()[0].rpartition("file ")[2].rstrip(")")
    return [
        str(path)
        for path in sorted((data / "pg_wal").iterdir())
        if len(path.name) == 24 and first <= path.name <= last
    ]


def _require_cluster(directory: Path) -> None:
    assert (directory / "global" / "pg_control").exists(), f"nothing came back in {directory}"


def _fresh(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    return directory


def run(*command: str, environment: dict[str, str] | None = None) -> None:
    """Run a program to its end; SystemExit with what it said when it fails."""
    done = subprocess.run(
        command,
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(
            f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr.strip()[-500:]}"
        )


def _attributes() -> SnapshotAttributes:
    named: dict[str, Any] = dict.fromkeys(("snapshot_arn", "namespace_arn"), "arn:bench")
    return SnapshotAttributes(
        account="123456789012",
        region="us-east-1",
        snapshot_name="bench",
        namespace_id=str(uuid.uuid4()),
        namespace_name="bench",
        admin_username=ADMIN,
        db_name=DATABASE,
        kms_key_id=AWS_OWNED_KMS_KEY,
        created_at=datetime.now(UTC),
        retention_days=-1,
        **named,
    )

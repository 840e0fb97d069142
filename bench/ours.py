"""Stillframe as a contender: as its users have it, and its engine alone."""

import shutil
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.measure import tree_bytes
from bench.programs import fresh, require_cluster
from bench.warehouse import ADMIN, DATABASE, Source, Warehouse
from stillframe.backup.capture import CaptureRequest, capture
from stillframe.backup.memory import ListingMemory
from stillframe.backup.progress import Progress
from stillframe.backup.restore import restore
from stillframe.domain.cancel import CancelToken
from stillframe.domain.clock import SystemClock
from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY, LineageId, SnapshotId
from stillframe.kms import LocalKeyManagement
from stillframe.objectstore import LocalObjectStore
from stillframe.repository import CheckReport, Level, Repository, SnapshotAttributes, SnapshotDocument

_REMEMBERED = timedelta(days=1)


class Service:
    """Stillframe as its users have it: by boto3, until the answer says AVAILABLE."""

    name = "Stillframe, by boto3"
    guarantees = (
        "fsync; compressed, encrypted, every page checked; restored server running, all files arrived"
    )
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

    def prepare_next(self) -> None:
        """Under the same key, so that the next one builds on the last."""
        self._before = self._size()
        self._snapshot = f"next-{uuid.uuid4().hex[:12]}"

    def copy_next(self) -> None:
        """The same call again."""
        self.copy()

    def stored(self) -> int:
        """What the repository has grown by."""
        return self._size() - self._before

    def prepare_return(self) -> None:
        """An empty namespace with a workgroup."""
        self._targets += 1
        self._house.make(self._target)

    def bring_back(self) -> None:
        """RestoreFromSnapshot until the server runs, takes connections, and every file is there."""
        self._house.restore(self._target, self._snapshot)
        self._house.await_arrival(self._target)

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
    guarantees = (
        "fsync; compressed, encrypted, every page checked; restored eagerly, by threads, without privileges"
    )
    rounds = 99

    def __init__(self, house: Warehouse, source: Source) -> None:
        self._source = source
        self._identity = house.machine.identity
        self._threads = house.local.settings.copy_threads
        self._root = fresh(house.root / "engine")
        self.returned = house.root / "engine-restored"
        self._repository: Repository | None = None
        self._newest: SnapshotDocument | None = None
        self._memory = ListingMemory()
        self._before = 0
        self._lineage = LineageId(uuid.uuid4())

    def prepare_copy(self) -> None:
        """An empty repository."""
        fresh(self._root)
        keys = LocalKeyManagement(self._root / "keys")
        keys.ensure_key(AWS_OWNED_KMS_KEY)
        self._repository = Repository.create_or_open(LocalObjectStore(self._root / "repository"), keys)
        self._newest = None
        self._before = 0

    def copy(self) -> None:
        """One capture of everything."""
        self._newest = self._capture(parent=None)

    def prepare_next(self) -> None:
        """Keep what is stored: the next capture builds on it."""
        self._before = tree_bytes(self._root)

    def copy_next(self) -> None:
        """One capture of what changed since the last."""
        assert self._newest is not None
        self._newest = self._capture(parent=self._newest.snapshot_id)
        assert self._newest.facts.full_reason is None, self._newest.facts.full_reason

    def check(self) -> CheckReport:
        """Read and check every stored byte that no earlier check has."""
        assert self._repository is not None
        report = self._repository.check(level=Level.BYTES, remembered_for=_REMEMBERED)
        assert report.clean, report.findings
        return report

    def _capture(self, *, parent: SnapshotId | None) -> SnapshotDocument:
        assert self._repository is not None
        writer = self._repository.begin_snapshot(key_id=AWS_OWNED_KMS_KEY, parent=parent)
        request = CaptureRequest(
            lineage_id=self._lineage,
            attributes=_attributes(),
            threads=self._threads,
            memory=self._memory,
        )
        with writer:
            progress, cancel = Progress(SystemClock()), CancelToken()
            return capture(self._source.cluster, writer, request, progress=progress, cancel=cancel)

    def stored(self) -> int:
        """What the repository has grown by."""
        return tree_bytes(self._root) - self._before

    def prepare_return(self) -> None:
        """An empty directory."""
        shutil.rmtree(self.returned, ignore_errors=True)

    def bring_back(self) -> None:
        """All files, durable."""
        assert self._repository is not None
        assert self._newest is not None
        with self._repository.open_snapshot(self._newest.snapshot_id) as reader:
            restore(
                reader,
                self.returned,
                identity=self._identity,
                progress=Progress(SystemClock()),
                cancel=CancelToken(),
                threads=self._threads,
            )

    def clean_return(self) -> None:
        """Remove the files."""
        require_cluster(self.returned)
        shutil.rmtree(self.returned)

    def close(self) -> None:
        """Remove the repository."""
        shutil.rmtree(self._root, ignore_errors=True)


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

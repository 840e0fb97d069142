"""A repository of one's own, and snapshots taken and brought back with it."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from stillframe.backup.capture import CaptureRequest, capture
from stillframe.backup.progress import Progress
from stillframe.backup.restore import restore, start_restored
from stillframe.domain.cancel import CancelToken
from stillframe.domain.clock import SystemClock
from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY, LineageId, SnapshotId
from stillframe.kms import LocalKeyManagement
from stillframe.postgres.cluster import Cluster
from stillframe.repository import Repository, SnapshotAttributes, SnapshotDocument
from support.postgres import SMALL, cluster_in, reachable_directory, stopped_at_the_end
from support.stores import store_in


def new_repository(directory: Path) -> Repository:
    """An empty repository in that directory, with its own key."""
    keys = LocalKeyManagement(directory / "keys")
    keys.ensure_key(AWS_OWNED_KMS_KEY)
    return Repository.create_or_open(store_in(directory), keys)


def new_progress() -> Progress:
    """A counter on the machine's clock."""
    return Progress(SystemClock())


def attributes(name: str = "nightly") -> SnapshotAttributes:
    """What the API would say about a snapshot of this name."""
    return SnapshotAttributes(
        account="123456789012",
        region="eu-central-1",
        snapshot_name=name,
        snapshot_arn=f"arn:aws:redshift-serverless:eu-central-1:123456789012:snapshot/{uuid.uuid4()}",
        namespace_id=str(uuid.uuid4()),
        namespace_name="shop",
        namespace_arn=f"arn:aws:redshift-serverless:eu-central-1:123456789012:namespace/{uuid.uuid4()}",
        admin_username="admin",
        db_name="dev",
        kms_key_id=AWS_OWNED_KMS_KEY,
        created_at=datetime.now(UTC),
        retention_days=-1,
    )


def request(**changes: object) -> CaptureRequest:
    """A request for a capture, with these fields instead of the usual ones."""
    usual: dict[str, object] = {"lineage_id": LineageId(uuid.uuid4()), "attributes": attributes()}
    return CaptureRequest(**{**usual, **changes})  # type: ignore[arg-type]


def take(
    repository: Repository,
    source: Cluster,
    *,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    parent: SnapshotId | None = None,
    **changes: object,
) -> SnapshotDocument:
    """Take a snapshot of a running cluster."""
    with repository.begin_snapshot(key_id=AWS_OWNED_KMS_KEY, parent=parent) as writer:
        return capture(
            source,
            writer,
            request(**changes),
            progress=progress or new_progress(),
            cancel=cancel or CancelToken(),
        )


def lay_out(
    repository: Repository, document: SnapshotDocument, target: Cluster, *, progress: Progress | None = None
) -> None:
    """Restore a snapshot's files, without starting a server."""
    with repository.open_snapshot(document.snapshot_id) as reader:
        restore(
            reader,
            target.data_directory,
            identity=target.identity,
            progress=progress or new_progress(),
            cancel=CancelToken(),
        )


@contextmanager
def restored(
    repository: Repository, document: SnapshotDocument, *, timeline: int | None = None
) -> Iterator[Cluster]:
    """A running cluster made of the snapshot, on the next timeline unless another is named."""
    with reachable_directory() as directory:
        target = cluster_in(directory)
        lay_out(repository, document, target)
        with stopped_at_the_end(target):
            chosen = timeline or document.facts.timeline + 1
            start_restored(target, document.facts, timeline=chosen, settings=SMALL, deadline=60)
            yield target

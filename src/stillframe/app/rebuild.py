"""Writing the catalog's snapshots anew from what the repository says of itself."""

import uuid

import structlog

from stillframe.app.catalog_server import start_catalog_server
from stillframe.app.composition import Parts, build_parts
from stillframe.app.directories import prepare
from stillframe.app.lock import held_lock
from stillframe.catalog import Transaction
from stillframe.config import Settings
from stillframe.domain.access import Tag
from stillframe.domain.identifiers import (
    AccountId,
    KmsKeyId,
    NamespaceId,
    NamespaceName,
    Region,
    SnapshotName,
)
from stillframe.domain.snapshot import Snapshot, SnapshotStatus
from stillframe.errors import Conflict
from stillframe.repository import SnapshotDocument
from stillframe.service.jobs.capturing import figures_of
from stillframe.service.proofs import from_attributes

log = structlog.get_logger(__name__)


def rebuild_catalog(settings: Settings) -> int:
    """Add every stored snapshot that the catalog does not know; how many those were.

    Namespaces, workgroups and access keys are not in the repository and do not come back by this. Raises
    DataDirectoryInUse while a service runs, and what reading a document raises.
    """
    parts = build_parts(settings)
    prepare(settings.paths, parts.servers.machine.identity)
    with held_lock(
        settings.paths.lock_file,
        patience=0,
        message=f"A service runs on {settings.paths.root}.",
        hint="Stop it first.",
    ):
        start_catalog_server(parts.catalog_cluster)
        parts.catalog.migrate()
        try:
            return sum(
                _add(parts, document)
                for _, repository in parts.repositories.existing()
                for document in repository.documents()
            )
        finally:
            parts.catalog.close()
            parts.catalog_cluster.stop()


def _add(parts: Parts, document: SnapshotDocument) -> int:
    snapshot = snapshot_of(document)
    with parts.catalog.transaction() as transaction:
        if transaction.snapshots.find(id=snapshot.id) is not None:
            return 0
        try:
            transaction.snapshots.insert(snapshot)
        except Conflict:
            log.warning("snapshot_name_taken", snapshot=snapshot.name, snapshot_id=str(snapshot.id))
            return 0
        _add_tags(transaction, snapshot, document)
        proof = from_attributes(document.attributes)
        if proof is not None:
            transaction.proofs.upsert(proof)
    return 1


def _add_tags(transaction: Transaction, snapshot: Snapshot, document: SnapshotDocument) -> None:
    for key, value in document.attributes.tags.items():
        transaction.tags.upsert(Tag(resource_arn=snapshot.arn, key=key, value=value))


def snapshot_of(document: SnapshotDocument) -> Snapshot:
    """The catalog's row of a stored snapshot."""
    attributes = document.attributes
    return Snapshot(
        id=document.snapshot_id,
        account=AccountId(attributes.account),
        region=Region(attributes.region),
        name=SnapshotName(attributes.snapshot_name),
        namespace_id=NamespaceId(uuid.UUID(attributes.namespace_id)),
        namespace_name=NamespaceName(attributes.namespace_name),
        status=SnapshotStatus.AVAILABLE,
        created_at=attributes.created_at,
        retention_days=attributes.retention_days,
        retention_started_at=attributes.retention_started_at or document.facts.finished_at,
        admin_username=attributes.admin_username,
        db_name=attributes.db_name,
        kms_key_id=attributes.kms_key_id,
        admin_secret_arn=attributes.admin_secret_arn,
        admin_secret_kms_key_id=KmsKeyId(attributes.admin_secret_kms_key_id)
        if attributes.admin_secret_kms_key_id
        else None,
        publicly_accessible=attributes.publicly_accessible,
        **figures_of(document),
    )

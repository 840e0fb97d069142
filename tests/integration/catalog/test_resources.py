"""What an ARN names is there or not for all operations alike."""

import uuid

import pytest

from stillframe.catalog import Catalog
from stillframe.domain.identifiers import KmsKeyId, NamespaceId, NamespaceName, SnapshotId, SnapshotName
from stillframe.domain.snapshot import KEEP_FOREVER, Snapshot, SnapshotStatus
from stillframe.errors import NotFound
from stillframe.service.resources import require_resource
from support.catalog import ACCOUNT, MORNING, REGION

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("status", list(SnapshotStatus))
def test_a_snapshot_whose_content_is_being_removed_is_not_found(
    catalog: Catalog, status: SnapshotStatus
) -> None:
    snapshot = Snapshot(
        id=SnapshotId(uuid.uuid4()),
        account=ACCOUNT,
        region=REGION,
        name=SnapshotName("monday"),
        namespace_id=NamespaceId(uuid.uuid4()),
        namespace_name=NamespaceName("sales"),
        status=status,
        created_at=MORNING,
        retention_days=KEEP_FOREVER,
        admin_username="admin",
        db_name="dev",
        kms_key_id=KmsKeyId("key"),
    )
    found = True
    with catalog.transaction() as transaction:
        transaction.snapshots.insert(snapshot)
        try:
            require_resource(transaction, snapshot.scope, snapshot.arn)
        except NotFound:
            found = False
    assert found == (status is not SnapshotStatus.DELETED)

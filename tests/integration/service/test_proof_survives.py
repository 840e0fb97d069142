"""What is kept with a snapshot outlives the catalog."""

import shutil

import pytest

from stillframe.app.rebuild import rebuild_catalog
from stillframe.clients import EXTENSION
from support.crash_operations import BASE, World
from support.crash_rig import Rig

pytestmark = pytest.mark.integration


def test_a_rebuilt_catalog_knows_the_proof_and_a_changed_retention(rig: Rig) -> None:
    world = World(rig=rig.start())
    world.add_namespace(BASE)
    client = rig.client()
    client.create_snapshot(namespaceName=BASE, snapshotName="good", retentionPeriod=10)
    rig.settle()
    client.update_snapshot(snapshotName="good", retentionPeriod=20)
    rig.client(EXTENSION).prove_snapshot(snapshotName="good")
    rig.settle(seconds=60)
    before = rig.client(EXTENSION).describe_snapshot(snapshotName="good")["detail"]["proof"]
    assert before["result"] == "passed"
    assert rig.terminate() == 0
    shutil.rmtree(rig.settings.paths.catalog)
    assert rebuild_catalog(rig.settings) == 1
    rig.start()
    assert rig.client(EXTENSION).describe_snapshot(snapshotName="good")["detail"]["proof"] == before
    assert rig.client().get_snapshot(snapshotName="good")["snapshot"]["snapshotRetentionPeriod"] == 20

"""A namespace is never removed before its final snapshot is there, wherever a crash falls."""

import pytest

from stillframe.clients import EXTENSION
from stillframe.domain.snapshot import SnapshotStatus
from support.crash_operations import BASE, World
from support.crash_processes import kill, of_role
from support.crash_rig import PATIENCE, Rig, eventually

pytestmark = pytest.mark.integration

SLOW = {"STILLFRAME_COMPRESSION_LEVEL": "19", "STILLFRAME_COPY_THREADS": "1"}
"""The hardest compression makes a snapshot of a small namespace take many seconds."""


def test_a_deletion_whose_final_snapshot_has_failed_keeps_the_namespace_after_a_crash() -> None:
    with Rig(None, **SLOW) as rig:
        world = World(rig=rig.start())
        world.add_namespace(BASE, filled=True)
        world.drop_workgroup(BASE)
        rig.client().delete_namespace(namespaceName=BASE, finalSnapshotName="final")
        eventually(lambda: _is_copying(rig), seconds=PATIENCE, told="no final snapshot began", rig=rig)
        kill(of_role(rig.processes(), "service") + of_role(rig.processes(), "worker"))
        rig.service.wait(PATIENCE)
        _write_the_failure_but_not_the_end(rig)
        rig.start()
        assert rig.settle()["namespace"][BASE]["status"] == "AVAILABLE"
        deletion = world.last("delete_namespace")
        assert deletion is not None
        assert deletion["status"] == "failed"
        world.add_workgroup(BASE)
        assert world.read(BASE) == world.namespaces[BASE].fingerprint


def _is_copying(rig: Rig) -> None:
    detail = rig.client(EXTENSION).describe_snapshot(snapshotName="final")["detail"]
    assert detail.get("phase") == "copying", detail


def _write_the_failure_but_not_the_end(rig: Rig) -> None:
    with rig.parts() as parts, parts.catalog.transaction() as transaction:
        changed = transaction.snapshots.change(
            {"status": SnapshotStatus.FAILED, "failure": "The disk was full."}, status=SnapshotStatus.CREATING
        )
    assert changed == 1

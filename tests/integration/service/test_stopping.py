"""SIGTERM while work is going on."""

import time

import pytest

from stillframe.clients import EXTENSION
from support.crash_checks import check_directories, check_processes, check_swept
from support.crash_operations import BASE, OTHER, World
from support.crash_rig import PATIENCE, Rig, eventually

pytestmark = pytest.mark.integration

SLOW = {"STILLFRAME_COMPRESSION_LEVEL": "19", "STILLFRAME_COPY_THREADS": "1"}
"""The hardest compression makes a snapshot of a small namespace take many seconds."""


def test_a_snapshot_that_is_being_taken_fails_with_the_reason_and_the_next_start_is_clean() -> None:
    with Rig(None, **SLOW) as rig:
        world = World(rig=rig.start())
        world.add_namespace(BASE, filled=True)
        rig.client().create_snapshot(namespaceName=BASE, snapshotName="cut")
        _wait_until_copying(rig)
        started = time.monotonic()
        assert rig.terminate() == 0
        assert time.monotonic() - started < PATIENCE / 2
        assert rig.processes() == []
        rig.start()
        assert rig.settle()["snapshot"]["cut"]["status"] == "FAILED"
        detail = rig.client(EXTENSION).describe_snapshot(snapshotName="cut")["detail"]
        assert detail["failure"] == "The service was stopped while this was going on."
        assert world.read(BASE) == world.namespaces[BASE].fingerprint
        check_swept(rig)
        check_processes(rig)


def test_a_restore_that_is_going_on_leaves_the_old_databases() -> None:
    with Rig() as rig:
        world = World(rig=rig.start())
        world.add_namespace(BASE, filled=True)
        world.add_namespace(OTHER)
        world.add_snapshot("whole")
        world.mark(OTHER)
        rig.client().restore_from_snapshot(namespaceName=OTHER, workgroupName=OTHER, snapshotName="whole")
        assert rig.terminate() == 0
        assert rig.processes() == []
        rig.start()
        rig.settle()
        done = world.last("restore_from_snapshot")
        assert done is not None
        expected = world.snapshots["whole"] if done["status"] == "succeeded" else world.namespaces[OTHER]
        assert world.read(OTHER) == expected.fingerprint
        check_directories(rig)
        check_processes(rig)


def _wait_until_copying(rig: Rig) -> None:
    def look() -> None:
        detail = rig.client(EXTENSION).describe_snapshot(snapshotName="cut")["detail"]
        assert detail.get("phase") == "copying", detail

    eventually(look, seconds=PATIENCE, told="the snapshot did not begin", rig=rig)

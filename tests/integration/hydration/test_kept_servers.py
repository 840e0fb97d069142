"""`servers_on_exit=keep`: the service ends, and a namespace whose files are still arriving does not notice."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stillframe.hydration import tagged
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.machine import find_machine, namespace_cluster
from stillframe.service.arrivals import hydrator_of
from support.crash_processes import of_role
from support.crash_rig import Rig
from support.hydration import eventually, skip_unless_supported
from support.hydration_changes import KEPT, OverSocket, fill

pytestmark = pytest.mark.integration

_SUM = [(KEPT, KEPT * (KEPT + 1) // 2)]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A service that leaves its servers running, with one namespace that was just restored."""
    skip_unless_supported(tmp_path)
    with Rig(
        STILLFRAME_SERVERS_ON_EXIT="keep",
        STILLFRAME_HYDRATE_IN_BACKGROUND="false",
        STILLFRAME_RESTORE_STRATEGY="hydration",
    ) as started:
        client = started.start().client()
        client.create_namespace(
            namespaceName="shop", adminUsername="admin", adminUserPassword=started.password
        )
        client.create_workgroup(namespaceName="shop", workgroupName="shop", baseCapacity=8)
        started.settle()
        fill(started.login("shop").connect)
        client.create_snapshot(namespaceName="shop", snapshotName="full")
        started.settle()
        client.restore_from_snapshot(namespaceName="shop", workgroupName="shop", snapshotName="full")
        started.settle()
        yield started


def test_files_go_on_arriving_while_the_service_is_away_and_after_it_came_back(rig: Rig) -> None:
    cluster = _cluster(rig)
    server, hydrator = cluster.adopt(), _hydrator(rig)
    before = hydrator_of(cluster).status()
    assert before.arrived_bytes < before.total_bytes
    assert rig.terminate() == 0
    # Nobody but the server and its hydrator is left.
    assert not of_role(rig.processes(), "service")
    here = OverSocket(cluster=cluster, password=rig.password)
    assert _asked(here, "SELECT count(*), sum(id) FROM kept") == _SUM
    assert _asked(here, "DELETE FROM red WHERE id > 6000 RETURNING 1") == [(1,)] * 6000
    amid = hydrator_of(cluster).status()
    assert before.arrived_bytes < amid.arrived_bytes < amid.total_bytes
    rig.start()
    rig.settle()
    assert (cluster.adopt(), _hydrator(rig)) == (server, hydrator)
    assert _asked(rig.login("shop"), "SELECT count(*) FROM green") == [(12_000,)]
    hydrator_of(cluster).background()
    eventually(lambda: cluster.arrival_note() is None, seconds=60)
    assert list(tagged(cluster.data_directory)) == []
    assert _asked(rig.login("shop"), "SELECT count(*) FROM red") == [(6000,)]
    assert cluster.adopt() == server


def _asked(login: Any, statement: str) -> list[tuple[Any, ...]]:
    with login.connect("dev") as connection:
        found: list[tuple[Any, ...]] = connection.execute(statement.encode()).fetchall()
    return found


def _hydrator(rig: Rig) -> int:
    (found,) = of_role(rig.processes(), "hydrator")
    return found.pid


def _cluster(rig: Rig) -> Cluster:
    settings = rig.settings
    namespace = rig.client().get_namespace(namespaceName="shop")["namespace"]["namespaceId"]
    (directory,) = settings.paths.namespace(namespace).iterdir()
    machine = find_machine(None, server_user=settings.server_user)
    return namespace_cluster(settings, machine, uuid.UUID(namespace), uuid.UUID(directory.name))

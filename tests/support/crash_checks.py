"""What has to hold after every crash, whatever the operation was."""

from typing import Any

from stillframe.domain.namespace import Namespace
from stillframe.endpoint.client import EndpointClient
from stillframe.endpoint.routes import RouteOutcome
from stillframe.errors import Conflict
from stillframe.postgres.cluster import ARRIVAL_FILE
from stillframe.repository import Level
from support.crash_fingerprint import differences
from support.crash_operations import OTHER, World
from support.crash_processes import of_role
from support.crash_rig import PATIENCE, Rig, eventually

_GRACE = 10.0
"""Seconds for what was cut off to disappear, once everything has settled."""


def check_everything(world: World, resources: dict[str, Any]) -> None:
    """Nothing is lost, nothing is half there, and nothing is left over."""
    check_namespaces(world)
    check_snapshots(world, resources)
    check_repository(world.rig)
    check_processes(world.rig)
    check_routes(world.rig)
    check_directories(world.rig)
    check_swept(world.rig)


def check_namespaces(world: World) -> None:
    """Every namespace holds what it has to hold."""
    for name, content in world.namespaces.items():
        changed = differences(world.read(name), content.fingerprint)
        assert not changed, f"the namespace {name} has changed: {changed}"


def check_snapshots(world: World, resources: dict[str, Any]) -> None:
    """Every AVAILABLE snapshot restores to exactly what was there when it was taken."""
    available = {name for name, item in resources["snapshot"].items() if item["status"] == "AVAILABLE"}
    assert available == set(world.snapshots)
    for name in sorted(available):
        world.restore(name, into=OTHER)


def check_repository(rig: Rig) -> None:
    """Every stored byte is what it should be."""
    with rig.parts() as parts:
        for _, repository in parts.repositories.existing():
            report = repository.check(level=Level.BYTES)
            assert report.clean, report.findings


def check_processes(rig: Rig) -> None:
    """One service, one worker with its nursery, one endpoint, the catalog's server, and one for each workgroup.

    Beside them a hydrator for each directory whose files are still arriving, and no other process.
    """
    eventually(lambda: _expected_processes(rig), seconds=_GRACE, told="stray processes", rig=rig)


def check_routes(rig: Rig) -> None:
    """The endpoint listens for each workgroup and for nothing else."""
    eventually(lambda: _expected_routes(rig), seconds=_GRACE, told="stray routes", rig=rig)


def check_directories(rig: Rig) -> None:
    """A directory for each namespace that has storage, and in it its current incarnation alone."""
    eventually(lambda: _expected_directories(rig), seconds=_GRACE, told="stray directories", rig=rig)


def check_swept(rig: Rig) -> None:
    """The service's own sweeps leave nothing that no snapshot refers to."""
    eventually(lambda: _nothing_to_sweep(rig), seconds=PATIENCE, told="rubbish in the repository", rig=rig)


def _expected_processes(rig: Rig) -> None:
    found = rig.processes()
    workgroups = {item["namespaceName"] for item in rig.resources()["workgroup"].values()}
    expected = {rig.settings.paths.catalog} | {
        rig.settings.paths.namespace(namespace.id) / str(namespace.incarnation_id)
        for namespace in _namespaces(rig)
        if namespace.name in workgroups
    }
    servers = of_role(found, "postmaster")
    assert sorted(str(server.place) for server in servers) == sorted(str(place) for place in expected)
    assert {process.place for process in of_role(found, "backend")} <= expected
    arriving = {path.parent.name for path in rig.settings.paths.root.glob(f"namespaces/*/*/{ARRIVAL_FILE}")}
    assert {process.command.split()[-1] for process in of_role(found, "hydrator")} <= arriving
    several = {"postmaster", "backend", "hydrator"}
    singles = [process.role for process in found if process.role not in several]
    assert sorted(singles) == ["endpoint", "nursery", "service", "worker"], found


def _expected_routes(rig: Rig) -> None:
    expected = {item["workgroupId"] for item in rig.resources()["workgroup"].values()}
    statuses = EndpointClient(rig.settings.paths.endpoint_socket).status()
    listening = {status.route_id for status in statuses if status.outcome is RouteOutcome.LISTENING}
    assert listening == expected


def _expected_directories(rig: Rig) -> None:
    root = rig.data / "namespaces"
    expected = {
        f"{namespace.id}/{namespace.incarnation_id}"
        for namespace in _namespaces(rig)
        if namespace.incarnation_id is not None
    }
    assert {str(path.relative_to(root)) for path in root.glob("*/*")} == expected
    assert {path.name for path in root.iterdir()} == {name.partition("/")[0] for name in expected}


def _namespaces(rig: Rig) -> list[Namespace]:
    with rig.parts() as parts, parts.catalog.transaction() as transaction:
        return transaction.namespaces.list()


def _nothing_to_sweep(rig: Rig) -> None:
    with rig.parts() as parts:
        for _, repository in parts.repositories.existing():
            try:
                report = repository.sweep(dry_run=True)
            except Conflict as error:
                raise AssertionError(str(error)) from error
            assert report.packs_removed == 0, report
            assert report.leftovers_removed == 0, report

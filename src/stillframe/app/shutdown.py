"""Ending the processes of a data directory: PostgreSQL servers, the endpoint, the catalog's server."""

import uuid
from concurrent.futures import ThreadPoolExecutor

from stillframe.app.catalog_server import catalog_cluster
from stillframe.app.lock import held_lock
from stillframe.config import Settings
from stillframe.endpoint.client import EndpointClient
from stillframe.errors import ServerUnavailable
from stillframe.postgres.machine import Machine, find_machine, namespace_cluster
from stillframe.service.arrivals import stop_cluster

_AT_ONCE = 8


def stop_servers(settings: Settings, machine: Machine, *, keep_namespaces: bool = False) -> None:
    """End the namespaces' servers and the endpoint, unless they are to be kept, and the catalog's server last."""
    if not keep_namespaces:
        _stop_namespaces(settings, machine)
        _stop_endpoint(settings)
    catalog_cluster(settings, machine).stop()


def stop_all(settings: Settings) -> None:
    """End every process that belongs to this data directory, after a service that could not do it itself."""
    machine = find_machine(settings.postgres_bin, server_user=settings.server_user)
    message = f"A worker still runs on {settings.paths.root}"
    with held_lock(settings.paths.run / "worker.lock", patience=30, message=message):
        stop_servers(settings, machine)


def _stop_namespaces(settings: Settings, machine: Machine) -> None:
    """All clusters that have files, known to the catalog or not."""
    directories = sorted((settings.paths.root / "namespaces").glob("*/*"))
    clusters = [
        namespace_cluster(settings, machine, uuid.UUID(path.parent.name), uuid.UUID(path.name))
        for path in directories
    ]
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        for outcome in [pool.submit(stop_cluster, cluster) for cluster in clusters]:
            outcome.result()


def _stop_endpoint(settings: Settings) -> None:
    try:
        EndpointClient(settings.paths.endpoint_socket).shutdown(seconds=1.0)
    except ServerUnavailable:
        # It does not run.
        return

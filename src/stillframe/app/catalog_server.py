"""The server of the embedded catalog."""

import shutil

from stillframe.config import Settings
from stillframe.postgres.cluster import Cluster, short_socket_directory
from stillframe.postgres.machine import Machine
from stillframe.postgres.osfiles import translating_os_errors
from stillframe.postgres.settings import MEGABYTE, ServerSettings

CATALOG_SETTINGS = ServerSettings(
    max_connections=100, shared_buffers=32 * MEGABYTE, max_wal_size=128 * MEGABYTE
)


def catalog_cluster(settings: Settings, machine: Machine) -> Cluster:
    """The catalog's cluster, whether it exists or not."""
    return Cluster(
        installation=machine.installation,
        identity=machine.identity,
        data_directory=settings.paths.catalog,
        socket_directory=short_socket_directory(settings.paths.run / "catalog", identity=machine.identity),
        log_directory=settings.paths.logs / "catalog",
    )


def start_catalog_server(cluster: Cluster) -> None:
    """Make the cluster when there is none (what a cut-off attempt left is removed) and start it.

    Raises what Cluster.initialize and Cluster.start raise.
    """
    if not (cluster.data_directory / "global" / "pg_control").exists():
        with translating_os_errors("removing an unfinished catalog"):
            shutil.rmtree(
                cluster.data_directory, ignore_errors=False
            ) if cluster.data_directory.exists() else None
        cluster.initialize()
    cluster.start(CATALOG_SETTINGS)


def catalog_conninfo(cluster: Cluster) -> str:
    """How the catalog is reached: over its socket, as the service's role."""
    return f"host='{cluster.socket_directory}' port={cluster.socket_port} user=stillframe dbname=postgres"

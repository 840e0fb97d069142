"""The server of the embedded catalog."""

import secrets
import shutil
from dataclasses import replace

from stillframe.config import Settings
from stillframe.postgres.cluster import Cluster, short_socket_directory
from stillframe.postgres.machine import Machine
from stillframe.postgres.osfiles import sync_directory
from stillframe.postgres.settings import MEGABYTE, ServerSettings
from stillframe.system import translating_os_errors

CATALOG_SETTINGS = ServerSettings(
    max_connections=100, shared_buffers=32 * MEGABYTE, max_wal_size=128 * MEGABYTE
)

_UNFINISHED = ".unfinished-"


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
    """Make the cluster when there is none and start it.

    Raises what Cluster.initialize and Cluster.start raise.
    """
    if not cluster.data_directory.exists():
        _make(cluster)
    cluster.start(CATALOG_SETTINGS)


def _make(cluster: Cluster) -> None:
    """Make the cluster aside and give it its name when it is whole: no file in it tells that initdb was cut off.

    Each attempt has a name of its own, because the initdb of a service that was killed goes on for a moment.
    """
    final = cluster.data_directory
    for leftover in final.parent.glob(f"{final.name}{_UNFINISHED}*"):
        replace(cluster, data_directory=leftover).stop()
        # What is still written to goes at the next start.
        shutil.rmtree(leftover, ignore_errors=True)
    making = final.with_name(f"{final.name}{_UNFINISHED}{secrets.token_hex(4)}")
    replace(cluster, data_directory=making).initialize()
    with translating_os_errors("naming the new catalog"):
        making.rename(final)
        sync_directory(final.parent)


def catalog_conninfo(cluster: Cluster) -> str:
    """How the catalog is reached: over its socket, as the service's role."""
    return f"host='{cluster.socket_directory}' port={cluster.socket_port} user=stillframe dbname=postgres"

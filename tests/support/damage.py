"""Bits that flip under a running namespace, and figures that tell of it."""

import urllib.request
import uuid
from pathlib import Path

from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import connect
from stillframe.postgres.machine import find_machine, namespace_cluster
from stillframe.postgres.pages import PAGE_SIZE
from support.service import Service, Warehouse


def cluster_of(warehouse: Warehouse) -> Cluster:
    """The cluster behind a warehouse."""
    settings = warehouse.account.service.local.settings
    found = warehouse.client.get_namespace(namespaceName=warehouse.namespace)["namespace"]
    identifier = uuid.UUID(found["namespaceId"])
    (incarnation,) = settings.paths.namespace(identifier).iterdir()
    machine = find_machine(settings.postgres_bin, server_user=settings.server_user)
    return namespace_cluster(settings, machine, identifier, uuid.UUID(incarnation.name))


def flip_a_bit_of(warehouse: Warehouse, table: str, *, block: int) -> str:
    """Flip a bit in the file of a table, once all of it is on disk; the file's path below the data directory."""
    cluster = cluster_of(warehouse)
    with connect(cluster) as session:
        session.execute("CHECKPOINT")
    ((path,),) = warehouse.query(f"SELECT pg_relation_filepath('{table}')")
    flip_bit(cluster.data_directory / str(path), block * PAGE_SIZE + 4000)
    return str(path)


def flip_bit(path: Path, position: int) -> None:
    """Flip one bit of a file."""
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 1]))


def figures(service: Service) -> dict[str, float]:
    """What `/metrics` says, by name with labels."""
    with urllib.request.urlopen(f"{service.endpoint_url}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}

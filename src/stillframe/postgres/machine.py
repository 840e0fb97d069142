"""What servers run on: PostgreSQL's programs and the OS user that runs them."""

import uuid
from dataclasses import dataclass
from pathlib import Path

from stillframe.config import Settings
from stillframe.postgres.cluster import Cluster, short_socket_directory
from stillframe.postgres.identity import ServerIdentity, server_identity
from stillframe.postgres.installation import Installation, find_installation


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The installation, and the identity that can run it."""

    installation: Installation
    identity: ServerIdentity


def find_machine(postgres_bin: Path | None, *, server_user: str) -> Machine:
    """What this machine offers. Raises OperatorError when PostgreSQL or its user cannot be had."""
    identity = server_identity(user=server_user)
    return Machine(installation=find_installation(postgres_bin, identity=identity), identity=identity)


def namespace_cluster(
    settings: Settings, machine: Machine, namespace_id: uuid.UUID, incarnation_id: uuid.UUID
) -> Cluster:
    """The cluster of a namespace's incarnation, running or not, existing or not."""
    sockets = settings.paths.run / "pg" / incarnation_id.hex[:12]
    return Cluster(
        installation=machine.installation,
        identity=machine.identity,
        data_directory=settings.paths.namespace(namespace_id) / str(incarnation_id),
        socket_directory=short_socket_directory(sockets, identity=machine.identity),
        log_directory=settings.paths.logs / str(namespace_id),
    )

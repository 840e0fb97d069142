"""The port through which use cases open and close the addresses that database clients connect to."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRoute:
    """Clients of `host:port` are relayed to the server whose Unix socket is in `socket_directory`."""

    workgroup_id: uuid.UUID
    host: str
    port: int
    socket_directory: Path
    socket_port: int


class Endpoints(Protocol):
    """Implemented by the endpoint process's client; every call is idempotent and bounded in time."""

    def ensure(self, routes: Sequence[EndpointRoute]) -> Sequence[EndpointRoute]:
        """Add those that are missing and leave all others alone; those whose port somebody else has now.

        Raises ServerUnavailable.
        """
        ...

    def open(self, route: EndpointRoute) -> None:
        """Relay to this server from now on, ending connections to another one behind the same workgroup.

        Raises Conflict when the port is taken by somebody else, ServerUnavailable.
        """
        ...

    def pause(self, workgroup_id: uuid.UUID) -> None:
        """End the workgroup's connections cleanly and let new ones wait or be told to try again."""
        ...

    def resume(self, workgroup_id: uuid.UUID) -> None:
        """Undo `pause`."""
        ...

    def close(self, workgroup_id: uuid.UUID) -> None:
        """End the workgroup's connections and free its port. An unknown workgroup is no error."""
        ...

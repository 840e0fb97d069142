"""What the endpoint relays: one route a workgroup, from a TCP address to a server's Unix socket."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from stillframe.errors import InvalidRequest


class RouteState(StrEnum):
    """What happens to a connection that arrives."""

    OPEN = "open"
    """It is relayed."""
    PAUSED = "paused"
    """It waits for a while, then is told to try again: a restore or a restart is going on."""
    CLOSED = "closed"
    """The port is not bound; the operating system refuses it."""


class RouteOutcome(StrEnum):
    """What became of a route's port."""

    LISTENING = "listening"
    CLOSED = "closed"
    PORT_TAKEN = "port_taken"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """From `host:port` to `<socket_directory>/.s.PGSQL.<socket_port>`.

    `route_id` is the workgroup's UUID as text. `host` is an address, never a name: binding must not depend on
    a resolver.
    """

    route_id: str
    host: str = "127.0.0.1"
    port: int
    socket_directory: Path
    socket_port: int
    state: RouteState = RouteState.OPEN

    @property
    def socket_path(self) -> Path:
        """The server's Unix socket (PostgreSQL: UNIXSOCK_PATH)."""
        return self.socket_directory / f".s.PGSQL.{self.socket_port}"

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        return self.host, self.port


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteStatus:
    """One route as the endpoint has it now. Totals count since the route was made; bytes are payload relayed.

    `detail` says why the port is not bound, or why the server was not reached at the last attempt.
    """

    route_id: str
    host: str
    port: int
    state: RouteState
    outcome: RouteOutcome
    detail: str = ""
    connections: int = 0
    connections_waiting: int = 0
    connections_total: int = 0
    refused_total: int = 0
    to_server_bytes_total: int = 0
    to_client_bytes_total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainResult:
    """How connections ended: `told` got PostgreSQL's shutdown message first, `cut` were in mid-answer."""

    told: int
    cut: int


def check_route(route: Route) -> None:
    """Raise InvalidRequest for a route that can never be bound or reached."""
    if not route.route_id:
        raise InvalidRequest("A route needs an id")
    for port in (route.port, route.socket_port):
        if not 0 < port < 65536:
            raise InvalidRequest(f"{port} is not a port: it must be between 1 and 65535")
    if not route.socket_directory.is_absolute():
        raise InvalidRequest(f"The socket directory {str(route.socket_directory)!r} is not an absolute path")
    try:
        ipaddress.ip_address(route.host)
    except ValueError:
        raise InvalidRequest(f"{route.host!r} is not an IP address") from None


def check_routes(routes: tuple[Route, ...]) -> None:
    """Raise InvalidRequest unless every route is possible and ids and bound addresses are distinct."""
    for route in routes:
        check_route(route)
    _check_distinct([route.route_id for route in routes], "route id")
    bound = [f"{route.host}:{route.port}" for route in routes if route.state is not RouteState.CLOSED]
    _check_distinct(bound, "address")


def _check_distinct(values: list[str], what: str) -> None:
    for value in set(values):
        if values.count(value) > 1:
            raise InvalidRequest(f"The {what} {value} is given twice")

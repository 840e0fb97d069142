"""All routes of one endpoint process: binding their ports, changing their states, counting."""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace

from stillframe.endpoint.relay import ClientSide, Limits, LiveRoute
from stillframe.endpoint.routes import (
    DrainResult,
    Route,
    RouteOutcome,
    RouteState,
    RouteStatus,
    check_route,
    check_routes,
)
from stillframe.errors import NotFound

BACKLOG = 1024
_DRAIN_STEP_SECONDS = 0.02
_KEEPALIVE_IDLE_SECONDS = 60
_KEEPALIVE_INTERVAL_SECONDS = 10
_KEEPALIVE_PROBES = 6


class _Port:
    """A route and the listener that belongs to it, if its port is bound."""

    def __init__(self, live: LiveRoute) -> None:
        self.live = live
        self.server: asyncio.Server | None = None
        self.failure: OSError | None = None

    def unbind(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None

    async def bind(self) -> None:
        """Listen if the state asks for it and it is not done yet; a failure is kept, not raised."""
        self.failure = None
        if self.server is not None or self.live.route.state is RouteState.CLOSED:
            return
        try:
            listening = _listen(self.live.route)
        except OSError as error:
            self.failure = error
            return
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: ClientSide(self.live), sock=listening, backlog=BACKLOG)


class RouteTable:
    """The routes by id. All methods belong to the event loop's thread."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._ports: dict[str, _Port] = {}
        self._changing = asyncio.Lock()

    async def sync(self, routes: tuple[Route, ...]) -> tuple[RouteStatus, ...]:
        """Make `routes` all there is: others are closed and their connections ended; one status a route, in
        order.

        A route whose address is unchanged keeps its listener and its connections. Raises InvalidRequest
        before anything has changed.
        """
        check_routes(routes)
        async with self._changing:
            return await self._sync(routes)

    async def put(self, route: Route) -> RouteStatus:
        """Add this route or change it to this, leaving the others alone. Raises InvalidRequest."""
        check_route(route)
        async with self._changing:
            self._place(route)
            port = self._ports[route.route_id]
            await port.bind()
            return self._status(port)

    async def change_state(self, route_id: str, state: RouteState) -> RouteStatus:
        """Open, pause or close a known route. Closing ends its connections. Raises NotFound."""
        return await self.put(replace(self._known(route_id).live.route, state=state))

    async def drain(self, route_id: str, *, seconds: float) -> DrainResult:
        """End the connections that have reached the server: at once where its stream allows, after
        `seconds` anyhow.

        Raises NotFound.
        """
        return await _drain(self._known(route_id).live.relayed, seconds=seconds)

    async def close(self, *, seconds: float) -> DrainResult:
        """Unbind every port and end every connection."""
        for port in self._ports.values():
            port.unbind()
        result = await _drain(self._clients(lambda live: live.relayed), seconds=seconds)
        for client in self._clients(lambda live: live.clients):
            client.cut()
        self._ports.clear()
        return result

    def statuses(self) -> tuple[RouteStatus, ...]:
        """Every route, in the order they were made."""
        return tuple(self._status(port) for port in self._ports.values())

    def connections(self) -> int:
        """How many clients are connected, over all routes."""
        return sum(len(port.live.clients) for port in self._ports.values())

    async def _sync(self, routes: tuple[Route, ...]) -> tuple[RouteStatus, ...]:
        wanted = {route.route_id for route in routes}
        for route_id in [known for known in self._ports if known not in wanted]:
            self._remove(route_id)
        for route in routes:
            self._place(route)
        # Only now: a port may have moved from one route to another.
        for route in routes:
            await self._ports[route.route_id].bind()
        return tuple(self._status(self._ports[route.route_id]) for route in routes)

    def _known(self, route_id: str) -> _Port:
        try:
            return self._ports[route_id]
        except KeyError:
            raise NotFound(f"The endpoint has no route {route_id}", resource_name=route_id) from None

    def _place(self, route: Route) -> None:
        """Bring the table up to date but for binding."""
        port = self._ports.get(route.route_id)
        if port is None:
            live = LiveRoute(route=route, limits=self._limits, total_clients=self.connections)
            port = self._ports[route.route_id] = _Port(live)
        elif route.address != port.live.route.address:
            port.unbind()
        port.live.switch(route)
        if route.state is RouteState.CLOSED:
            _end(port)

    def _remove(self, route_id: str) -> None:
        port = self._ports.pop(route_id)
        port.live.open.clear()
        _end(port)

    def _clients(self, which: Callable[[LiveRoute], Iterable[ClientSide]]) -> list[ClientSide]:
        return [client for port in self._ports.values() for client in which(port.live)]

    @staticmethod
    def _status(port: _Port) -> RouteStatus:
        live, traffic = port.live, port.live.traffic
        relayed = len(live.relayed)
        return RouteStatus(
            route_id=live.route.route_id,
            host=live.route.host,
            port=live.route.port,
            state=live.route.state,
            outcome=_outcome(port),
            detail=live.unreachable if port.failure is None else str(port.failure),
            connections=relayed,
            connections_waiting=len(live.clients) - relayed,
            connections_total=traffic.connections_total,
            refused_total=traffic.refused_total,
            to_server_bytes_total=traffic.to_server_bytes,
            to_client_bytes_total=traffic.to_client_bytes,
        )


def _outcome(port: _Port) -> RouteOutcome:
    if port.failure is not None:
        taken = port.failure.errno == errno.EADDRINUSE
        return RouteOutcome.PORT_TAKEN if taken else RouteOutcome.ERROR
    return RouteOutcome.CLOSED if port.server is None else RouteOutcome.LISTENING


def _end(port: _Port) -> None:
    port.unbind()
    for client in list(port.live.clients):
        client.leave()


async def _drain(clients: list[ClientSide], *, seconds: float) -> DrainResult:
    for client in clients:
        client.drain()
    deadline = asyncio.get_running_loop().time() + seconds
    while (busy := _not_ended(clients)) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_DRAIN_STEP_SECONDS)
    for client in busy:
        client.cut()
    return DrainResult(told=len(clients) - len(busy), cut=len(busy))


def _not_ended(clients: list[ClientSide]) -> list[ClientSide]:
    return [client for client in clients if not client.transport.is_closing()]


def _listen(route: Route) -> socket.socket:
    """A bound listening socket; accepted connections inherit its options (Linux)."""
    family = socket.AF_INET6 if ":" in route.host else socket.AF_INET
    listening = socket.create_server(route.address, family=family, backlog=BACKLOG)
    listening.settimeout(0)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_SECONDS)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_SECONDS)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
    return listening

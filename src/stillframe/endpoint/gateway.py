"""The service layer's `Endpoints`, carried out by the endpoint process."""

import uuid
from collections.abc import Sequence

from stillframe.endpoint.client import EndpointClient
from stillframe.endpoint.routes import Route, RouteOutcome, RouteState
from stillframe.errors import Conflict, NotFound
from stillframe.service.endpoints import EndpointRoute

_DRAIN_SECONDS = 1.0


class EndpointGateway:
    """Keeps the endpoint process running and translates between the two vocabularies."""

    def __init__(self, client: EndpointClient) -> None:
        self._client = client

    def ensure(self, routes: Sequence[EndpointRoute]) -> Sequence[EndpointRoute]:
        """Add those of these routes that are missing; those whose port somebody else has now."""
        self._client.ensure_running()
        there = {
            status.route_id for status in self._client.status() if status.outcome is RouteOutcome.LISTENING
        }
        missing = [route for route in routes if str(route.workgroup_id) not in there]
        return [route for route in missing if not self._opened(route)]

    def _opened(self, route: EndpointRoute) -> bool:
        try:
            self._client.open(_translated(route, RouteState.OPEN))
        except Conflict:
            return False
        return True

    def open(self, route: EndpointRoute) -> None:
        """Relay to this server from now on; connections to another one behind the same workgroup are ended."""
        self._client.ensure_running()
        self._client.open(_translated(route, RouteState.OPEN))

    def pause(self, workgroup_id: uuid.UUID) -> None:
        """End the workgroup's connections cleanly; new ones wait for a while."""
        try:
            self._client.pause(str(workgroup_id))
            self._client.drain(str(workgroup_id), seconds=_DRAIN_SECONDS)
        except NotFound:
            return

    def resume(self, workgroup_id: uuid.UUID) -> None:
        """Let connections through again."""
        try:
            self._client.resume(str(workgroup_id))
        except NotFound:
            return

    def close(self, workgroup_id: uuid.UUID) -> None:
        """End the workgroup's connections and free its port."""
        try:
            self._client.pause(str(workgroup_id))
            self._client.drain(str(workgroup_id), seconds=_DRAIN_SECONDS)
            self._client.close(str(workgroup_id))
        except NotFound:
            return


def _translated(route: EndpointRoute, state: RouteState) -> Route:
    return Route(
        route_id=str(route.workgroup_id),
        host=route.host,
        port=route.port,
        socket_directory=route.socket_directory,
        socket_port=route.socket_port,
        state=state,
    )

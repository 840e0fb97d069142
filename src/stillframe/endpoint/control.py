"""The control socket of the endpoint process: requests in, replies out, one JSON object a line."""

import asyncio
import logging
import os
import socket
from typing import assert_never

from stillframe import __version__
from stillframe.endpoint import messages
from stillframe.endpoint.messages import Drained, Failed, Pong, Reply, Request, Routes
from stillframe.endpoint.routes import RouteState, RouteStatus
from stillframe.endpoint.table import RouteTable
from stillframe.errors import StillframeError

_LOG = logging.getLogger(__name__)


class ControlServer:
    """Carries out requests on a route table. `stop` is set when somebody asked the process to end."""

    def __init__(self, table: RouteTable, *, stop: asyncio.Event) -> None:
        self._table = table
        self._stop = stop
        self._server: asyncio.Server | None = None

    async def listen(self, bound: socket.socket) -> None:
        """Serve on a bound Unix socket, whose file mode says who may connect."""
        limit = messages.MAX_LINE_BYTES
        self._server = await asyncio.start_unix_server(self._serve, sock=bound, limit=limit)

    def close(self) -> None:
        """Take no more requests."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(messages.encode(await self._answer(line)))
                await writer.drain()
        except (OSError, ValueError):
            # The other side went away, or sent a line longer than any request.
            _LOG.warning("control_connection_broken")
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Reply:
        try:
            return await self._carry_out(messages.decode_request(line))
        except StillframeError as error:
            return Failed(kind=error.kind, message=error.message)

    async def _carry_out(self, request: Request) -> Reply:
        match request:
            case messages.Ping():
                return Pong(version=__version__, control_version=messages.CONTROL_VERSION, pid=os.getpid())
            case messages.Status():
                return Routes(routes=self._table.statuses())
            case messages.Shutdown():
                return await self._shut_down(request)
            case messages.Drain():
                return Drained(result=await self._table.drain(request.route_id, seconds=request.seconds))
            case _:
                return Routes(routes=self._logged(request, await self._change(request)))

    async def _change(self, request: "Change") -> tuple[RouteStatus, ...]:
        match request:
            case messages.Sync():
                return await self._table.sync(request.routes)
            case messages.Open():
                return (await self._table.put(request.route),)
            case messages.Pause():
                return (await self._table.change_state(request.route_id, RouteState.PAUSED),)
            case messages.Resume():
                return (await self._table.change_state(request.route_id, RouteState.OPEN),)
            case messages.Close():
                return (await self._table.change_state(request.route_id, RouteState.CLOSED),)
            case _:
                assert_never(request)

    async def _shut_down(self, request: messages.Shutdown) -> Reply:
        # The process ends after the reply has been written: closing flushes it.
        result = await self._table.close(seconds=request.seconds)
        asyncio.get_running_loop().call_soon(self._stop.set)
        return Drained(result=result)

    @staticmethod
    def _logged(request: "Change", routes: tuple[RouteStatus, ...]) -> tuple[RouteStatus, ...]:
        changed = [f"{route.route_id}={route.host}:{route.port}/{route.outcome.value}" for route in routes]
        _LOG.info(
            "routes_changed", extra={"facts": {"request": type(request).__name__.lower(), "routes": changed}}
        )
        return routes


Change = messages.Sync | messages.Open | messages.Pause | messages.Resume | messages.Close

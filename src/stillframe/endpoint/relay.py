"""One client's connection, from its first packet to the last relayed byte.

Two protocols of the event loop share a connection: `ClientSide` faces the network, `ServerSide` the server's
Unix socket. Bytes go from one transport to the other without being looked at; a transport whose buffer is
full pauses the other side's reading, so memory stays bounded whatever the sizes. Measured alternatives
(asyncio streams, an epoll loop of our own, two threads a connection with splice) were not faster.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never, cast

from stillframe.endpoint import protocol
from stillframe.endpoint.protocol import (
    CancelRequest,
    EncryptionRequest,
    FirstPacket,
    Incomplete,
    Refusal,
    StartupMessage,
)
from stillframe.endpoint.routes import Route, RouteState

WRITE_BUFFER_BYTES = 256 * 1024
_ASYNC_MESSAGE_BYTES = 64 * 1024
_CONNECT_RETRY_SECONDS = 0.02
_LOG = logging.getLogger(__name__)

RESTARTING = Refusal(sqlstate="57P03", message="the workgroup is restarting; try again in a moment")
UNREACHABLE = Refusal(
    sqlstate="57P03",
    message="the workgroup's database server is not accepting connections; try again in a moment",
)
TERMINATED = Refusal(
    sqlstate="57P01", message="terminating connection because the workgroup is being stopped or restarted"
)
TOO_SLOW = Refusal(sqlstate="57014", message="canceling startup: no complete startup packet arrived in time")
TOO_MANY = Refusal(
    sqlstate="53300",
    message="sorry, too many clients: the endpoint has no file descriptors left",
    hint="Raise the limit of open files of the service, or close connections.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Deadlines in seconds, and how many connections the process may hold.

    `startup`: for the first packets to arrive (PostgreSQL: authentication_timeout, which then applies to
    the rest). `pause`: how long a connection to a paused route waits. `connect`: for the server's socket to
    accept. `linger`: for a client to take the last bytes of a connection that has ended.
    """

    startup: float = 60.0
    pause: float = 10.0
    connect: float = 5.0
    linger: float = 30.0
    connections: int = 100_000


@dataclass(slots=True, kw_only=True)
class Traffic:
    """What a route's connections did."""

    connections_total: int = 0
    refused_total: int = 0
    to_server_bytes: int = 0
    to_client_bytes: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class LiveRoute:
    """A route with its connections. `open` is set exactly while new connections are relayed."""

    route: Route
    limits: Limits
    traffic: Traffic = field(default_factory=Traffic)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    clients: set["ClientSide"] = field(default_factory=set)
    admissions: set[asyncio.Task[None]] = field(default_factory=set)
    total_clients: Callable[[], int]
    unreachable: str = ""

    def note_unreachable(self, error: OSError) -> None:
        """Keep, and log when it is news, why the server was not reached: the client is only told to try again."""
        reason = f"{self.route.socket_path}: {error.strerror or type(error).__name__}"
        if reason != self.unreachable:
            self.unreachable = reason
            _LOG.warning(
                "server_unreachable", extra={"facts": {"route": self.route.route_id, "reason": reason}}
            )

    def switch(self, route: Route) -> None:
        """Take this route's target and state from now on, and end connections to another server.

        A client must not go on, unknowingly, with a server that has been replaced.
        """
        replaced = self.relayed if route.socket_path != self.route.socket_path else []
        self.route = route
        if route.state is RouteState.OPEN:
            self.open.set()
        else:
            self.open.clear()
        for client in replaced:
            client.leave()

    @property
    def relayed(self) -> list["ClientSide"]:
        """Connections that have reached a server."""
        return [client for client in self.clients if client.server is not None]


class ServerSide(asyncio.Protocol):
    """The server's half of a relayed connection."""

    def __init__(self, client: "ClientSide", *, adapt: bool) -> None:
        self._client = client
        self._first_answer: bytes | None = b"" if adapt else None
        self._tail = b""
        self.transport: asyncio.Transport
        self.between_messages = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to send."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Pass on, and note whether the stream now stands between two messages."""
        if self._first_answer is not None and not (data := self._adapted(data)):
            return
        client = self._client
        client.live.traffic.to_client_bytes += len(data)
        if not client.transport.is_closing():
            client.transport.write(data)
        tail = self._tail = data[-6:] if len(data) >= 6 else (self._tail + data)[-6:]
        self.between_messages = protocol.says_ready(tail) or (self.between_messages and _is_notice(data))
        if client.draining and self.between_messages:
            client.end(TERMINATED)

    def pause_writing(self) -> None:
        """The server is slower than the client."""
        _pause(self._client.transport)

    def resume_writing(self) -> None:
        """The server caught up."""
        _resume(self._client.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server ended the connection: so does the client's half, after what was still to be sent."""
        del exc
        if self._client.server is self:
            self._client.close_gently()

    def _adapted(self, data: bytes) -> bytes:
        """What to pass on of the first answer so far, for a driver that reads it wrongly."""
        self._first_answer = (self._first_answer or b"") + data
        adapted = protocol.without_list_end(self._first_answer)
        if adapted is None:
            return b""
        self._first_answer = None
        return adapted


class ClientSide(asyncio.Protocol):
    """The client's half: reads the first packets, finds the server, then relays."""

    def __init__(self, live: LiveRoute) -> None:
        self.live = live
        self.transport: asyncio.Transport
        self.server: ServerSide | None = None
        self.draining = False
        self._buffer = bytearray()
        self._encryption_asked: set[bool] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._admission: asyncio.Task[None] | None = None
        self._outlives_client = False

    # --- events of the transport ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for the first packet."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.live.clients.add(self)
        self.live.traffic.connections_total += 1
        if self.live.total_clients() > self.live.limits.connections:
            self._refuse(TOO_MANY)
            return
        self._arm(self.live.limits.startup, lambda: self._refuse(TOO_SLOW))

    def data_received(self, data: bytes) -> None:
        """Relay, or collect the first packets."""
        if self.server is not None:
            self._pass_on(self.server, data)
            return
        self._buffer += data
        if self._admission is None:
            self._read_first_packets()
        elif len(self._buffer) > protocol.MAX_PACKET_BYTES:
            # No client has so much to say before the server asks for its password.
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more. While relayed it may still receive (half-close); before that it is
        gone."""
        if self.server is None:
            return False
        if not self.server.transport.is_closing():
            self.server.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        """The client is slower than the server."""
        if self.server is not None:
            _pause(self.server.transport)

    def resume_writing(self) -> None:
        """The client caught up."""
        if self.server is not None:
            _resume(self.server.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: so is its server process, after what was still to be sent to it."""
        del exc
        self.live.clients.discard(self)
        self._disarm()
        if self._admission is not None and not self._outlives_client:
            self._admission.cancel()
        if self.server is not None:
            self.server.transport.close()

    # --- ending ---------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """End as soon as the server's stream stands between two messages; at once if it does."""
        self.draining = True
        if self.server is not None and self.server.between_messages:
            self.end(TERMINATED)

    def leave(self) -> None:
        """End because the route is closed: with the reason where the stream allows it, else without."""
        if self.server is None:
            self.end(RESTARTING)
        elif self.server.between_messages:
            self.end(TERMINATED)
        else:
            self.cut()

    def end(self, refusal: Refusal) -> None:
        """Tell the client why, and close both halves."""
        if self.transport.is_closing():
            return
        self.transport.write(refusal.encode())
        if self.server is not None:
            self.server.transport.abort()
        self.close_gently()

    def cut(self) -> None:
        """Close both halves now, whatever is on its way."""
        if self.server is not None:
            self.server.transport.abort()
        self.transport.abort()

    def close_gently(self) -> None:
        """Close after the client took what was sent to it, or when it does not take it for too long."""
        self._arm(self.live.limits.linger, self.transport.abort)
        self.transport.close()

    # --- starting -------------------------------------------------------------------------------------------

    def _read_first_packets(self) -> None:
        while not self.transport.is_closing():
            packet, length = protocol.read_first_packet(self._buffer)
            if isinstance(packet, Incomplete):
                return
            del self._buffer[:length]
            if self._take(packet):
                return

    def _take(self, packet: FirstPacket) -> bool:
        """Act on one packet; whether reading first packets is over."""
        match packet:
            case EncryptionRequest():
                return self._answer_encryption(packet)
            case StartupMessage():
                self._admit(self._start(packet))
            case CancelRequest():
                self._admit(self._cancel(packet))
                self._outlives_client = True
            case Refusal():
                self._refuse(packet)
            case Incomplete():
                pass
            case _:
                assert_never(packet)
        return True

    def _answer_encryption(self, request: EncryptionRequest) -> bool:
        # Each may be asked for once, as PostgreSQL has it; else a client could keep us answering for ever.
        if request.gss in self._encryption_asked:
            self._refuse(protocol.violation("encryption was requested twice"))
            return True
        self._encryption_asked.add(request.gss)
        self.transport.write(protocol.NO_REPLY_TO_ENCRYPTION)
        return False

    def _admit(self, work: Coroutine[None, None, None]) -> None:
        self._disarm()
        self._admission = asyncio.get_running_loop().create_task(work)
        # The loop itself holds tasks weakly only.
        self.live.admissions.add(self._admission)
        self._admission.add_done_callback(self.live.admissions.discard)

    async def _start(self, message: StartupMessage) -> None:
        refusal = protocol.admission_refusal(message)
        if refusal is not None:
            self._refuse(refusal)
            return
        try:
            server = await self._reach(adapt=protocol.misreads_mechanisms(message))
        except TimeoutError:
            self._refuse(RESTARTING)
        except OSError as error:
            self.live.note_unreachable(error)
            self._refuse(UNREACHABLE)
        else:
            self._relay(message, server)

    async def _reach(self, *, adapt: bool) -> ServerSide:
        """Connect to the route's server; TimeoutError if the route stays paused, OSError if nobody is there.

        A route that was paused or switched while we connected would leave us at a server that is about to go.
        """
        while True:
            await self._route_opens()
            path = self.live.route.socket_path
            server = await self._connect(path, adapt=adapt)
            if server.transport.is_closing():
                raise ConnectionResetError
            if self.live.open.is_set() and self.live.route.socket_path == path:
                return server
            server.transport.abort()

    def _relay(self, message: StartupMessage, server: ServerSide) -> None:
        self.live.unreachable = ""
        server.transport.write(protocol.strip_driver_keys(message).encode() + bytes(self._buffer))
        self._buffer.clear()
        self.server = server
        _resume(self.transport)

    async def _cancel(self, request: CancelRequest) -> None:
        # Never answered, only closed: as the server closes when it has acted on it, so do we, and the
        # client knows.
        with suppress(OSError):
            await send_and_wait(self.live.route.socket_path, request.packet, seconds=self.live.limits.connect)
        self.close_gently()

    async def _route_opens(self) -> None:
        async with asyncio.timeout(self.live.limits.pause):
            await self.live.open.wait()

    async def _connect(self, path: Path, *, adapt: bool) -> ServerSide:
        connected = await connect_unix(path, seconds=self.live.limits.connect)
        loop = asyncio.get_running_loop()
        _, server = await loop.create_unix_connection(lambda: ServerSide(self, adapt=adapt), sock=connected)
        return server

    def _pass_on(self, server: ServerSide, data: bytes) -> None:
        server.between_messages = False
        self.live.traffic.to_server_bytes += len(data)
        if not server.transport.is_closing():
            server.transport.write(data)

    def _refuse(self, refusal: Refusal) -> None:
        self.live.traffic.refused_total += 1
        self.end(refusal)

    def _arm(self, seconds: float, action: Callable[[], None]) -> None:
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(seconds, action)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def connect_unix(path: Path, *, seconds: float) -> socket.socket:
    """A connected, non-blocking Unix socket; OSError if nobody accepts in time.

    Linux answers EAGAIN when the listener's queue is full, and offers no way to wait for room, so this asks
    again.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return _connect_now(path)
        except BlockingIOError:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(_CONNECT_RETRY_SECONDS)


async def send_and_wait(path: Path, data: bytes, *, seconds: float) -> None:
    """Send `data` to the Unix socket and return when the other side closes; OSError if that does not work
    in time."""
    loop = asyncio.get_running_loop()
    with await connect_unix(path, seconds=seconds) as connected:
        async with asyncio.timeout(seconds):
            await loop.sock_sendall(connected, data)
            while await loop.sock_recv(connected, 1024):
                pass


def _connect_now(path: Path) -> socket.socket:
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connecting.settimeout(0)
        connecting.connect(str(path))
    except BaseException:
        connecting.close()
        raise
    return connecting


def _is_notice(data: bytes) -> bool:
    # Between queries the server may still speak: a notification, a changed parameter, a notice.
    return len(data) <= _ASYNC_MESSAGE_BYTES and protocol.is_whole_messages(data)


def _pause(transport: asyncio.Transport) -> None:
    if not transport.is_closing():
        transport.pause_reading()


def _resume(transport: asyncio.Transport) -> None:
    if not transport.is_closing():
        transport.resume_reading()

"""Connections through a route table, against a server of the test's own making on a Unix socket."""

import asyncio
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import uvloop

from stillframe.endpoint.relay import Limits
from stillframe.endpoint.routes import Route, RouteOutcome, RouteState
from stillframe.endpoint.table import RouteTable
from stillframe.errors import InvalidRequest, NotFound

pytestmark = pytest.mark.unit

READY = b"Z\0\0\0\5I"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATIENT = Limits(startup=5, pause=5, connect=1, linger=1)


def startup(user: bytes = b"ann", *extra: tuple[bytes, bytes]) -> bytes:
    body = b"".join(k + b"\0" + v + b"\0" for k, v in ((b"user", user), *extra)) + b"\0"
    return struct.pack("!II", len(body) + 8, 0x00030000) + body


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def read_startup(reader: asyncio.StreamReader) -> bytes:
    length = struct.unpack("!I", await reader.readexactly(4))[0]
    return bytes(await reader.readexactly(length - 4))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say ready, then give back whatever comes; at the end of input say goodbye."""
    await read_startup(reader)
    writer.write(READY)
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"goodbye")


@dataclass
class Bench:
    table: RouteTable
    route: Route

    async def connect(self) -> Streams:
        return await asyncio.open_connection(self.route.host, self.route.port)

    async def logged_in(self) -> Streams:
        reader, writer = await self.connect()
        writer.write(startup())
        assert await reader.readexactly(6) == READY
        return reader, writer


@asynccontextmanager
async def serving(path: Path, behaviour: Behaviour) -> AsyncIterator[None]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behaviour(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the test ended the connection
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield
    finally:
        server.close()


@asynccontextmanager
async def bench(behaviour: Behaviour | None = echo, limits: Limits = PATIENT) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory() as directory:
        route = Route(route_id="r", port=free_port(), socket_directory=Path(directory), socket_port=5432)
        table = RouteTable(limits)
        assert (await table.sync((route,)))[0].outcome is RouteOutcome.LISTENING
        try:
            if behaviour is None:
                yield Bench(table, route)
            else:
                async with serving(route.socket_path, behaviour):
                    yield Bench(table, route)
        finally:
            await table.close(seconds=0)
            await asyncio.sleep(0.01)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    uvloop.run(bounded())


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, properly or by a reset."""
    received = b""
    with suppress(ConnectionResetError):
        while data := await reader.read(65536):
            received += data
    return received


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def sqlstate(answer: bytes) -> str:
    assert answer[:1] == b"E"
    assert struct.unpack_from("!I", answer, 1)[0] == len(answer) - 1
    fields = {part[:1]: part[1:] for part in answer[5:].split(b"\0") if part}
    assert fields[b"S"] == b"FATAL"
    return fields[b"C"].decode()


def test_the_server_sees_the_startup_without_driver_keys_and_then_everything_else() -> None:
    seen: list[bytes] = []

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_startup(reader))
        seen.append(await reader.readexactly(8))
        writer.write(READY)

    async def scenario() -> None:
        async with bench(behaviour) as b:
            reader, writer = await b.connect()
            # The packet and the next message arrive together.
            writer.write(startup(b"ann", (b"driver_version", b"x"), (b"database", b"dev")) + b"password")
            assert await reader.read() == READY
            assert seen == [startup(b"ann", (b"database", b"dev"))[4:], b"password"]
            writer.close()

    run(scenario)


def test_a_startup_that_arrives_byte_by_byte_is_put_together() -> None:
    async def scenario() -> None:
        async with bench() as b:
            reader, writer = await b.connect()
            for byte in startup():
                writer.write(bytes([byte]))
                await writer.drain()
            assert await reader.readexactly(6) == READY
            writer.close()

    run(scenario)


def test_encryption_is_declined_once_for_each_kind() -> None:
    ssl, gss = struct.pack("!II", 8, 80877103), struct.pack("!II", 8, 80877104)

    async def scenario() -> None:
        async with bench() as b:
            reader, writer = await b.connect()
            for ask in (ssl, gss):
                writer.write(ask)
                assert await reader.readexactly(1) == b"N"
            writer.write(startup())
            assert await reader.readexactly(6) == READY
            writer.close()
            reader, writer = await b.connect()
            writer.write(ssl + ssl)
            answer = await reader.read()
            assert answer[:1] == b"N"
            assert sqlstate(answer[1:]) == "08P01"
            writer.close()

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(startup(b"stillframe"), "28000", id="service role"),
        pytest.param(startup(b"ann", (b"replication", b"database")), "28000", id="replication"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "08P01", id="http"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01", "08P01", id="tls at once"),
        pytest.param(struct.pack("!II", 9, 0x00020000) + b"\0", "0A000", id="protocol 2"),
    ],
)
def test_a_startup_that_may_not_pass_is_answered_and_never_reaches_the_server(sent: bytes, code: str) -> None:
    reached: list[bool] = []

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(True)

    async def scenario() -> None:
        async with bench(behaviour) as b:
            reader, writer = await b.connect()
            writer.write(sent)
            assert sqlstate(await reader.read()) == code
            assert b.table.statuses()[0].refused_total == 1
            writer.close()
            await asyncio.sleep(0.02)
        assert not reached

    run(scenario)


def test_a_client_that_never_finishes_its_startup_is_told_and_closed() -> None:
    async def scenario() -> None:
        async with bench(limits=replace(PATIENT, startup=0.05)) as b:
            reader, writer = await b.connect()
            writer.write(startup()[:-1])
            assert sqlstate(await reader.read()) == "57014"
            writer.close()

    run(scenario)


def test_a_server_that_is_away_is_an_error_to_try_again_and_not_a_reset() -> None:
    async def scenario() -> None:
        async with bench(behaviour=None) as b:
            reader, writer = await b.connect()
            writer.write(startup())
            assert sqlstate(await reader.read()) == "57P03"
            assert b.table.statuses()[0].detail == f"{b.route.socket_path}: No such file or directory"
            writer.close()
            async with serving(b.route.socket_path, echo):
                (await b.logged_in())[1].close()
                assert b.table.statuses()[0].detail == ""

    run(scenario)


def test_a_server_whose_queue_stays_full_is_an_error_to_try_again() -> None:
    async def scenario() -> None:
        async with bench(behaviour=None, limits=replace(PATIENT, connect=0.1)) as b:
            with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as filler:
                deaf.bind(str(b.route.socket_path))
                deaf.listen(0)
                filler.connect(str(b.route.socket_path))
                reader, writer = await b.connect()
                writer.write(startup())
                assert sqlstate(await reader.read()) == "57P03"
                writer.close()

    run(scenario)


def test_more_connections_than_descriptors_allow_are_refused_with_the_servers_code() -> None:
    async def scenario() -> None:
        async with bench(limits=replace(PATIENT, connections=2)) as b:
            kept = [await b.logged_in(), await b.logged_in()]
            reader, writer = await b.connect()
            assert sqlstate(await reader.read()) == "53300"
            for _, open_writer in kept:
                open_writer.close()
            writer.close()

    run(scenario)


def test_a_paused_route_holds_new_connections_until_it_opens_on_the_new_server() -> None:
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_startup(reader)
        writer.write(b"the new server")

    async def scenario() -> None:
        async with bench() as b, bench(behaviour) as other:
            old = await b.logged_in()
            await b.table.change_state("r", RouteState.PAUSED)
            reader, writer = await b.connect()
            writer.write(startup())
            await until(lambda: b.table.statuses()[0].connections_waiting == 1)
            await b.table.put(replace(b.route, socket_directory=other.route.socket_directory))
            assert await reader.read() == b"the new server"
            assert sqlstate(await old[0].read()) == "57P01"  # it must not go on with the replaced server
            for stream in (writer, old[1]):
                stream.close()

    run(scenario)


def test_a_connection_that_was_on_its_way_to_a_replaced_server_reaches_the_new_one() -> None:
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_startup(reader)
        writer.write(b"the new server")

    async def scenario() -> None:
        async with bench(behaviour=None) as b, bench(behaviour) as other:
            with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as filler:
                deaf.bind(str(b.route.socket_path))
                deaf.listen(0)
                filler.connect(str(b.route.socket_path))
                reader, writer = await b.connect()
                writer.write(startup())
                await until(lambda: b.table.statuses()[0].connections_waiting == 1)
                await asyncio.sleep(0.05)  # now it waits for room in the old server's queue
                await b.table.change_state("r", RouteState.PAUSED)
                accepted, _ = deaf.accept()
                await asyncio.sleep(0.1)  # now it is connected, to a server that is about to be replaced
                await b.table.put(replace(b.route, socket_directory=other.route.socket_directory))
                with accepted:
                    assert await reader.read() == b"the new server"
                writer.close()

    run(scenario)


def test_a_route_that_stays_paused_tells_those_who_waited_to_try_again() -> None:
    async def scenario() -> None:
        async with bench(limits=replace(PATIENT, pause=0.05)) as b:
            await b.table.change_state("r", RouteState.PAUSED)
            reader, writer = await b.connect()
            writer.write(startup())
            assert sqlstate(await reader.read()) == "57P03"
            writer.close()

    run(scenario)


def test_a_client_that_leaves_while_it_waits_is_forgotten_at_once() -> None:
    async def scenario() -> None:
        async with bench() as b:
            await b.table.change_state("r", RouteState.PAUSED)
            _, writer = await b.connect()
            writer.write(startup())
            await until(lambda: b.table.statuses()[0].connections_waiting == 1)
            writer.close()
            await until(lambda: b.table.statuses()[0].connections_waiting == 0)

    run(scenario)


def test_a_client_that_has_sent_its_last_still_gets_the_answer() -> None:
    async def scenario() -> None:
        async with bench() as b:
            reader, writer = await b.logged_in()
            writer.write(b"last words ")
            writer.write_eof()
            assert await reader.read() == b"last words goodbye"
            writer.close()

    run(scenario)


def test_a_client_that_vanishes_takes_its_server_connection_with_it() -> None:
    ended = asyncio.Event()

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await echo(reader, writer)
        ended.set()

    async def scenario() -> None:
        async with bench(behaviour) as b:
            _, writer = await b.logged_in()
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.close()  # a reset
            await ended.wait()
            await until(lambda: b.table.statuses()[0].connections == 0)

    run(scenario)


def test_what_a_client_sent_before_it_hung_up_reaches_the_server() -> None:
    received: list[bytes] = []

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_startup(reader)
        await asyncio.sleep(0.05)
        received.append(await reader.read(-1))

    async def scenario() -> None:
        async with bench(behaviour) as b:
            _, writer = await b.connect()
            writer.write(startup() + b"x" * 3_000_000)
            await writer.drain()
            writer.close()
            await until(lambda: bool(received))
            assert len(received[0]) == 3_000_000

    run(scenario)


def test_a_client_that_does_not_read_stops_the_server_and_not_the_memory() -> None:
    sent = 0
    total = 64 * 1024 * 1024

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_startup(reader)
        while sent < total:
            writer.write(b"y" * 65536)
            await writer.drain()
            sent += 65536

    async def scenario() -> None:
        async with bench(behaviour) as b:
            reader, writer = await b.connect()
            writer.write(startup())
            before = -1
            while before != sent:  # until it stands still
                before = sent
                await asyncio.sleep(0.2)
            assert 0 < sent < total
            relayed = b.table.statuses()[0].to_client_bytes_total
            assert relayed <= sent
            assert len(await reader.readexactly(total)) == total
            writer.close()

    run(scenario)


def test_a_server_that_does_not_read_stops_the_client() -> None:
    go = asyncio.Event()
    total = 64 * 1024 * 1024

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_startup(reader)
        await go.wait()
        writer.write(str(len(await reader.readexactly(total))).encode())

    async def scenario() -> None:
        async with bench(behaviour) as b:
            reader, writer = await b.connect()
            writer.write(startup() + b"z" * total)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await writer.drain()
            assert b.table.statuses()[0].to_server_bytes_total < total
            go.set()
            assert await reader.read() == str(total).encode()
            writer.close()

    run(scenario)


def test_a_drained_idle_connection_gets_the_shutdown_message() -> None:
    async def scenario() -> None:
        async with bench() as b:
            reader, writer = await b.logged_in()
            result = await b.table.drain("r", seconds=2)
            assert (result.told, result.cut) == (1, 0)
            assert sqlstate(await reader.read()) == "57P01"
            writer.close()

    run(scenario)


def test_a_connection_that_got_a_notification_counts_as_idle_and_half_a_message_does_not() -> None:
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_startup(reader)
        writer.write(READY)
        await asyncio.sleep(0.05)
        writer.write(b"A\0\0\0\x08abcd")
        await asyncio.sleep(0.05)
        while await reader.read(1000):
            writer.write(b"D\0\0\1\0 the beginning of a row")

    async def scenario() -> None:
        async with bench(behaviour) as b:
            reader, writer = await b.logged_in()
            assert await reader.readexactly(9) == b"A\0\0\0\x08abcd"
            busy_reader, busy_writer = await b.logged_in()
            await busy_reader.readexactly(9)
            busy_writer.write(b"query")
            assert await busy_reader.readexactly(5) == b"D\0\0\1\0"
            result = await b.table.drain("r", seconds=0.05)
            assert (result.told, result.cut) == (1, 1)
            assert sqlstate(await reader.read()) == "57P01"
            assert await rest_of(busy_reader) in {b"", b" the beginning of a row"}
            for stream in (writer, busy_writer):
                stream.close()

    run(scenario)


def test_a_busy_connection_is_drained_when_its_answer_is_complete() -> None:
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_startup(reader)
        writer.write(READY)
        await reader.read(1000)
        await asyncio.sleep(0.1)
        writer.write(b"C\0\0\0\4" + READY[:3])
        await asyncio.sleep(0.05)
        writer.write(READY[3:])  # the message arrives in two pieces
        await reader.read()

    async def scenario() -> None:
        async with bench(behaviour) as b:
            reader, writer = await b.logged_in()
            writer.write(b"query")
            await until(lambda: b.table.statuses()[0].to_server_bytes_total == 5)
            result = await b.table.drain("r", seconds=5)
            assert (result.told, result.cut) == (1, 0)
            answer = await reader.read()
            assert answer[:11] == b"C\0\0\0\4" + READY
            assert sqlstate(answer[11:]) == "57P01"
            writer.close()

    run(scenario)


def test_a_closed_route_gives_its_port_back_at_once_and_opens_again() -> None:
    async def scenario() -> None:
        async with bench() as b:
            reader, writer = await b.logged_in()
            status = await b.table.change_state("r", RouteState.CLOSED)
            assert status.outcome is RouteOutcome.CLOSED
            assert sqlstate(await reader.read()) == "57P01"
            with socket.create_server(("127.0.0.1", b.route.port)):
                status = await b.table.change_state("r", RouteState.OPEN)
                assert status.outcome is RouteOutcome.PORT_TAKEN
            status = await b.table.change_state("r", RouteState.OPEN)
            assert status.outcome is RouteOutcome.LISTENING
            (await b.logged_in())[1].close()
            writer.close()

    run(scenario)


def test_sync_keeps_what_is_unchanged_moves_ports_and_drops_the_rest() -> None:
    async def scenario() -> None:
        async with bench() as b:
            kept = await b.logged_in()
            first, second = free_port(), free_port()
            a = replace(b.route, route_id="a", port=first)
            c = replace(b.route, route_id="c", port=second)
            await b.table.sync((b.route, a, c))
            outcomes = await b.table.sync((b.route, replace(a, port=second), replace(c, port=first)))
            assert [status.outcome for status in outcomes] == [RouteOutcome.LISTENING] * 3
            await b.table.sync((b.route,))
            assert [status.route_id for status in b.table.statuses()] == ["r"]
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", first)
            kept[1].write(b"on")
            assert await kept[0].readexactly(2) == b"on"
            kept[1].close()

    run(scenario)


def test_a_cancel_request_is_delivered_even_if_the_client_hangs_up_at_once() -> None:
    packet = struct.pack("!IIII", 16, 80877102, 4711, 42)
    received: list[bytes] = []

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readexactly(16))

    async def scenario() -> None:
        async with bench(behaviour) as b:
            _, writer = await b.connect()
            writer.write(packet)
            writer.close()
            await until(lambda: received == [packet])
            reader, writer = await b.connect()
            writer.write(packet)
            assert await reader.read() == b""
            assert received == [packet] * 2
            writer.close()

    run(scenario)


def test_a_cancel_request_waits_for_a_busy_server_without_its_client() -> None:
    packet = struct.pack("!IIII", 16, 80877102, 4711, 42)

    async def scenario() -> None:
        async with bench(behaviour=None) as b:
            with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as filler:
                busy.bind(str(b.route.socket_path))
                busy.listen(0)
                filler.connect(str(b.route.socket_path))
                _, writer = await b.connect()
                writer.write(packet)
                await until(lambda: b.table.statuses()[0].connections_waiting == 1)
                await asyncio.sleep(0.05)
                writer.close()
                await until(lambda: b.table.statuses()[0].connections_waiting == 0)
                busy.accept()[0].close()  # the one that filled the queue
                loop = asyncio.get_running_loop()
                busy.settimeout(5)
                accepted, _ = await loop.run_in_executor(None, busy.accept)
                with accepted:
                    accepted.settimeout(5)
                    assert await loop.run_in_executor(None, accepted.recv, 100) == packet

    run(scenario)


def test_impossible_routes_change_nothing() -> None:
    async def scenario() -> None:
        async with bench() as b:
            for bad in (
                replace(b.route, port=0),
                replace(b.route, port=65536),
                replace(b.route, host="localhost"),
                replace(b.route, socket_directory=Path("relative")),
                replace(b.route, route_id=""),
            ):
                with pytest.raises(InvalidRequest):
                    await b.table.sync((bad,))
            with pytest.raises(InvalidRequest):
                await b.table.sync((b.route, replace(b.route, route_id="other")))
            with pytest.raises(InvalidRequest):
                await b.table.sync((b.route, replace(b.route, port=free_port())))
            with pytest.raises(NotFound):
                await b.table.change_state("unknown", RouteState.OPEN)
            (await b.logged_in())[1].close()

    run(scenario)

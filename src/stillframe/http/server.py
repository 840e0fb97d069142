"""Serving an application on a socket until somebody says stop."""

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from stillframe.errors import ConfigurationInvalid, PermissionMissing

_BACKLOG = 512
_MOST_CONNECTIONS = 1024
_IDLE_SECONDS = 75


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one, which `getsockname` tells.

    Raises ConfigurationInvalid when the address is taken or not of this machine, PermissionMissing when the
    system does not allow it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigurationInvalid(f"{host} is not an address to listen on: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # At once: a socket that is bound but does not listen does not keep a second service away.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from error
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigurationInvalid | PermissionMissing:
    message = f"Cannot listen on {host} port {port}: {error.strerror}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionMissing(message, hint="Choose a port above 1023.")
    return ConfigurationInvalid(message, hint="Choose another --port or --host, or stop what listens there.")


class HttpServer:
    """Runs an application on a listening socket, with uvloop and httptools."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        listener: socket.socket,
        on_ready: Callable[[], None],
        grace_seconds: int = 10,
    ) -> None:
        self._listener = listener
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=_BACKLOG,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=grace_seconds,
        )
        self._server = _Server(config, on_ready=on_ready)

    def run(self) -> None:
        """Serve until `stop`, then let requests that are under way end (`grace_seconds`); closes the socket.

        Signals are the caller's business: none is caught here.
        """
        try:
            self._server.run(sockets=[self._listener])
        finally:
            self._listener.close()

    def stop(self) -> None:
        """Ask `run` to return; from any thread or signal handler, before or after it was called."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, *, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again after its shutdown, and so end a process that has more to stop.
        yield

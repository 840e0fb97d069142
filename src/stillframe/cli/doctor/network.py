"""Checks of the ports."""

import errno
import socket
from itertools import chain

from stillframe.cli.doctor.finding import Finding, fail, ok, warn
from stillframe.domain.workgroup import ALLOWED_PORTS, DEFAULT_PORT


def check_service_port(host: str, port: int, running_at: str | None) -> Finding:
    """The port of the API; `running_at` is the endpoint of our own service when it runs."""
    name = "API port"
    if running_at is not None:
        return ok(name, f"the service is running at {running_at}")
    if port == 0:
        return ok(name, "any free one")
    problem = try_to_bind(host, port)
    if problem is None:
        return ok(name, f"{host}:{port} is free")
    return fail(
        name, f"{host}:{port}: {problem}", "Choose another with --port or STILLFRAME_PORT (0: any free one)."
    )


def check_database_ports(host: str = "127.0.0.1") -> Finding:
    """The ports that workgroups may listen on."""
    name = "Database ports"
    every = list(chain.from_iterable(ALLOWED_PORTS))
    free = [port for port in every if try_to_bind(host, port) is None]
    if not free:
        return fail(
            name, f"none of {_ranges()} is free", "Stop what listens there: workgroups need one each."
        )
    fact = f"{len(free)} of {len(every)} are free ({_ranges()})"
    if DEFAULT_PORT not in free:
        return warn(
            name, f"{DEFAULT_PORT} is taken; {fact}", f"A workgroup that asks for it gets {free[0]} instead."
        )
    return ok(name, f"{DEFAULT_PORT} is free, {fact}")


def try_to_bind(host: str, port: int) -> str | None:
    """Why a server could not listen there; None when it could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Like a real server does: connections that are being closed do not count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        return (
            "taken by another program" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        )
    return None


def _ranges() -> str:
    return " and ".join(f"{ports.start}-{ports.stop - 1}" for ports in ALLOWED_PORTS)

"""psycopg itself: how connections are opened, and reaching the one below SQLAlchemy's."""

from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict, make_conninfo

CONNECT_SECONDS = 5
LOCK_SECONDS = 15
"""How long one may wait for a connection, and a statement for a row that somebody else holds."""


def driver_connection(connection: sa.Connection) -> "psycopg.Connection[Any]":
    """The psycopg connection that carries this one; what is done on it belongs to the same transaction."""
    found = connection.connection.driver_connection
    assert isinstance(found, psycopg.Connection)
    return found


def run_script(connection: sa.Connection, script: str) -> None:
    """Run statements separated by semicolons in one exchange; a percent sign in them is only that.

    Raises psycopg.Error: it is for callers inside this package, which translate.
    """
    driver_connection(connection).execute(script.encode())


def with_limits(conninfo: str) -> str:
    """The connection string with a deadline for every wait, where it does not bring its own."""
    given = conninfo_to_dict(conninfo)
    connect: int | str = given.get("connect_timeout") or CONNECT_SECONDS
    name = given.get("application_name") or "stillframe"
    options = f"-c TimeZone=UTC -c lock_timeout={LOCK_SECONDS}s {given.get('options') or ''}".strip()
    return make_conninfo(conninfo, connect_timeout=connect, application_name=name, options=options)

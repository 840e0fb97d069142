"""Sessions of the service's own role, over a cluster's socket."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString, Self

import psycopg
from psycopg import errors as pg
from psycopg import sql

from stillframe.errors import (
    AccessDenied,
    Conflict,
    DiskFull,
    InvalidRequest,
    NotFound,
    ServerUnavailable,
    SourceDataCorrupt,
    StillframeError,
)
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.settings import SERVICE_ROLE

MAINTENANCE_DATABASE = "postgres"
"""Where the service works when no user's database is meant: no user owns it or can change its settings."""

_SESSION_SETTINGS = {
    # Nothing a user created may be found by an unqualified name: these sessions are a superuser's.
    "search_path": "pg_catalog",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "row_security": "on",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "lock_timeout": "30s",
    "role": "none",
    "client_min_messages": "error",
    "datestyle": "ISO",
    "timezone": "UTC",
}

Query = LiteralString | sql.Composed | sql.SQL
Row = tuple[Any, ...]


class Session:
    """One connection in autocommit; errors are ours. Not for several threads at once. A context manager."""

    def __init__(self, connection: "psycopg.Connection[Row]") -> None:
        self._connection = connection

    def execute(
        self, query: Query, parameters: Sequence[object] | Mapping[str, object] | None = None
    ) -> None:
        """Run a statement whose result does not matter. Raises the errors of `translating_errors`."""
        with translating_errors():
            self._connection.execute(query, parameters)

    def rows(
        self, query: Query, parameters: Sequence[object] | Mapping[str, object] | None = None
    ) -> list[Row]:
        """All rows of a query, values as psycopg makes them. Raises the errors of `translating_errors`."""
        with translating_errors():
            return self._connection.execute(query, parameters).fetchall()

    def row(self, query: Query, parameters: Sequence[object] | Mapping[str, object] | None = None) -> Row:
        """The only row of a query. Raises ServerUnavailable when there is none, and as `rows`."""
        found = self.rows(query, parameters)
        if not found:
            raise ServerUnavailable("The server answered a question about itself with no row")
        return found[0]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Statements of the block take effect together or not at all."""
        with translating_errors(), self._connection.transaction():
            yield

    def cancel(self) -> None:
        """Ask the server to end the statement that another thread runs in this session; it may be too late."""
        try:
            self._connection.cancel_safe(timeout=5)
        except psycopg.Error as error:
            raise translated(error) from error

    @property
    def broken(self) -> bool:
        """Whether the connection was lost."""
        return self._connection.closed or self._connection.broken

    def close(self) -> None:
        """End the session; a broken one is fine."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(
    cluster: Cluster,
    database: str = MAINTENANCE_DATABASE,
    *,
    deadline: float = 10,
    statement_timeout: float = 0,
) -> Session:
    """A session as the service's role; `deadline` to connect and `statement_timeout` (0: none) in seconds.

    Checks that the socket belongs to the OS user the server runs as.
    Raises ServerUnavailable, or NotFound when there is no such database.
    """
    settings = {**_SESSION_SETTINGS, "statement_timeout": f"{int(statement_timeout * 1000)}"}
    options = " ".join(f"-c {name}={_option(value)}" for name, value in settings.items())
    with translating_errors():
        connection = psycopg.connect(
            host=str(cluster.socket_directory),
            port=cluster.socket_port,
            user=SERVICE_ROLE,
            dbname=database,
            requirepeer=cluster.identity.name,
            connect_timeout=max(int(deadline), 2),
            application_name="stillframe",
            client_encoding="UTF8",
            options=options,
            sslmode="disable",
            gssencmode="disable",
            # The role has no password; the default file may hold one that is meant for somebody else.
            passfile=str(cluster.socket_directory / "none" / "passfile"),
            autocommit=True,
        )
    return Session(connection)


def _option(value: str) -> str:
    """A value inside of the start-up `options`, where a space or backslash has to be escaped."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


@contextmanager
def translating_errors() -> Iterator[None]:
    """Turn an error of psycopg in the block into the error of ours a handler would want."""
    try:
        yield
    except psycopg.Error as error:
        raise translated(error) from error


_BY_CLASS: tuple[tuple[type[psycopg.Error], type[StillframeError]], ...] = (
    (pg.DiskFull, DiskFull),
    (pg.DataCorrupted, SourceDataCorrupt),
    (pg.IndexCorrupted, SourceDataCorrupt),
    (pg.DuplicateObject, Conflict),
    (pg.DuplicateDatabase, Conflict),
    (pg.ObjectInUse, Conflict),
    (pg.DependentObjectsStillExist, Conflict),
    (pg.LockNotAvailable, Conflict),
    (pg.InsufficientPrivilege, AccessDenied),
    (pg.InvalidName, InvalidRequest),
    (pg.ReservedName, InvalidRequest),
    (pg.SyntaxError, InvalidRequest),
    (pg.NameTooLong, InvalidRequest),
    (pg.DataError, InvalidRequest),
)


def translated(error: psycopg.Error) -> StillframeError:
    """The error of ours for one of psycopg's; ServerUnavailable when nothing else fits."""
    message = (error.diag.message_primary or str(error) or type(error).__name__).strip()
    if isinstance(error, (pg.InvalidCatalogName, pg.UndefinedObject)):
        return NotFound(message, resource_name=message)
    for theirs, ours in _BY_CLASS:
        if isinstance(error, theirs):
            return ours(message, sqlstate=error.sqlstate)
    return ServerUnavailable(message, sqlstate=error.sqlstate)

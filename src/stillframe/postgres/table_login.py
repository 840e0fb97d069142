"""Short-lived roles that read a table in a private copy and write it in its target.

What users put into a table (defaults, checks, index expressions) is code that runs in whatever session writes the
table. A superuser's session is never that session, not even after SET ROLE: code can take that back. So a session
that writes logs in as a role of its own, which can become the new table's owner and nobody else.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from psycopg import sql

from stillframe.errors import Conflict, InvalidRequest, StillframeError
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import Session, connect, translated, translating_errors
from stillframe.postgres.scram import random_password, scram_verifier

_LIFETIME = "10 minutes"
"""How long the password can be used; a session that has begun by then goes on."""

_END_MILLISECONDS = 15_000
_CONNECT_SECONDS = 10
_BLOCK_BYTES = 1 << 16

_SETTINGS = {
    "search_path": "pg_catalog",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read\\ committed",
    "default_tablespace": "",
    "default_toast_compression": "pglz",
    "row_security": "off",
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "lock_timeout": "30s",
    "client_min_messages": "error",
    # The form of values as text is the same at both ends, and loses nothing.
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    # A server notices within seconds that the service was killed, also in the middle of building an index.
    "client_connection_check_interval": "2s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLogin:
    """Name and password of a role made for one table restore; the password is known to this process alone."""

    name: str
    password: str = field(repr=False)


def login_name(restore_id: uuid.UUID) -> str:
    """The name of a table restore's role: the same after a crash, so that it can be removed."""
    return f"stillframe_table_{restore_id.hex}"


def create_reader(session: Session, name: str) -> TableLogin:
    """In a private copy: a role that reads every row, past row security, and may do nothing else.

    Raises Conflict when there is a role of that name.
    """
    login = TableLogin(name=name, password=random_password())
    _create(session, login, options=sql.SQL("BYPASSRLS"))
    session.execute(sql.SQL("GRANT pg_read_all_data TO {} WITH INHERIT TRUE").format(sql.Identifier(name)))
    return login


def create_writer(session: Session, name: str, *, owner: str, database: str) -> TableLogin:
    """In the target: a role without rights of its own that can become `owner`, and connect to `database`.

    Raises Conflict when there is a role of that name, NotFound when there is no such owner.
    """
    login = TableLogin(name=name, password=random_password())
    role = sql.Identifier(name)
    with session.transaction():
        _create(session, login, options=sql.SQL("NOBYPASSRLS"))
        session.execute(
            sql.SQL("GRANT {} TO {} WITH ADMIN FALSE, INHERIT FALSE, SET TRUE").format(
                sql.Identifier(owner), role
            )
        )
        session.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(database), role))
    return login


def _create(session: Session, login: TableLogin, *, options: sql.SQL) -> None:
    # By the server's clock, which is the one that counts.
    until: datetime
    (until,) = session.row("SELECT now() + %s::interval", (_LIFETIME,))
    session.execute(
        sql.SQL(
            "CREATE ROLE {} LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION {}"
            " PASSWORD {} VALID UNTIL {}"
        ).format(
            sql.Identifier(login.name),
            options,
            sql.Literal(scram_verifier(login.password)),
            sql.Literal(until.isoformat()),
        )
    )


def remove_login(cluster: Cluster, name: str, *, database: str) -> None:
    """End the role's sessions and drop it with what it left in `database`. Nothing happens when there is none.

    A role that others made depend on it elsewhere stays, unable to log in or to become anybody. Raises Conflict
    when a session of it does not end.
    """
    with connect(cluster) as session:
        if not session.rows("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)):
            return
        _end_sessions(session, name)
        has_database = session.rows("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
    role = sql.Identifier(name)
    if has_database:
        with connect(cluster, database) as session:
            session.execute(sql.SQL("DROP OWNED BY {}").format(role))
    with connect(cluster) as session:
        _drop_or_disable(session, name)


def _end_sessions(session: Session, name: str) -> None:
    ended = session.rows(
        "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity WHERE usename = %s",
        (_END_MILLISECONDS, name),
    )
    if not all(done for (done,) in ended):
        raise Conflict("A session of an earlier attempt to restore the table does not end")


def _drop_or_disable(session: Session, name: str) -> None:
    role = sql.Identifier(name)
    try:
        session.execute(sql.SQL("DROP ROLE {}").format(role))
    except Conflict:
        session.execute(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(role))
        granted = session.rows(
            "SELECT pg_get_userbyid(roleid)::text FROM pg_auth_members WHERE member = %s::regrole",
            (f'"{name}"',),
        )
        for (owner,) in granted:
            session.execute(sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(owner), role))


class TableSession(Session):
    """A session of a `TableLogin`, in autocommit."""

    def become(self, owner: str) -> None:
        """Act as that role from now on. Raises AccessDenied."""
        self.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))

    def run_script(self, script: str) -> None:
        """Run statements one after the other. Raises InvalidRequest with PostgreSQL's sentence when it refuses one."""
        with _refusals():
            self._connection.execute(script.encode())

    def read_copy(self, statement: sql.Composed) -> Iterator[bytes]:
        """What a `COPY … TO STDOUT` sends, in blocks of many rows."""
        with translating_errors(), self._connection.cursor().copy(statement) as copy:
            # It comes row by row, and handing each one on would cost more than reading it.
            rows: list[bytes | bytearray | memoryview] = []
            gathered = 0
            for row in copy:
                rows.append(row)
                gathered += len(row)
                if gathered >= _BLOCK_BYTES:
                    yield b"".join(rows)
                    rows.clear()
                    gathered = 0
            yield b"".join(rows)

    @contextmanager
    def write_copy(self, statement: sql.Composed) -> Iterator[Callable[[bytes], None]]:
        """Takes the blocks for a `COPY … FROM STDIN`, which is complete when the block ends.

        Raises InvalidRequest with PostgreSQL's sentence when a row is refused.
        """
        with _refusals(), self._connection.cursor().copy(statement) as copy:
            yield copy.write


def log_in(cluster: Cluster, database: str, login: TableLogin) -> TableSession:
    """A session of that role in that database, over the socket, by password. Raises ServerUnavailable."""
    options = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
    with translating_errors():
        connection = psycopg.connect(
            host=str(cluster.socket_directory),
            port=cluster.socket_port,
            user=login.name,
            password=login.password,
            dbname=database,
            requirepeer=cluster.identity.name,
            require_auth="scram-sha-256",
            connect_timeout=_CONNECT_SECONDS,
            application_name="stillframe table restore",
            client_encoding="UTF8",
            options=options,
            sslmode="disable",
            gssencmode="disable",
            autocommit=True,
        )
    return TableSession(connection)


_NOT_THE_CALLER_S = ("08", "53", "57", "58", "XX")
"""Classes of SQLSTATE that speak of the server, and not of what it was asked to do."""


@contextmanager
def _refusals() -> Iterator[None]:
    """A statement that PostgreSQL refuses is the request's fault: its definition or rows do not fit the target."""
    try:
        yield
    except psycopg.Error as error:
        raise _refusal(error) from error


def _refusal(error: psycopg.Error) -> StillframeError:
    ours = translated(error)
    if (error.sqlstate or "XX").startswith(_NOT_THE_CALLER_S):
        return ours
    refusal = Conflict if isinstance(ours, Conflict) else InvalidRequest
    return refusal(
        f"The table cannot be made in the target: {ours.message}.",
        hint="Make there what the table needs, then ask again.",
    )

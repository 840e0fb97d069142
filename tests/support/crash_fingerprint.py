"""What a namespace holds, as one value that two namespaces share exactly when they hold the same."""

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

ADMIN = "admin"
READER, READER_PASSWORD = "reader", "ReadOnly1Please"

_DATABASES: LiteralString = """
    SELECT datname FROM pg_database WHERE NOT datistemplate AND has_database_privilege(datname, 'CONNECT')
    ORDER BY datname
"""
_TABLES: LiteralString = """
    SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^pg_|^information_schema$' ORDER BY 1, 2
"""
_SUM: LiteralString = "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM {} AS t"
_SEQUENCES: LiteralString = "SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2"
_ROLES: LiteralString = """
    SELECT rolname, rolsuper, rolcreatedb, rolcreaterole, rolcanlogin, rolconnlimit FROM pg_roles
    WHERE rolname !~ '^pg_' ORDER BY rolname
"""
_SETTINGS: LiteralString = """
    SELECT d.datname, r.rolname, s.setconfig FROM pg_db_role_setting s
    LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Where the databases of a namespace answer."""

    port: int
    password: str
    user: str = ADMIN

    def connect(self, database: str) -> "psycopg.Connection[Any]":
        """A connection that commits each statement."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=database,
            autocommit=True,
            connect_timeout=10,
        )


def fingerprint(login: Login) -> dict[str, Any]:
    """Rows and checksums (independent of their order) of every table, sequences, roles and settings.

    The reader's own login is tried as well: passwords are part of what a snapshot holds.
    """
    with login.connect("dev") as connection:
        names = [name for (name,) in connection.execute(_DATABASES)]
        whole: dict[str, Any] = {
            "roles": connection.execute(_ROLES).fetchall(),
            "settings": connection.execute(_SETTINGS).fetchall(),
        }
    whole["databases"] = {name: _database(login, name) for name in names}
    if any(role[0] == READER for role in whole["roles"]):
        with Login(port=login.port, user=READER, password=READER_PASSWORD).connect("dev") as connection:
            whole["reader"] = connection.execute("SELECT current_user").fetchall()
    return whole


def _database(login: Login, name: str) -> dict[str, Any]:
    with login.connect(name) as connection:
        tables = connection.execute(_TABLES).fetchall()
        sums = {
            f"{schema}.{table}": connection.execute(
                sql.SQL(_SUM).format(sql.Identifier(schema, table))
            ).fetchone()
            for schema, table in tables
        }
        return {"tables": sums, "sequences": connection.execute(_SEQUENCES).fetchall()}


def differences(found: Any, wanted: Any, path: str = "") -> list[str]:
    """Where two fingerprints differ, each with what was found and what was wanted."""
    if not (isinstance(found, dict) and isinstance(wanted, dict)):
        return [] if found == wanted else [f"{path}: {found!r} instead of {wanted!r}"]
    return [
        line
        for key in sorted(found.keys() | wanted.keys())
        for line in differences(found.get(key), wanted.get(key), f"{path}/{key}")
    ]


def populate(login: Login) -> None:
    """A few small databases with something of everything."""
    with login.connect("dev") as connection:
        connection.execute(
            "CREATE TABLE items AS SELECT g AS id, md5(g::text) AS body FROM generate_series(1, 4000) g"
        )
        connection.execute("CREATE INDEX ON items (id)")
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} CONNECTION LIMIT 9").format(
                sql.Identifier(READER), sql.Literal(READER_PASSWORD)
            )
        )
        connection.execute("ALTER ROLE reader SET statement_timeout = '71s'")
        # Set and never used: a crash may skip values of a used one (PostgreSQL logs 32 of them ahead).
        connection.execute("CREATE SEQUENCE tickets")
        connection.execute("SELECT setval('tickets', 4711)")
        connection.execute("CREATE DATABASE sales")
        connection.execute("ALTER DATABASE sales SET datestyle = 'German'")
    mark(login, "populated")
    with login.connect("sales") as connection:
        connection.execute(
            "CREATE TABLE orders AS SELECT g AS id, g % 97 AS customer FROM generate_series(1, 2000) g"
        )


def mark(login: Login, text: str) -> None:
    """One more row: the namespace is no longer what it was."""
    with login.connect("dev") as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS marks (said text)")
        connection.execute("INSERT INTO marks (said) VALUES (%s)", (text,))

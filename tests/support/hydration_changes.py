"""What is done to databases while their files arrive; it does the same wherever it runs, and can be compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import connect
from support.crash_fingerprint import Login
from support.postgres import PASSWORD, login

TABLES = ("red", "green", "blue")
KEPT = 40_000
"""Rows of the table that nobody ever changes."""

CHANGES = {
    "insert": ("INSERT INTO {t} SELECT g, repeat('new', 50) FROM generate_series({a}, {a} + 700) g",),
    "update": ("UPDATE {t} SET text = repeat(md5((id + {a})::text), 5) WHERE id BETWEEN {a} AND {a} + 300",),
    "update_scattered": ("UPDATE {t} SET text = 'scattered ' || {a} WHERE id % 397 = {a} % 397",),
    "delete": ("DELETE FROM {t} WHERE id BETWEEN {a} AND {a} + 900",),
    "delete_tail": ("DELETE FROM {t} WHERE id > {a}",),
    "truncate": ("TRUNCATE {t}",),
    "refill": (
        "TRUNCATE {t}",
        "INSERT INTO {t} SELECT id, text FROM kept WHERE id BETWEEN {a} AND {a} + 4000",
    ),
    "replace": (
        "DROP TABLE {t}",
        "CREATE TABLE {t} AS SELECT id, text FROM kept WHERE id BETWEEN {a} AND {a} + 6000",
        "CREATE INDEX ON {t} (id)",
    ),
    "rewrite": ("ALTER TABLE {t} ALTER COLUMN text TYPE text USING text || '!'",),
    "reindex": ("CREATE INDEX ON {t} (text)",),
}
"""By name: statements with a table `t` and a number `a` of a row."""

MAINTENANCE = ("VACUUM {}", "VACUUM (FREEZE) {}", "VACUUM FULL {}", "REINDEX TABLE {}", "ANALYZE {}")
"""Statements that change no row."""

_CONTENT = (
    "CREATE TABLE applied (step int PRIMARY KEY)",
    f"CREATE TABLE kept AS SELECT g AS id, repeat(md5(g::text), 5) AS text FROM generate_series(1, {KEPT}) g",
    "ALTER TABLE kept ADD PRIMARY KEY (id)",
    *(
        statement.format(table)
        for table in TABLES
        for statement in (
            "CREATE TABLE {} AS SELECT id, repeat(md5((7 * id)::text), 5) AS text FROM generate_series(1, 12000) id",
            "CREATE INDEX ON {} (id)",
            "VACUUM FREEZE {}",
        )
    ),
    "CREATE DATABASE second",
)


def fill(connect_to: "Callable[[str], psycopg.Connection[Any]]") -> None:
    """The tables in `dev`, and database `second` with a table `notes`."""
    with connect_to("dev") as connection:
        for statement in _CONTENT:
            connection.execute(statement.encode())
    with connect_to("second") as connection:
        connection.execute("CREATE TABLE notes AS SELECT g AS note FROM generate_series(1, 3000) g")


def statements_of(kind: str, table: str, row: int) -> tuple[str, ...]:
    """A change of that kind, ready to run."""
    return tuple(statement.format(t=table, a=row) for statement in CHANGES[kind])


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Statements for `dev` that do the same wherever they run; `step` tells whether they did.

    What can not be a part of a transaction is alone, and leaves a database (`makes`) or takes one away (`drops`).
    """

    step: int
    statements: tuple[str, ...]
    makes: str | None = None
    drops: str | None = None

    def run(self, connection: "psycopg.Connection[Any]") -> None:
        """All of it or nothing, on a connection that commits each statement."""
        if self.makes or self.drops:
            connection.execute(self.statements[0].encode())
            return
        with connection.transaction():
            for statement in self.statements:
                connection.execute(statement.encode())
            connection.execute("INSERT INTO applied VALUES (%s)", (self.step,))

    def happened(self, connection: "psycopg.Connection[Any]") -> bool:
        """Whether it did, asked when nobody is about to do it any more."""
        if name := self.makes or self.drops:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
            return (found is not None) == (self.makes is not None)
        # Whoever was cut off with its COMMIT on the way has this lock until it has ended.
        with connection.transaction():
            connection.execute("LOCK TABLE applied IN EXCLUSIVE MODE")
            return (
                connection.execute("SELECT 1 FROM applied WHERE step = %s", (self.step,)).fetchone()
                is not None
            )


@dataclass(frozen=True, kw_only=True)
class OverSocket(Login):
    """The admin's login to a cluster that has no endpoint."""

    cluster: Cluster
    port: int = 0
    password: str = PASSWORD

    def connect(self, database: str) -> "psycopg.Connection[Any]":
        """As `Login.connect`."""
        return login(self.cluster, password=self.password, database=database)


def require_sound(cluster: Cluster) -> None:
    """PostgreSQL's own checks of everything in `dev`: heaps, indexes, visibility maps. Raises AssertionError."""
    with connect(cluster, database="dev") as session:
        for name in ("amcheck", "pg_visibility"):
            session.execute(f"CREATE EXTENSION IF NOT EXISTS {name} SCHEMA pg_catalog")
        session.execute(
            "SELECT bt_index_check(c.oid, true) FROM pg_class c JOIN pg_am a ON a.oid = c.relam"
            " WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p'"
        )
        heaps = "pg_class c WHERE c.relkind IN ('r', 't', 'm') AND c.relpersistence = 'p'"
        for check in ("verify_heapam(c.oid)", "pg_check_visible(c.oid)", "pg_check_frozen(c.oid)"):
            damaged = session.rows(f"SELECT c.relname, {check}::text FROM {heaps}")
            assert damaged == [], f"{check}: {damaged[:5]}"

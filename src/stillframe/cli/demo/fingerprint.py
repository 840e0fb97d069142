"""Fingerprints of databases: what is compared before and after."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import psycopg
from psycopg import sql


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Of one table: its rows and a checksum over them in any order. Of a sequence or the roles: likewise."""

    rows: int
    checksum: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that is not what it was; None means that it does not exist."""

    name: str
    before: Fingerprint | None
    after: Fingerprint | None

    @property
    def sentence(self) -> str:
        """What happened to it."""
        if self.after is None:
            return "is gone"
        if self.before is None:
            return "was not there"
        if self.before.rows != self.after.rows:
            return f"{self.before.rows:,} rows became {self.after.rows:,}"
        return f"{self.after.rows:,} rows, but not the same ones"


Fingerprints = Mapping[str, Fingerprint]
Opener = Callable[[str], AbstractContextManager[psycopg.Connection]]

_DATABASES = """
    SELECT datname FROM pg_database
    WHERE datallowconn AND NOT datistemplate AND has_database_privilege(datname, 'CONNECT')
    ORDER BY datname
"""
_RELATIONS = """
    SELECT n.nspname, c.relname, c.relkind = 'S'
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'S') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
    ORDER BY 1, 2
"""
_ROLES = """
    SELECT count(*), coalesce(sum(hashtextextended(concat_ws(',', rolname, rolcanlogin, rolcreatedb,
        rolcreaterole, rolconnlimit, rolvaliduntil, rolconfig::text, groups::text), 0)::numeric), 0)::text
    FROM (SELECT r.*, (SELECT array_agg(g.rolname ORDER BY g.rolname)
                       FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                       WHERE m.member = r.oid) AS groups
          FROM pg_roles r WHERE rolname NOT LIKE 'pg\\_%') AS described
"""
_TABLE = "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM ONLY {} AS t"
_SEQUENCE = "SELECT 1, last_value || ',' || is_called FROM {}"


def take_fingerprints(open_database: Opener, first_database: str) -> dict[str, Fingerprint]:
    """Of every table and sequence in every database that can be connected to, and of the roles.

    Keys are `database.schema.name`, and `roles`. A checksum is the sum of 64-bit hashes of the rows' text.
    """
    with open_database(first_database) as connection:
        names = [name for (name,) in connection.execute(_DATABASES)]
        found = {"roles": _one(connection, sql.SQL(_ROLES))}
    for name in names:
        with open_database(name) as connection:
            found |= {f"{name}.{key}": value for key, value in _of_database(connection)}
    return found


def fingerprint_of_table(connection: psycopg.Connection, schema: str, table: str) -> Fingerprint:
    """Of one table, as `take_fingerprints` takes it."""
    return _one(connection, sql.SQL(_TABLE).format(sql.Identifier(schema, table)))


def compare(before: Fingerprints, after: Fingerprints) -> list[Difference]:
    """What differs, by name."""
    return [
        Difference(name=name, before=before.get(name), after=after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _of_database(connection: psycopg.Connection) -> Iterable[tuple[str, Fingerprint]]:
    for schema, name, is_sequence in connection.execute(_RELATIONS).fetchall():
        template = sql.SQL(_SEQUENCE if is_sequence else _TABLE)
        yield f"{schema}.{name}", _one(connection, template.format(sql.Identifier(schema, name)))


def _one(connection: psycopg.Connection, query: sql.SQL | sql.Composed) -> Fingerprint:
    row = connection.execute(query).fetchone()
    assert row is not None
    return Fingerprint(rows=row[0], checksum=row[1])

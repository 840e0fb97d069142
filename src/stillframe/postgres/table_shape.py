"""A table in a private, throw-away copy of a cluster: found, and given the form in which it is to arrive.

All that the target must not get is taken off here, and every name is changed here, by PostgreSQL's own
commands: so that the definition it then writes of the table is the one the target needs.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from stillframe.domain.table_restore import TableName, is_system_schema
from stillframe.errors import NotFound, Unsupported
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import Session, connect
from stillframe.postgres.table_names import free_name, renamed
from stillframe.postgres.table_rows import TableContent, content_of
from stillframe.postgres.table_target import TargetPlace, connect_for_users

SNAPSHOT = " in the snapshot"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTable:
    """A table that can be restored: where it is, whose it is, and how long its files are, in bytes with TOAST."""

    name: TableName
    oid: int
    owner: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Something with a name of its own in the table's schema; `kind` as ALTER calls it."""

    kind: str
    name: str


# --- finding ------------------------------------------------------------------------------------------------


def find_source(copy: Cluster, name: TableName) -> SourceTable:
    """The table. Raises NotFound for a missing database, schema or table, Unsupported for what is no plain table."""
    with connect_for_users(copy, name.database, where=SNAPSHOT) as session:
        if is_system_schema(name.schema):
            raise Unsupported(f"{name.schema}.{name.table} belongs to PostgreSQL and is not restored.")
        if not session.rows("SELECT 1 FROM pg_namespace WHERE nspname = %s", (name.schema,)):
            raise NotFound(
                f"Schema {name.schema} does not exist in database {name.database}{SNAPSHOT}.",
                resource_name=name.schema,
            )
        found = session.rows(_FIND, (name.schema, name.table))
    if not found:
        raise NotFound(
            f"Table {name.schema}.{name.table} does not exist in database {name.database}{SNAPSHOT}.",
            resource_name=name.table,
        )
    oid, owner, size, obstacle = found[0]
    if obstacle is not None:
        raise Unsupported(f"{name.schema}.{name.table} {obstacle}, and cannot be restored by itself.")
    return SourceTable(name=name, oid=oid, owner=owner, size=size)


_FIND = """
    SELECT c.oid::int8, pg_get_userbyid(relowner)::text, pg_table_size(c.oid),
        CASE
            WHEN relkind = 'p' THEN 'is partitioned'
            WHEN relkind = 'v' THEN 'is a view'
            WHEN relkind = 'm' THEN 'is a materialized view'
            WHEN relkind = 'f' THEN 'is a foreign table'
            WHEN relkind <> 'r' THEN 'is no table'
            WHEN relpersistence = 'u' THEN 'is unlogged, so that a snapshot does not have its rows'
            WHEN relispartition THEN 'is a partition of another table'
            WHEN reloftype <> 0 THEN 'was made of a type'
            WHEN EXISTS (SELECT FROM pg_inherits WHERE c.oid IN (inhrelid, inhparent))
                THEN 'inherits, or is inherited from'
            WHEN EXISTS (SELECT FROM pg_depend
                    WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
                THEN 'belongs to an extension'
        END
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relname = %s
"""

# --- reshaping ----------------------------------------------------------------------------------------------


def reshape(copy: Cluster, table: SourceTable, place: TargetPlace) -> TableContent:
    """Make of the table, in the copy, the one that is to arrive at `place`; what to copy then.

    Its foreign keys are gone; its name and schema are the target's; its indexes, sequences and statistics have
    names that are free there.
    """
    with connect(copy, table.name.database) as session, session.transaction():
        _drop_foreign_keys(session, table)
        workshop = f"stillframe_{uuid.uuid4().hex}"
        _move_to_workshop(session, table, workshop)
        parts = _rename_parts(session, table, place, workshop)
        _rename_constraints(session, table, place, workshop)
        _alter(
            session, _Part(kind="TABLE", name=table.name.table), schema=workshop, new_name=place.name.table
        )
        _make_room(session, place, {place.name.table, *(part.name for part in parts)})
        for part in (_Part(kind="TABLE", name=place.name.table), *_statistics_of(parts)):
            _set_schema(session, part, schema=workshop, new_schema=place.name.schema)
        return content_of(session, place.name.schema, table.oid)


def _drop_foreign_keys(session: Session, table: SourceTable) -> None:
    keys = session.rows(
        "SELECT conname::text FROM pg_constraint WHERE conrelid = %s AND contype = 'f' AND conparentid = 0",
        (table.oid,),
    )
    for (name,) in keys:
        session.execute(
            sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
                sql.Identifier(table.name.schema, table.name.table), sql.Identifier(name)
            )
        )


def _move_to_workshop(session: Session, table: SourceTable, workshop: str) -> None:
    """To an empty schema, where no name is in the way of another; indexes and own sequences go along."""
    session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(workshop)))
    whole = _Part(kind="TABLE", name=table.name.table)
    _set_schema(session, whole, schema=table.name.schema, new_schema=workshop)
    for schema, name in session.rows(_STATISTICS, (table.oid,)):
        _set_schema(session, _Part(kind="STATISTICS", name=name), schema=schema, new_schema=workshop)


_STATISTICS = """
    SELECT nspname::text, stxname::text FROM pg_statistic_ext JOIN pg_namespace n ON n.oid = stxnamespace
    WHERE stxrelid = %s
"""


def _rename_parts(session: Session, table: SourceTable, place: TargetPlace, workshop: str) -> list[_Part]:
    """Indexes (with the constraints they carry), sequences and statistics; as they are called then."""
    parts = [_Part(kind=kind, name=name) for kind, name in session.rows(_PARTS, {"table": table.oid})]
    taken = {*place.taken, place.name.table, *(part.name for part in parts)}
    named = []
    for part in parts:
        wanted = renamed(part.name, old_table=table.name.table, new_table=place.name.table)
        # Its own name is free for itself, unless somebody has it in the target.
        others = taken if part.name in place.taken | {place.name.table} else taken - {part.name}
        new_name = free_name(wanted, others)
        _alter(session, part, schema=workshop, new_name=new_name)
        taken.add(new_name)
        named.append(_Part(kind=part.kind, name=new_name))
    return named


_PARTS = """
    SELECT 'INDEX', relname::text FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE indrelid = %(table)s
    UNION ALL
    SELECT 'SEQUENCE', relname::text FROM pg_depend JOIN pg_class c ON c.oid = objid AND relkind = 'S'
    WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND refobjid = %(table)s
    AND deptype IN ('a', 'i')
    UNION ALL
    SELECT 'STATISTICS', stxname::text FROM pg_statistic_ext WHERE stxrelid = %(table)s
    ORDER BY 1, 2
"""


def _rename_constraints(session: Session, table: SourceTable, place: TargetPlace, workshop: str) -> None:
    """Checks and NOT NULLs; their names matter within the table only."""
    names = [name for (name,) in session.rows(_CONSTRAINTS, (table.oid,))]
    taken = set(names)
    for name in names:
        wanted = renamed(name, old_table=table.name.table, new_table=place.name.table)
        if wanted != name:
            new_name = free_name(wanted, taken)
            taken.add(new_name)
            session.execute(
                sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}").format(
                    sql.Identifier(workshop, table.name.table), sql.Identifier(name), sql.Identifier(new_name)
                )
            )


_CONSTRAINTS = """
    SELECT conname::text FROM pg_constraint WHERE conrelid = %s AND contype IN ('c', 'n') ORDER BY 1
"""


def _make_room(session: Session, place: TargetPlace, names: set[str]) -> None:
    """The target's schema in the copy: there, and without anything of these names. They are not needed any more."""
    schema = place.name.schema
    session.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    for kind, name in session.rows(_IN_THE_WAY, {"schema": schema, "names": sorted(names)}):
        away = f"stillframe_{uuid.uuid4().hex}"
        _alter(session, _Part(kind=kind, name=name), schema=schema, new_name=away)


_IN_THE_WAY = """
    SELECT CASE WHEN relkind IN ('i', 'I') THEN 'INDEX' WHEN relkind = 'c' THEN 'TYPE' ELSE 'TABLE' END,
        relname::text
    FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = %(schema)s AND relname = ANY(%(names)s)
    UNION ALL
    SELECT 'TYPE', typname::text FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
    WHERE nspname = %(schema)s AND typname = ANY(%(names)s) AND typrelid = 0 AND typcategory <> 'A'
    UNION ALL
    SELECT 'STATISTICS', stxname::text FROM pg_statistic_ext JOIN pg_namespace n ON n.oid = stxnamespace
    WHERE nspname = %(schema)s AND stxname = ANY(%(names)s)
"""


def _statistics_of(parts: list[_Part]) -> Iterator[_Part]:
    """What a change of the table's schema leaves behind."""
    return (part for part in parts if part.kind == "STATISTICS")


_KINDS = {
    "TABLE": sql.SQL("TABLE"),
    "INDEX": sql.SQL("INDEX"),
    "SEQUENCE": sql.SQL("SEQUENCE"),
    "STATISTICS": sql.SQL("STATISTICS"),
    "TYPE": sql.SQL("TYPE"),
}


def _alter(session: Session, part: _Part, *, schema: str, new_name: str) -> None:
    if new_name == part.name:
        return
    session.execute(
        sql.SQL("ALTER {} {} RENAME TO {}").format(
            _KINDS[part.kind], sql.Identifier(schema, part.name), sql.Identifier(new_name)
        )
    )


def _set_schema(session: Session, part: _Part, *, schema: str, new_schema: str) -> None:
    session.execute(
        sql.SQL("ALTER {} {} SET SCHEMA {}").format(
            _KINDS[part.kind], sql.Identifier(schema, part.name), sql.Identifier(new_schema)
        )
    )

"""The rows of a table on their way from one server to another, and where its sequences stand."""

from dataclasses import dataclass

from psycopg import sql

from stillframe.domain.table_restore import TableName
from stillframe.postgres.connection import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """Where a sequence that belongs to the table stands."""

    schema: str
    name: str
    last_value: int
    is_called: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TableContent:
    """How the rows are copied, and what pg_dump leaves out when it is asked for one table.

    `columns` are those that hold data of their own; `binary` says in which form they travel; `statistics` are the
    statements that make the table's extended statistics.
    """

    columns: tuple[str, ...]
    binary: bool
    counters: tuple[Counter, ...]
    statistics: str


def content_of(session: Session, schema: str, table: int) -> TableContent:
    """What there is to copy of the table with this OID, which lies in `schema` with its sequences."""
    columns = session.rows(_COLUMNS, (table,))
    sequences = [name for (name,) in session.rows(_SEQUENCES, (table,))]
    return TableContent(
        columns=tuple(name for name, _ in columns),
        binary=all(portable for _, portable in columns),
        counters=tuple(_counter(session, schema, name) for name in sequences),
        statistics="".join(_statistics_script(*found) for found in session.rows(_STATISTICS, (table,))),
    )


# Binary values may hold OIDs: those of PostgreSQL's own types are the same everywhere, those of a user's types and
# what a reg... names are not. As text they are names.
_COLUMNS = """
    SELECT attname::text,
        t.oid < 10000 AND typsend <> 0 AND typname NOT LIKE 'reg%%' AND typname NOT LIKE '\\_reg%%'
        AND typname NOT LIKE '%%aclitem'
    FROM pg_attribute JOIN pg_type t ON t.oid = atttypid
    WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""

_SEQUENCES = """
    SELECT relname::text FROM pg_depend JOIN pg_class c ON c.oid = objid AND relkind = 'S'
    WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND refobjid = %s
    AND deptype IN ('a', 'i') ORDER BY 1
"""


_STATISTICS = """
    SELECT nspname::text, stxname::text, pg_get_statisticsobjdef(s.oid),
        (to_jsonb(s) ->> 'stxstattarget')::int, obj_description(s.oid, 'pg_statistic_ext')
    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = stxnamespace WHERE stxrelid = %s ORDER BY 2
"""


def _statistics_script(
    schema: str, name: str, definition: str, target: int | None, comment: str | None
) -> str:
    written = sql.Identifier(schema, name).as_string()
    script = f"{definition};\n"
    if target is not None and target >= 0:
        script += f"ALTER STATISTICS {written} SET STATISTICS {target};\n"
    if comment is not None:
        script += f"COMMENT ON STATISTICS {written} IS {sql.Literal(comment).as_string()};\n"
    return script


def _counter(session: Session, schema: str, name: str) -> Counter:
    last_value, is_called = session.row(
        sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(schema, name))
    )
    return Counter(schema=schema, name=name, last_value=last_value, is_called=is_called)


def set_counter(session: Session, counter: Counter) -> None:
    """Let a sequence of that name go on where the other one stood."""
    session.execute(
        "SELECT pg_catalog.setval(%s::pg_catalog.regclass, %s, %s)",
        (sql.Identifier(counter.schema, counter.name).as_string(), counter.last_value, counter.is_called),
    )


def leaving_rows(name: TableName, content: TableContent) -> sql.Composed:
    """The statement that sends the rows; whoever runs it sees all of them, or gets an error."""
    return _copy(name, content, sql.SQL("TO STDOUT"))


def arriving_rows(name: TableName, content: TableContent) -> sql.Composed:
    """The statement that takes what `leaving_rows` sends."""
    return _copy(name, content, sql.SQL("FROM STDIN"))


def _copy(name: TableName, content: TableContent, direction: sql.SQL) -> sql.Composed:
    columns = sql.SQL(", ").join(map(sql.Identifier, content.columns))
    # Without any column of its own a table still has rows, and COPY knows no empty list.
    listed = sql.SQL(" ({})").format(columns) if content.columns else sql.SQL("")
    return sql.SQL("COPY {}{} {} (FORMAT {})").format(
        sql.Identifier(name.schema, name.table),
        listed,
        direction,
        sql.SQL("binary") if content.binary else sql.SQL("text"),
    )

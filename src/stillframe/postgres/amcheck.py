"""What PostgreSQL says about its own tables and indexes: the checks of pg_amcheck, one relation at a time.

pg_amcheck's program calls the same functions; called here, each finding has a name, work can be counted and stopped
in between, and an index is also compared with its table row by row (`heapallindexed`).
"""

from dataclasses import dataclass

from psycopg import sql

from stillframe.errors import StillframeError
from stillframe.postgres.connection import Session

_MOST_OF_ONE_RELATION = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRelation:
    """A relation that has files. `path` is that of its first file, relative to the data directory; `size` in bytes.

    `checkable` says whether amcheck knows its kind, `countable` whether it holds rows of its own that SQL shows.
    """

    oid: int
    schema: str
    name: str
    kind: str
    path: str
    size: int
    shared: bool
    checkable: bool
    countable: bool

    @property
    def is_index(self) -> bool:
        """Whether it is an index."""
        return self.kind == "i"

    @property
    def title(self) -> str:
        """What it is and its full name, for a sentence."""
        what = {"i": "index", "S": "sequence", "m": "materialized view"}.get(self.kind, "table")
        return f"{what} {self.schema}.{self.name}"


def install_amcheck(session: Session) -> str:
    """Make amcheck's functions callable in this database, and return the schema they are in.

    Raises what creating an extension raises: ServerUnavailable when the installation does not have it.
    """
    session.execute("CREATE EXTENSION IF NOT EXISTS amcheck WITH SCHEMA pg_catalog")
    (schema,) = session.row(
        "SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'amcheck'"
    )
    return str(schema)


def stored_relations(session: Session) -> list[StoredRelation]:
    """Every relation of the database that has files, those of all databases among them; no temporary ones."""
    return [
        StoredRelation(
            oid=oid, schema=schema, name=name, kind=kind, path=path, size=size,
            shared=shared, checkable=checkable, countable=countable,
        )
        for oid, schema, name, kind, path, size, shared, checkable, countable in session.rows(_RELATIONS)
    ]  # fmt: skip


# As pg_amcheck chooses them: heaps, sequences (heaps that do not say so) and usable B-trees.
_RELATIONS = """
    SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, pg_relation_filepath(c.oid),
        coalesce(pg_relation_size(c.oid), 0), c.relisshared,
        c.relkind = 'S' OR (c.relkind IN ('r', 'm', 't') AND am.amname = 'heap')
            OR (c.relkind = 'i' AND am.amname = 'btree' AND i.indisvalid AND i.indisready AND i.indislive),
        c.relkind IN ('r', 'm') AND c.relispopulated AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_am am ON am.oid = c.relam LEFT JOIN pg_index i ON i.indexrelid = c.oid
    WHERE c.relkind IN ('r', 'm', 't', 'S', 'i') AND c.relpersistence <> 't'
    ORDER BY c.relkind = 'i', c.oid
"""


def check_relation(session: Session, schema: str, relation: StoredRelation) -> list[str]:
    """What is wrong with a `checkable` relation, a sentence each; at most some twenty. Raises ServerUnavailable
    when the connection is lost."""
    return (
        _check_index(session, schema, relation)
        if relation.is_index
        else _check_heap(session, schema, relation)
    )


def _check_heap(session: Session, schema: str, relation: StoredRelation) -> list[str]:
    statement = sql.SQL(
        "SELECT blkno, offnum, attnum, msg FROM {}.verify_heapam(%s::oid::regclass, check_toast => true) LIMIT %s"
    ).format(sql.Identifier(schema))
    try:
        rows = session.rows(statement, (relation.oid, _MOST_OF_ONE_RELATION))
    except StillframeError as error:
        return _as_finding(session, error)
    return [_place(block, item, column) + message for block, item, column, message in rows]


def _place(block: int | None, item: int | None, column: int | None) -> str:
    parts = [
        f"{name} {value}"
        for name, value in (("block", block), ("item", item), ("column", column))
        if value is not None
    ]
    return f"{', '.join(parts)}: " if parts else ""


def _check_index(session: Session, schema: str, relation: StoredRelation) -> list[str]:
    statement = sql.SQL("SELECT {}.bt_index_check(%s::oid::regclass, heapallindexed => true)").format(
        sql.Identifier(schema)
    )
    try:
        session.rows(statement, (relation.oid,))
    except StillframeError as error:
        return _as_finding(session, error)
    return []


def count_rows(session: Session, relation: StoredRelation) -> int | str:
    """How many rows a `countable` relation has by itself, or what keeps PostgreSQL from reading them all.

    Raises ServerUnavailable when the connection is lost.
    """
    statement = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(relation.schema, relation.name))
    try:
        (count,) = session.row(statement)
    except StillframeError as error:
        return _as_finding(session, error)[0]
    return int(count)


def strange_sequences(session: Session) -> list[str]:
    """The names of sequences that stand outside of their own bounds."""
    return [name for (name,) in session.rows(_STRANGE_SEQUENCES)]


_STRANGE_SEQUENCES = """
    SELECT format('%I.%I', n.nspname, c.relname)
    FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relpersistence <> 't' AND pg_sequence_last_value(s.seqrelid) NOT BETWEEN s.seqmin AND s.seqmax ORDER BY 1
"""


def unusable_indexes(session: Session) -> list[str]:
    """The names of indexes that are marked invalid, as an interrupted CREATE INDEX CONCURRENTLY leaves them."""
    return [name for (name,) in session.rows(_UNUSABLE_INDEXES)]


_UNUSABLE_INDEXES = """
    SELECT format('%I.%I', n.nspname, c.relname)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND c.relkind = 'i' ORDER BY 1
"""


def _as_finding(session: Session, error: StillframeError) -> list[str]:
    """A refusal of PostgreSQL is a finding; a lost connection is not."""
    if session.broken:
        raise error
    return [error.message]

"""The place a table is restored to: whether it is free, whose the table will be, how an attempt ended."""

from dataclasses import dataclass

from psycopg import sql

from stillframe.domain.table_restore import TableName, is_system_schema
from stillframe.errors import Conflict, InvalidRequest, NotFound
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import Session, connect
from stillframe.postgres.settings import SERVICE_ROLE


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPlace:
    """A schema of the target without a table of the wanted name; `taken` are the names that others have there."""

    name: TableName
    taken: frozenset[str]


def connect_for_users(cluster: Cluster, database: str, *, where: str = "") -> Session:
    """A session of the service's role in a database of the users; NotFound when there is none of that name.

    `where` completes the sentence. The service's own databases and templates count as none.
    """
    with connect(cluster) as session:
        found = session.rows(
            "SELECT 1 FROM pg_database WHERE datname = %s AND datallowconn AND NOT datistemplate"
            " AND pg_get_userbyid(datdba) <> %s",
            (database, SERVICE_ROLE),
        )
    if not found:
        raise NotFound(f"Database {database} does not exist{where}.", resource_name=database)
    return connect(cluster, database)


def find_place(cluster: Cluster, name: TableName) -> TargetPlace:
    """The target, when it is free. Raises NotFound (database, schema) and Conflict (the table exists)."""
    with connect_for_users(cluster, name.database) as session:
        if is_system_schema(name.schema):
            raise InvalidRequest(f"Schema {name.schema} belongs to PostgreSQL; no table is restored into it.")
        if not session.rows("SELECT 1 FROM pg_namespace WHERE nspname = %s", (name.schema,)):
            raise NotFound(
                f"Schema {name.schema} does not exist in database {name.database}.", resource_name=name.schema
            )
        taken = frozenset(found for (found,) in session.rows(_NAMES, {"schema": name.schema}))
        if name.table in taken:
            raise Conflict(
                f"{name.schema}.{name.table} already exists in database {name.database}.",
                hint="Rename or drop it, or restore the table under another name.",
            )
    return TargetPlace(name=name, taken=taken)


_NAMES = """
    SELECT relname::text FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %(schema)s
    UNION
    SELECT typname::text FROM pg_type JOIN pg_namespace n ON n.oid = typnamespace
    WHERE nspname = %(schema)s AND typcategory <> 'A'
    UNION
    SELECT stxname::text FROM pg_statistic_ext JOIN pg_namespace n ON n.oid = stxnamespace
    WHERE nspname = %(schema)s
"""


def choose_owner(cluster: Cluster, place: TableName, *, source_owner: str, admin: str) -> str:
    """The source's owner if there is such a user who may create in the schema, else the admin.

    Never a superuser or a role of PostgreSQL's own. Raises InvalidRequest when not even the admin may.
    """
    with connect_for_users(cluster, place.database) as session:
        for candidate in (source_owner, admin):
            if session.rows(_MAY_OWN, {"role": candidate, "schema": place.schema}):
                return candidate
    raise InvalidRequest(
        f"Neither {source_owner}, the table's owner, nor the admin user {admin} may create tables in schema "
        f"{place.schema} of database {place.database}.",
        hint=f"Grant {admin} USAGE and CREATE on that schema.",
    )


_MAY_OWN = """
    SELECT 1 FROM pg_roles r, pg_namespace n
    WHERE rolname = %(role)s AND nspname = %(schema)s AND NOT rolsuper AND NOT starts_with(rolname, 'pg_')
    AND has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_schema_privilege(r.oid, n.oid, 'CREATE')
"""


def has_arrived(cluster: Cluster, name: TableName, *, transaction: int) -> bool:
    """Whether that transaction (a full, 64-bit number) of this cluster was committed, and the table is there.

    Both, because a server that crashes may give a number again that it had only just begun (pg_xact_status()).
    """
    with connect(cluster) as session:
        ((status,),) = session.rows(_STATUS, (str(transaction),))
    if status != "committed":
        return False
    with connect_for_users(cluster, name.database) as session:
        return bool(session.rows(_TABLE, (name.schema, name.table)))


_STATUS = """
    SELECT CASE WHEN number < pg_snapshot_xmax(pg_current_snapshot()) THEN pg_xact_status(number) END
    FROM (SELECT %s::text::xid8 AS number) AS given
"""

_TABLE = """
    SELECT 1 FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = %s AND relname = %s AND relkind = 'r'
"""


def current_transaction(session: Session) -> int:
    """The number of the transaction that the session is in, as `has_committed` takes it."""
    (number,) = session.row(sql.SQL("SELECT pg_catalog.pg_current_xact_id()::text"))
    return int(number)

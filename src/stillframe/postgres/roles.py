"""Roles and databases as a namespace's users see them, made so that SQL never reaches the machine.

The admin is no superuser: it may create databases and roles, and act for every role it created, and read and
write all data, like a Redshift admin; it holds no right that leads to files, programs or the network.
"""

from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from stillframe.errors import Conflict, NotFound
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import Session, connect
from stillframe.postgres.settings import SERVICE_ROLE

ADMIN_RIGHTS = (
    "pg_read_all_data",
    "pg_write_all_data",
    "pg_read_all_stats",
    "pg_stat_scan_tables",
    "pg_signal_backend",
    "pg_maintain",
)
"""Predefined roles of an admin. Left out on purpose: all about server files and programs, subscriptions and
checkpoints, and pg_monitor and pg_read_all_settings, which show the machine's paths and files."""

TEMPORARY_PREFIXES = ("IAM:", "IAMR:")
"""Database users that GetCredentials makes begin like this: for an IAM user, for an IAM role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database of a cluster. `size` in bytes on disk; `system` are those that belong to the service."""

    name: str
    oid: int
    owner: str
    size: int
    system: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role of a cluster other than PostgreSQL's own and the service's."""

    name: str
    login: bool
    create_database: bool
    create_role: bool
    valid_until: datetime | None


def prepare_namespace(cluster: Cluster, *, admin: str, verifier: str, database: str) -> None:
    """Give a new cluster its admin and its first database, owned by the admin.

    Raises Conflict when the role or the database exists, InvalidRequest for a reserved name.
    """
    _prepare_template(cluster)
    with connect(cluster) as session:
        create_admin(session, name=admin, verifier=verifier)
        create_database(session, name=database, owner=admin)


def _prepare_template(cluster: Cluster) -> None:
    """What every new database of the cluster starts with, and whom the service's own databases let in.

    In Redshift everybody may create in `public`. The machine's own collations go: an index sorted by them
    would be wrong on another machine.
    """
    with connect(cluster, "template1") as session:
        session.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
        for (name,) in session.rows(_MACHINE_COLLATIONS):
            session.execute(sql.SQL("DROP COLLATION pg_catalog.{}").format(sql.Identifier(name)))
    with connect(cluster) as session:
        session.execute("REVOKE CONNECT, TEMPORARY ON DATABASE template1, postgres FROM PUBLIC")


_MACHINE_COLLATIONS = """
    SELECT collname FROM pg_collation
    WHERE collprovider = 'c' AND collcollate NOT IN ('C', 'POSIX')
    AND collnamespace = 'pg_catalog'::regnamespace
"""


def create_admin(session: Session, *, name: str, verifier: str) -> None:
    """Create the namespace's admin. Raises Conflict when it exists, InvalidRequest for a reserved name."""
    role = sql.Identifier(name)
    rights = sql.SQL(", ").join(map(sql.Identifier, ADMIN_RIGHTS))
    with session.transaction():
        session.execute(
            sql.SQL(
                "CREATE ROLE {} LOGIN CREATEDB CREATEROLE NOSUPERUSER NOREPLICATION NOBYPASSRLS PASSWORD {}"
            ).format(role, sql.Literal(verifier)),
        )
        session.execute(sql.SQL("GRANT {} TO {} WITH ADMIN OPTION").format(rights, role))


def create_database(session: Session, *, name: str, owner: str) -> None:
    """Create a database of that owner. Raises Conflict when it exists, NotFound when the owner does not."""
    session.execute(
        sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner))
    )


def set_password(session: Session, *, role: str, verifier: str) -> None:
    """Replace a role's password. Raises NotFound."""
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
    session.execute(statement)


def rename_role(session: Session, *, old: str, new: str) -> None:
    """Rename a role; its password, rights and objects stay. Raises NotFound, Conflict, InvalidRequest."""
    session.execute(sql.SQL("ALTER ROLE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))


def grant_temporary_login(
    session: Session,
    *,
    name: str,
    verifier: str,
    valid_until: datetime,
    admin: str,
) -> None:
    """Let a database user log in until then; created when missing, with PUBLIC's rights only.

    The admin may act for it, and drop what it leaves behind. Raises Conflict when a role of this name that is
    no temporary user exists, NotFound when there is no such admin.
    """
    if not name.startswith(TEMPORARY_PREFIXES):
        raise Conflict(f"The role {name} is not a temporary user")
    options = sql.SQL("LOGIN PASSWORD {} VALID UNTIL {}").format(
        sql.Literal(verifier), sql.Literal(valid_until.isoformat())
    )
    role = sql.Identifier(name)
    with session.transaction():
        known = session.rows("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
        verb = sql.SQL("ALTER") if known else sql.SQL("CREATE")
        session.execute(sql.SQL("{} ROLE {} {}").format(verb, role, options))
        session.execute(
            sql.SQL("GRANT {} TO {} WITH ADMIN TRUE, INHERIT TRUE, SET TRUE").format(
                role, sql.Identifier(admin)
            ),
        )


def drop_expired_logins(session: Session, *, now: datetime) -> list[str]:
    """Drop the temporary users whose time is over, and return their names.

    One that owns objects or holds rights is kept, without a password: dropping must not take data along.
    """
    expired = session.rows(
        "SELECT rolname FROM pg_roles WHERE (starts_with(rolname, 'IAM:') OR starts_with(rolname, 'IAMR:'))"
        " AND rolvaliduntil < %s ORDER BY rolname",
        (now,),
    )
    return [name for (name,) in expired if _drop_or_disable(session, name)]


def _drop_or_disable(session: Session, name: str) -> bool:
    role = sql.Identifier(name)
    try:
        session.execute(sql.SQL("DROP ROLE {}").format(role))
    except Conflict:
        session.execute(sql.SQL("ALTER ROLE {} PASSWORD NULL").format(role))
        return False
    except NotFound:
        return False
    return True


def list_databases(session: Session) -> list[Database]:
    """All databases one can connect to, by name, with their sizes on disk."""
    rows = session.rows(
        "SELECT datname, oid::int8, pg_get_userbyid(datdba)::text, pg_database_size(oid)"
        " FROM pg_database WHERE datallowconn ORDER BY datname",
    )
    return [
        Database(name=name, oid=oid, owner=owner, size=size, system=owner == SERVICE_ROLE)
        for name, oid, owner, size in rows
    ]


def database_names(session: Session) -> dict[int, str]:
    """All databases one can connect to, by their numbers, in the order of their names."""
    rows = session.rows("SELECT oid::int8, datname FROM pg_database WHERE datallowconn ORDER BY datname")
    return dict(rows)


def list_roles(session: Session) -> list[Role]:
    """All roles that users made or that were made for them, by name."""
    rows = session.rows(
        "SELECT rolname, rolcanlogin, rolcreatedb, rolcreaterole, nullif(rolvaliduntil, 'infinity')"
        " FROM pg_roles WHERE NOT starts_with(rolname, 'pg_') AND rolname <> %s ORDER BY rolname",
        (SERVICE_ROLE,),
    )
    return [
        Role(name=name, login=login, create_database=databases, create_role=roles, valid_until=until)
        for name, login, databases, roles, until in rows
    ]

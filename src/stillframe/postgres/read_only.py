"""A running copy that nobody can write to, whatever rights its roles have, and a login that may read all of it.

The copy is started as a standby that follows nothing: PostgreSQL itself refuses every write during recovery, and no
client can ask for anything else (PreventCommandIfReadOnly()). Privileges alone would not do:
users may have granted anything to PUBLIC.
"""

from collections.abc import Sequence
from dataclasses import replace

from psycopg import sql

from stillframe.errors import StoredDataCorrupt
from stillframe.postgres.cluster import STANDBY_FILE, Cluster
from stillframe.postgres.connection import connect
from stillframe.postgres.osfiles import publish
from stillframe.postgres.settings import SERVICE_ROLE, ServerSettings

_LOGINS = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname NOT IN (%s, %s)"


def create_read_login(cluster: Cluster, *, name: str, verifier: str, admin: str) -> None:
    """Let a role log in that reads every row of every database, past row security; beside it only `admin` may.

    Who could log in when the snapshot was taken may have lost that right since. `verifier` is that of the new
    role's password (`scram_verifier`). Raises Conflict when there is a role of that name.
    """
    role = sql.Identifier(name)
    with connect(cluster) as session, session.transaction():
        for (role_name,) in session.rows(_LOGINS, (SERVICE_ROLE, admin)):
            session.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role_name)))
        session.execute(
            sql.SQL(
                "CREATE ROLE {} LOGIN INHERIT BYPASSRLS NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD {}"
            ).format(role, sql.Literal(verifier))
        )
        session.execute(sql.SQL("GRANT pg_read_all_data TO {} WITH INHERIT TRUE").format(role))
        session.execute(sql.SQL("GRANT pg_read_all_stats TO {} WITH INHERIT TRUE").format(role))


def restart_read_only(
    cluster: Cluster, settings: ServerSettings, *, deadline: float = 60, inherited: Sequence[int] = ()
) -> int:
    """Stop the running server and start it again so that nothing in it can be changed any more; its pid.

    Its directory is a standby's from then on. `inherited` as in `Cluster.start`. Raises ServerUnavailable when it
    does not come up, StoredDataCorrupt when it came up writable (it is stopped then).
    """
    cluster.stop()
    publish(cluster.data_directory / STANDBY_FILE, b"", owner=cluster.identity.owner)
    pid = cluster.start(_following_nothing(settings), deadline=deadline, inherited=inherited)
    with connect(cluster) as session:
        (read_only,) = session.row("SELECT pg_is_in_recovery()")
    if not read_only:
        cluster.stop()
        raise StoredDataCorrupt("The copy that was to be read-only came up writable")
    return pid


def _following_nothing(settings: ServerSettings) -> ServerSettings:
    return replace(
        settings,
        extra={
            **settings.extra,
            "hot_standby": "on",
            "primary_conninfo": "",
            # There is no more WAL, here or elsewhere; asking now and then is all a standby does.
            "restore_command": "",
            "wal_retrieve_retry_interval": "1h",
            "recovery_target_timeline": "current",
        },
    )

"""What a namespace's admin can do like a Redshift admin, and that nothing leads from SQL to the machine."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from stillframe.errors import Conflict, InvalidRequest, NotFound
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import connect
from stillframe.postgres.roles import (
    create_admin,
    drop_expired_logins,
    grant_temporary_login,
    list_databases,
    list_roles,
    rename_role,
    set_password,
)
from stillframe.postgres.scram import random_password, scram_verifier
from support.postgres import ADMIN, PASSWORD, login

pytestmark = pytest.mark.integration

FORBIDDEN = {
    "a program by COPY": "COPY (SELECT 1) TO PROGRAM 'id'",
    "a program's output by COPY": "COPY pg_class FROM PROGRAM 'id'",
    "writing a file by COPY": "COPY (SELECT 1) TO '/nowhere/escape'",
    "reading a file by COPY": "CREATE TEMP TABLE t (line text); COPY t FROM '/etc/passwd'",
    "pg_read_file": "SELECT pg_read_file('PG_VERSION')",
    "pg_read_binary_file": "SELECT pg_read_binary_file('global/pg_control')",
    "pg_ls_dir": "SELECT pg_ls_dir('.')",
    "pg_ls_logdir": "SELECT pg_ls_logdir()",
    "pg_stat_file": "SELECT pg_stat_file('/etc/passwd')",
    "pg_hba_file_rules": "SELECT * FROM pg_hba_file_rules",
    "the data directory's path": "SHOW data_directory",
    "lo_import": "SELECT lo_import('/etc/passwd')",
    "lo_export": "SELECT lo_export(lo_create(0), '/nowhere/escape')",
    "file_fdw": "CREATE EXTENSION file_fdw",
    "dblink": "CREATE EXTENSION dblink",
    "postgres_fdw": "CREATE EXTENSION postgres_fdw",
    "pageinspect": "CREATE EXTENSION pageinspect",
    "a C function": "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'libc', 'system'",
    "an internal function": "CREATE FUNCTION f() RETURNS text LANGUAGE internal AS 'pg_read_file_all'",
    "a new language": "CREATE LANGUAGE mine HANDLER plpgsql_call_handler",
    "loading a library": "LOAD 'auto_explain'",
    "loading a library at login": f"ALTER ROLE {ADMIN} SET session_preload_libraries = 'auto_explain'",
    "ALTER SYSTEM": "ALTER SYSTEM SET work_mem = '1MB'",
    "reloading the server": "SELECT pg_reload_conf()",
    "SET ROLE stillframe": "SET ROLE stillframe",
    "SET SESSION AUTHORIZATION": "SET SESSION AUTHORIZATION stillframe",
    "membership of the service's role": f"GRANT stillframe TO {ADMIN}",
    "a password for the service's role": "ALTER ROLE stillframe PASSWORD 'x'",
    "a superuser": "CREATE ROLE boss SUPERUSER",
    "becoming a superuser": f"ALTER ROLE {ADMIN} SUPERUSER",
    "replication": "CREATE ROLE copier REPLICATION",
    "bypassing row security": "CREATE ROLE sneaky BYPASSRLS",
    "granting programs": f"GRANT pg_execute_server_program TO {ADMIN}",
    "granting files": "CREATE ROLE x1; GRANT pg_read_server_files TO x1",
    "granting writing files": f"GRANT pg_write_server_files TO {ADMIN}",
    "granting subscriptions": f"GRANT pg_create_subscription TO {ADMIN}",
    "a role in a predefined role": "CREATE ROLE x2 IN ROLE pg_execute_server_program",
    "event triggers": (
        "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        " CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION e()"
    ),
    "subscriptions": "CREATE SUBSCRIPTION s CONNECTION 'host=192.0.2.1' PUBLICATION p",
    "tablespaces": "CREATE TABLESPACE elsewhere LOCATION '/nowhere'",
    "in-place tablespaces": "CREATE TABLESPACE here LOCATION ''",
    "replication slots": "SELECT pg_create_physical_replication_slot('s')",
    "backups": "SELECT pg_backup_start('mine')",
    "switching WAL": "SELECT pg_switch_wal()",
    "promoting": "SELECT pg_promote()",
    "changing a catalog": "UPDATE pg_authid SET rolsuper = true",
    "system tables": "SET allow_system_table_mods = on",
    "ending the service's sessions": (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'stillframe' LIMIT 1"
    ),
}


@pytest.mark.parametrize("statement", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_an_admin_gets_no_way_to_the_machine(namespace: Cluster, statement: str) -> None:
    # A session of the service, so that there is one to be protected.
    with connect(namespace), login(namespace) as admin, pytest.raises(psycopg.Error) as refused:
        _all_of(admin, statement)
    assert isinstance(
        refused.value,
        (
            psycopg.errors.InsufficientPrivilege,
            psycopg.errors.FeatureNotSupported,
            psycopg.errors.CantChangeRuntimeParam,
            psycopg.errors.SyntaxError,
            psycopg.errors.InvalidParameterValue,
        ),
    ), refused.value


def _all_of(admin: "psycopg.Connection[tuple[object, ...]]", statement: str) -> None:
    for part in statement.split("; "):
        admin.execute(part.encode())


def test_the_servers_own_user_may_not_log_in_as_the_services_role(namespace: Cluster) -> None:
    if not namespace.identity.switch:
        pytest.skip("without root the server runs as the service's own user")
    psql = namespace.installation.program("psql")
    target = f"host={namespace.socket_directory} user=stillframe dbname=postgres"
    tried = namespace.identity.run([str(psql), "-w", "-c", "SELECT 1", target], deadline=20)
    assert tried.returncode == 2
    assert "Peer authentication failed" in tried.stderr


def test_replication_is_closed_to_users(namespace: Cluster) -> None:
    with pytest.raises(psycopg.OperationalError, match="rejects replication"):
        psycopg.connect(
            host=str(namespace.socket_directory),
            user=ADMIN,
            password=PASSWORD,
            dbname="dev",
            replication="true",
        )


def test_an_admin_manages_databases_roles_and_what_they_own(namespace: Cluster) -> None:
    with login(namespace) as admin:
        admin.execute("CREATE DATABASE sales")
        admin.execute("CREATE ROLE bob LOGIN PASSWORD 'Bobs1password'")
        admin.execute("GRANT ALL ON DATABASE sales TO bob")
    with login(namespace, "bob", "Bobs1password", database="sales") as bob:
        bob.execute("CREATE SCHEMA own")
        bob.execute("CREATE TABLE own.t AS SELECT 1 AS n")
        bob.execute("CREATE TABLE public.u AS SELECT 2 AS n")
    with login(namespace, database="sales") as admin:
        assert admin.execute("SELECT n FROM own.t").fetchone() == (1,)
        admin.execute("INSERT INTO own.t VALUES (5)")
        admin.execute("ALTER TABLE own.t ADD COLUMN m int")
        admin.execute("DROP SCHEMA own CASCADE")
        admin.execute("DROP TABLE public.u")
        admin.execute("VACUUM")
        admin.execute("REVOKE ALL ON DATABASE sales FROM bob")
        admin.execute("DROP ROLE bob")
    with login(namespace) as admin:
        admin.execute("DROP DATABASE sales")


def test_trusted_extensions_can_be_used(namespace: Cluster) -> None:
    with login(namespace) as admin:
        admin.execute("CREATE EXTENSION hstore")
        admin.execute("DROP EXTENSION hstore")


def test_users_stay_out_of_the_services_databases(namespace: Cluster) -> None:
    for database in ("postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            login(namespace, database=database)


def test_a_password_can_be_replaced_and_is_stored_nowhere(namespace: Cluster) -> None:
    fresh = random_password()
    with connect(namespace) as session:
        create_admin(session, name="second", verifier=scram_verifier("First1password"))
        set_password(session, role="second", verifier=scram_verifier(fresh))
        stored = session.row("SELECT rolpassword FROM pg_authid WHERE rolname = 'second'")[0]
    assert fresh not in stored
    login(namespace, "second", fresh).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        login(namespace, "second", "First1password")


@pytest.mark.parametrize(
    "password", ["Plain1ascii", "Grüße1Ω", "ﬀ1Ligature", "soft\u00adhyphen1A", "\u0627\u0031 1mixed"]
)
def test_the_server_agrees_with_our_verifier_of_any_password(namespace: Cluster, password: str) -> None:
    with connect(namespace) as session:
        session.execute("CREATE ROLE polyglot LOGIN")
        try:
            set_password(session, role="polyglot", verifier=scram_verifier(password))
            login(namespace, "polyglot", password).close()
        finally:
            session.execute("DROP ROLE polyglot")


def test_a_renamed_admin_keeps_password_and_rights(namespace: Cluster) -> None:
    with connect(namespace) as session:
        create_admin(session, name="before", verifier=scram_verifier(PASSWORD))
        rename_role(session, old="before", new="after")
        with login(namespace, "after") as admin:
            admin.execute("CREATE ROLE child")
            admin.execute("DROP ROLE child")
        with pytest.raises(NotFound):
            rename_role(session, old="before", new="other")
        with pytest.raises(Conflict):
            rename_role(session, old="after", new=ADMIN)
        with pytest.raises(InvalidRequest):
            rename_role(session, old="after", new="pg_mine")


def test_a_temporary_user_logs_in_until_its_time_is_over(namespace: Cluster) -> None:
    now = datetime.now(UTC)
    secret = random_password()
    with connect(namespace) as session:
        for moment, works in ((now + timedelta(minutes=15), True), (now - timedelta(seconds=1), False)):
            grant_temporary_login(
                session, name="IAM:ann", verifier=scram_verifier(secret), valid_until=moment, admin=ADMIN
            )
            if works:
                login(namespace, "IAM:ann", secret).close()
            else:
                with pytest.raises(psycopg.OperationalError):
                    login(namespace, "IAM:ann", secret)
        assert "IAM:ann" in {role.name for role in list_roles(session)}
        assert drop_expired_logins(session, now=now) == ["IAM:ann"]
        assert drop_expired_logins(session, now=now) == []


def test_an_expired_user_that_owns_data_is_kept_and_the_admin_can_take_it_over(namespace: Cluster) -> None:
    now = datetime.now(UTC)
    with connect(namespace) as session:
        verifier = scram_verifier(PASSWORD)
        grant_temporary_login(
            session, name="IAM:owner", verifier=verifier, valid_until=now + timedelta(hours=1), admin=ADMIN
        )
        with login(namespace, "IAM:owner") as owner:
            owner.execute("CREATE TABLE hers (n int)")
        assert drop_expired_logins(session, now=now + timedelta(days=1)) == []
        with pytest.raises(psycopg.OperationalError):
            login(namespace, "IAM:owner")
        with login(namespace) as admin:
            admin.execute('REASSIGN OWNED BY "IAM:owner" TO admin')
            admin.execute("DROP TABLE hers")
        assert drop_expired_logins(session, now=now + timedelta(days=1)) == ["IAM:owner"]


def test_an_ordinary_role_is_never_made_a_temporary_one(namespace: Cluster) -> None:
    with connect(namespace) as session, pytest.raises(Conflict):
        grant_temporary_login(
            session, name=ADMIN, verifier=scram_verifier("x"), valid_until=datetime.now(UTC), admin=ADMIN
        )


def test_databases_are_listed_with_owner_and_size(namespace: Cluster) -> None:
    with connect(namespace) as session:
        found = {database.name: database for database in list_databases(session)}
    assert found["dev"].owner == ADMIN
    assert not found["dev"].system
    assert found["postgres"].system
    assert found["dev"].size > 1_000_000


def test_settings_of_a_users_database_do_not_reach_the_services_sessions(namespace: Cluster) -> None:
    with login(namespace) as admin:
        admin.execute("CREATE ROLE trap")
        admin.execute("ALTER DATABASE dev SET role = 'trap'")
        admin.execute("ALTER DATABASE dev SET search_path = 'public'")
        admin.execute("ALTER DATABASE dev SET default_transaction_read_only = on")
        admin.execute("ALTER DATABASE dev SET statement_timeout = 1")
    try:
        with connect(namespace, "dev") as session:
            assert session.row("SELECT current_user, current_setting('search_path')") == (
                "stillframe",
                "pg_catalog",
            )
            assert (
                session.row("SELECT current_setting('transaction_read_only'), pg_sleep(0.05)::text")[0]
                == "off"
            )
    finally:
        with connect(namespace) as session:
            session.execute("ALTER DATABASE dev RESET ALL")
            session.execute("DROP ROLE trap")

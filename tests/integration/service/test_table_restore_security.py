"""Code that users put into a table never runs with more rights than the table's owner has."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.service import Service, Warehouse, account, service, warehouse_of
from support.table_restores import ask_for_table, bring_table, ended_table_restore, leftovers

__all__ = ["account", "service"]

pytestmark = pytest.mark.integration

ATTEMPTS = (
    "ALTER ROLE mallory SUPERUSER",
    "ALTER ROLE mallory CREATEROLE",
    "GRANT admin TO mallory",
    "GRANT pg_execute_server_program TO mallory",
    "GRANT stillframe TO mallory",
    "COPY public.seen TO PROGRAM 'touch {proof}'",
    "COPY public.seen TO '{proof}'",
    "SET SESSION AUTHORIZATION stillframe",
    "SET SESSION AUTHORIZATION DEFAULT; ALTER ROLE mallory SUPERUSER",
    "SET ROLE admin",
    "SET ROLE stillframe",
)

RECORD = """
    INSERT INTO public.seen
    SELECT place, current_user, session_user, current_setting('is_superuser'), r.rolsuper, s.rolsuper
    FROM pg_catalog.pg_roles r, pg_catalog.pg_roles s
    WHERE r.rolname = current_user AND s.rolname = session_user;
"""


def _attack(proof: Path) -> str:
    """A volatile function, because others may change nothing; it says as whom it ran, then tries everything."""
    attempts = "".join(
        f"BEGIN EXECUTE $x${text.format(proof=proof)}$x$; EXCEPTION WHEN OTHERS THEN NULL; END;\n"
        for text in ATTEMPTS
    )
    return f"""CREATE FUNCTION public.attack(place text) RETURNS void LANGUAGE plpgsql AS
        $f$ BEGIN
            BEGIN {RECORD} EXCEPTION WHEN OTHERS THEN NULL; END;
            {attempts}
        END $f$"""


def _trigger_of_attack(place: str, *, extra: str = "") -> str:
    """What looks immutable, as indexes and generated columns want it."""
    return f"""CREATE FUNCTION public.evil_{place}(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
        $f$ BEGIN PERFORM public.attack('{place}'); {extra} RETURN $1; END $f$"""


@pytest.fixture(scope="module")
def trap(service: Service) -> Iterator[tuple[Warehouse, Path]]:
    """A warehouse whose user mallory has tables full of code, a snapshot of it, and the file that must not appear."""
    with tempfile.TemporaryDirectory(prefix="sf-trap-") as directory:
        Path(directory).chmod(0o777)
        proof = Path(directory) / "proof"
        with warehouse_of(service.account(), "trap") as made:
            made.query("CREATE ROLE mallory LOGIN PASSWORD 'Mallory1Pass'")
            with made.connect(user="mallory", password="Mallory1Pass") as connection:
                connection.execute(
                    "CREATE TABLE seen (place text, current text, session text, setting text, super bool, deep bool)"
                )
                connection.execute(_attack(proof).encode())
                for place in ("check", "default", "index", "policy", "generated"):
                    connection.execute(_trigger_of_attack(place).encode())
                connection.execute(
                    _trigger_of_attack("reset", extra="PERFORM set_config('role', 'none', false);").encode()
                )
                for statement in (
                    """CREATE TABLE bait (
                        n int CHECK (public.evil_check(n) IS NOT NULL),
                        d int DEFAULT public.evil_default(1),
                        g int GENERATED ALWAYS AS (public.evil_generated(n)) STORED)""",
                    "INSERT INTO bait (n) SELECT generate_series(1, 5)",
                    "CREATE INDEX ON bait (public.evil_index(n))",
                    "CREATE POLICY p ON bait USING (public.evil_policy(n) > 0)",
                    "ALTER TABLE bait ENABLE ROW LEVEL SECURITY",
                    "ALTER TABLE bait FORCE ROW LEVEL SECURITY",
                    "CREATE TABLE escaping (n int CHECK (public.evil_reset(n) IS NOT NULL))",
                    "INSERT INTO escaping SELECT generate_series(1, 3)",
                    "CREATE INDEX ON escaping (n)",
                    "TRUNCATE seen",
                ):
                    connection.execute(statement.encode())
            made.snapshot("good")
            yield made, proof


def _check_harmless(made: Warehouse, proof: Path) -> None:
    rights = "SELECT rolsuper, rolcreaterole, rolcanlogin FROM pg_roles WHERE rolname = 'mallory'"
    assert made.query(rights) == [(False, False, True)]
    assert made.query("SELECT count(*) FROM pg_auth_members WHERE member = 'mallory'::regrole") == [(0,)]
    assert made.query("SELECT rolname FROM pg_roles WHERE rolsuper") == [("stillframe",)]
    assert not proof.exists()
    assert leftovers(made) == []


def test_code_in_checks_defaults_and_indexes_runs_as_the_owner_in_nobody_s_session(
    trap: tuple[Warehouse, Path],
) -> None:
    made, proof = trap
    bring_table(made, "bait", "bait_back")
    _check_harmless(made, proof)
    seen = made.query("SELECT DISTINCT place, current, setting, super, deep, session FROM seen ORDER BY 1")
    assert {row[0] for row in seen} == {"check", "generated", "index"}
    assert {row[1:5] for row in seen} == {("mallory", "off", False, False)}
    assert all(row[5].startswith("stillframe_table_") for row in seen)
    assert made.query("SELECT tableowner FROM pg_tables WHERE tablename = 'bait_back'") == [("mallory",)]
    assert made.query("SELECT count(*) FROM pg_indexes WHERE tablename = 'bait_back'") == [(1,)]


def test_code_that_leaves_the_owner_s_role_gets_nowhere_and_fails_the_request(
    trap: tuple[Warehouse, Path],
) -> None:
    made, proof = trap
    asked = ask_for_table(made, "escaping", "escaped")
    ended = ended_table_restore(made.client, asked["tableRestoreRequestId"])
    assert ended["status"] == "FAILED"
    assert "must be owner of table escaped" in ended["message"]
    _check_harmless(made, proof)
    assert made.query("SELECT to_regclass('escaped')") == [(None,)]

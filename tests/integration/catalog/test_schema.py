"""Migrations and tables are two descriptions of one schema, and any number of starts leads to it."""

import threading
import typing
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
import sqlalchemy as sa
from procrastinate.schema import migrations_path

from stillframe.catalog import Catalog, job_schema, schema
from stillframe.catalog.tables import METADATA
from stillframe.errors import FormatUnknown
from support.catalog import rows

pytestmark = pytest.mark.integration

COLUMNS = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
"""
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
FUNCTIONS = """
    SELECT 'function', oid::regprocedure::text, prosrc FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace
"""
DESCRIPTIONS: tuple[typing.LiteralString, ...] = (COLUMNS, CONSTRAINTS, INDEXES)


def _ours(conninfo: str) -> list[set[tuple[object, ...]]]:
    return [{row for row in rows(conninfo, query) if row[0] in METADATA.tables} for query in DESCRIPTIONS]


def _theirs(conninfo: str) -> list[set[tuple[object, ...]]]:
    found = [
        {row for row in rows(conninfo, query) if str(row[0]).startswith("procrastinate")}
        for query in DESCRIPTIONS
    ]
    return [*found, set(rows(conninfo, FUNCTIONS))]


def _migrated(conninfo: str) -> None:
    with closing(Catalog(conninfo)) as catalog:
        catalog.migrate()


def test_migrations_build_what_the_tables_say(empty: str, conninfo: str) -> None:
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(empty))
    METADATA.create_all(engine)
    engine.dispose()
    from_tables, from_migrations = _ours(empty), _ours(conninfo)
    assert from_migrations == from_tables
    assert {row[0] for row in from_migrations[0]} == set(METADATA.tables)


def test_the_list_of_revisions_is_complete(empty: str) -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "stillframe.catalog:migrations")
    config.set_main_option("path_separator", "os")
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == schema.REVISIONS
    _migrated(empty)
    assert rows(empty, "SELECT version_num FROM alembic_version") == [(schema.REVISIONS[-1],)]


def test_migrating_again_changes_nothing(conninfo: str) -> None:
    before = rows(conninfo, "SELECT xmin, version_num FROM alembic_version")
    _migrated(conninfo)
    assert rows(conninfo, "SELECT xmin, version_num FROM alembic_version") == before


def test_services_that_start_together_take_turns(empty: str) -> None:
    together = threading.Barrier(4)

    def migrate(_: int) -> None:
        together.wait(20)
        _migrated(empty)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(migrate, range(4)))
    assert rows(empty, "SELECT count(*) FROM job_schema") == [(1,)]


def test_a_failed_migration_leaves_nothing(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_schema, "installed_version", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _migrated(empty)
    assert rows(empty, "SELECT * FROM pg_tables WHERE schemaname = 'public'") == []


def test_a_catalog_of_a_newer_release_is_left_alone(conninfo: str) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(FormatUnknown, match="9999"):
        _migrated(conninfo)


def test_the_job_queue_is_brought_up_to_date_when_its_library_is(empty: str, conninfo: str) -> None:
    """An old queue (its tables as of an earlier change) and a new one end in the same schema."""
    changes = sorted(migrations_path.glob("*.sql"), key=lambda path: path.name)
    old = next(index for index, path in enumerate(changes) if path.name.startswith("03.02"))
    _migrated(empty)
    with psycopg.connect(empty) as connection:
        _drop_the_queue(connection)
        for change in changes[:old]:
            connection.execute(change.read_bytes())
        connection.execute("UPDATE job_schema SET version = %s", [changes[old - 1].name])
    assert _theirs(empty) != _theirs(conninfo)
    _migrated(empty)
    assert rows(empty, "SELECT version FROM job_schema") == [(job_schema.installed_version(),)]
    assert _names(_theirs(empty)) >= _names(_theirs(conninfo))


def _drop_the_queue(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    """Everything of procrastinate's and nothing of ours."""
    connection.execute(
        """
        DO $$ DECLARE it record; BEGIN
            FOR it IN SELECT oid::regclass AS name FROM pg_class
                      WHERE relname LIKE 'procrastinate%' AND relkind = 'r' LOOP
                EXECUTE 'DROP TABLE ' || it.name || ' CASCADE';
            END LOOP;
            FOR it IN SELECT oid::regprocedure AS name FROM pg_proc WHERE proname LIKE 'procrastinate%' LOOP
                EXECUTE 'DROP FUNCTION ' || it.name || ' CASCADE';
            END LOOP;
            FOR it IN SELECT typname AS name FROM pg_type
                      WHERE typname LIKE 'procrastinate%' AND typtype IN ('e', 'c') LOOP
                EXECUTE 'DROP TYPE ' || it.name || ' CASCADE';
            END LOOP;
        END $$
        """
    )


def _names(descriptions: list[set[tuple[object, ...]]]) -> set[tuple[object, ...]]:
    return {row[:2] for description in descriptions for row in description}

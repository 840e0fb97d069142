"""The job queue's own tables: created with the catalog, and carried along when the library changes them.

procrastinate ships its schema as one script and every change to it as a file whose name begins with the
release that needs it. The catalog remembers the last file that it has, so a newer library applies the rest.
"""

from pathlib import Path

import sqlalchemy as sa
from procrastinate.schema import SchemaManager, migrations_path

from stillframe.catalog.driver import run_script
from stillframe.catalog.tables import JOB_SCHEMA


def installed_version() -> str:
    """The name of the last schema change that the installed procrastinate knows."""
    return _changes()[-1].name


def create(connection: sa.Connection) -> None:
    """Create the queue's tables as the installed procrastinate wants them."""
    run_script(connection, SchemaManager.get_schema())
    connection.execute(JOB_SCHEMA.insert().values(version=installed_version()))


def upgrade(connection: sa.Connection, *, recorded: str) -> None:
    """Apply every change that is newer than the recorded one, in order. None is a legal outcome."""
    for change in _changes():
        if change.name > recorded:
            run_script(connection, change.read_text(encoding="utf-8"))
    connection.execute(JOB_SCHEMA.update().values(version=installed_version()))


def _changes() -> list[Path]:
    return sorted(migrations_path.glob("*.sql"), key=lambda path: path.name)

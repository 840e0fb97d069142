"""Bringing a catalog database to the schema that this release works with."""

from pathlib import Path

import sqlalchemy as sa

from stillframe.catalog import job_schema
from stillframe.errors import FormatUnknown

REVISIONS = ("0001", "0002")
"""Every revision there is, oldest first; a test compares it with the migrations."""

_ONE_AT_A_TIME = 0x5354494C4C
"""Key of the advisory lock that two services take turns by when they start on one empty catalog."""


def migrate(connection: sa.Connection) -> None:
    """Create or upgrade the schema in the connection's transaction; nothing is done when it is current.

    Raises FormatUnknown when a newer release has been here.
    """
    if _is_current(connection):
        return
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ONE_AT_A_TIME)))
    if not _is_current(connection):
        _upgrade(connection)


def _is_current(connection: sa.Connection) -> bool:
    """Asked without Alembic: importing it takes longer than the question."""
    revision = _recorded(connection, "alembic_version", "version_num")
    if revision is not None and revision not in REVISIONS:
        raise FormatUnknown(
            f"The catalog has schema revision {revision}, which this release does not know.",
            hint="A newer release has used this catalog; start that one or a later one.",
        )
    return revision == REVISIONS[-1] and (_jobs(connection) or "") >= job_schema.installed_version()


def _jobs(connection: sa.Connection) -> str | None:
    return _recorded(connection, "job_schema", "version")


def _recorded(connection: sa.Connection, table: str, column: str) -> str | None:
    """The value in a table of one row; None when there is no such table yet."""
    if connection.execute(sa.select(sa.func.to_regclass(table))).scalar() is None:
        return None
    value = connection.execute(sa.select(sa.column(column)).select_from(sa.table(table))).scalar()
    return None if value is None else str(value)


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command  # noqa: PLC0415  it is needed once in the life of most catalogs
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    job_schema.upgrade(connection, recorded=_jobs(connection) or "")

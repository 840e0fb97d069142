"""A table's definition as statements, written by PostgreSQL's own pg_dump."""

import re
import subprocess
from enum import Enum

from stillframe.domain.table_restore import TableName
from stillframe.errors import InternalError, OperatorError
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.identity import clean_environment
from stillframe.postgres.table_login import TableLogin

_DEADLINE = 300.0
"""Seconds; it waits for no lock, since nobody else is in the copy."""

_LEFT_OUT = (
    "--no-owner",
    "--no-privileges",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
    "--no-tablespaces",
)
_BEGINNING = re.compile(r"\A((?:--[^\n]*\n|\n)*)\\restrict (?P<key>\w+)\n")
_END = re.compile(r"\n\\unrestrict (?P<key>\w+)\n\s*\Z")


class Section(Enum):
    """Which statements: those to be run before the rows are copied, or after them.

    These make indexes, keys, triggers and row security.
    """

    BEFORE = "pre-data"
    AFTER = "post-data"


def read_definition(copy: Cluster, login: TableLogin, name: TableName, section: Section) -> str:
    """A part of the definition of a table of a private copy. Raises OperatorError when pg_dump fails."""
    command = [
        str(copy.installation.program("pg_dump")),
        "--host", str(copy.socket_directory),
        "--port", str(copy.socket_port),
        "--username", login.name,
        "--no-password",
        "--schema-only",
        f"--section={section.value}",
        "--strict-names",
        f"--table={_pattern(name.schema)}.{_pattern(name.table)}",
        "--encoding=UTF8",
        *_LEFT_OUT,
        f"--dbname={_connection_string(name.database)}",
    ]  # fmt: skip
    # The password is that of a role of this copy alone, and goes with it.
    environment = clean_environment() | {"PGPASSWORD": login.password}
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DEADLINE,
            check=False,
            # As the servers' user: PostgreSQL's programs need no more than that.
            user=copy.identity.uid if copy.identity.switch else None,
            group=copy.identity.gid if copy.identity.switch else None,
            extra_groups=[] if copy.identity.switch else None,
        )
    except subprocess.TimeoutExpired as error:
        raise OperatorError(f"pg_dump did not end within {_DEADLINE:g} s") from error
    except OSError as error:
        raise OperatorError(f"pg_dump could not be started: {error.strerror}") from error
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace").strip()[-600:]
        raise OperatorError(f"pg_dump could not read the table's definition: {complaint}")
    return without_restriction(done.stdout.decode())


def _pattern(name: str) -> str:
    """A name as pg_dump's patterns take it literally: within double quotes no sign means anything else."""
    return '"' + name.replace('"', '""') + '"'


def _connection_string(database: str) -> str:
    """A database by any name, also one that looks like a connection string."""
    escaped = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def without_restriction(script: str) -> str:
    r"""The script without the two lines that only psql understands.

    Newer pg_dumps put the statements between `\restrict KEY` and `\unrestrict KEY`; only that pair, at the very
    beginning and end, is taken out: a line like it may stand in somebody's comment.
    Raises InternalError when only one of them is there.
    """
    first, last = _BEGINNING.match(script), _END.search(script)
    if first is None and last is None:
        return script
    if first is None or last is None or first["key"] != last["key"]:
        raise InternalError("pg_dump's script is not bounded as expected")
    return script[: first.end(1)] + script[first.end() : last.start() + 1]

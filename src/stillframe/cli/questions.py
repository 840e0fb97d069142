"""Asking a database one question and printing what it answers."""

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.types.string import TextLoader

from stillframe.cli.output import to_json
from stillframe.errors import InvalidRequest, OperatorError

MOST_ROWS = 1000
"""Rows of a table: to lay it out all of them have to be there at once."""

_CONNECT_SECONDS = 15
_NUMBERS = frozenset({"int2", "int4", "int8", "float4", "float8", "numeric", "oid", "money"})
_PLAIN_IN_JSON = frozenset({"bool", "int2", "int4", "int8", "float4", "float8", "json", "jsonb"})
_LOST = ("08", "57")
"""Classes of SQLSTATE that mean: the server went away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Where and as whom to connect."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableAnswer:
    """The first rows of an answer as PostgreSQL writes values; `numbers` are the names of numeric columns."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    numbers: tuple[str, ...]
    is_cut: bool


def ask_for_table(login: Login, statement: str) -> TableAnswer:
    """At most a thousand rows. Raises InvalidRequest with PostgreSQL's sentence, OperatorError without a server."""
    with _cursor(login) as cursor:
        rows: list[tuple[str, ...]] = []
        for row in cursor.stream(statement.encode()):
            if len(rows) == MOST_ROWS:
                return _table(cursor, rows, is_cut=True)
            rows.append(tuple("" if value is None else str(value) for value in row))
        return _table(cursor, rows, is_cut=False)


def ask_for_csv(login: Login, statement: str) -> None:
    """Print all rows with a heading, as they come; what is NULL is empty. Raises as `ask_for_table`."""
    with _cursor(login) as cursor:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        for number, row in enumerate(cursor.stream(statement.encode())):
            if number == 0:
                writer.writerow(_names(cursor))
            writer.writerow(row)
    sys.stdout.flush()


def ask_for_json(login: Login, statement: str) -> None:
    """Print all rows as one document: `columns` and `rows`. Raises as `ask_for_table`."""
    with _cursor(login, plain=_PLAIN_IN_JSON) as cursor:
        rows = list(cursor.stream(statement.encode()))
        sys.stdout.write(to_json({"columns": _names(cursor), "rows": [list(row) for row in rows]}))
    sys.stdout.flush()


def _table(cursor: "psycopg.Cursor[Any]", rows: list[tuple[str, ...]], *, is_cut: bool) -> TableAnswer:
    columns = cursor.description or []
    names = {info.oid: info.name for info in psycopg.adapters.types}
    return TableAnswer(
        columns=tuple(column.name for column in columns),
        rows=rows,
        numbers=tuple(column.name for column in columns if names.get(column.type_code) in _NUMBERS),
        is_cut=is_cut,
    )


def _names(cursor: "psycopg.Cursor[Any]") -> list[str]:
    return [column.name for column in cursor.description or []]


@contextmanager
def _cursor(login: Login, *, plain: frozenset[str] = frozenset()) -> Iterator["psycopg.Cursor[Any]"]:
    """A cursor that gives values as PostgreSQL writes them, but for those of the types in `plain`."""
    try:
        with _connected(login) as connection, connection.cursor() as cursor:
            for info in psycopg.adapters.types:
                if info.name not in plain:
                    cursor.adapters.register_loader(info.oid, TextLoader)
                cursor.adapters.register_loader(info.array_oid, TextLoader)
            yield cursor
    except psycopg.Error as error:
        raise _translated(error) from None
    except (json.JSONDecodeError, UnicodeError) as error:
        raise InvalidRequest(f"The answer cannot be shown: {error}.") from None


def _connected(login: Login) -> "psycopg.Connection[Any]":
    return psycopg.connect(
        host=login.host,
        port=login.port,
        user=login.user,
        password=login.password,
        dbname=login.database,
        connect_timeout=_CONNECT_SECONDS,
        client_encoding="UTF8",
        application_name="stillframe query",
        sslmode="prefer",
        gssencmode="disable",
        autocommit=True,
    )


def _translated(error: psycopg.Error) -> InvalidRequest | OperatorError:
    """A statement that PostgreSQL refuses is the asker's to correct; its sentence says what is wrong."""
    text = error.diag.message_primary or str(error).strip() or type(error).__name__
    sentence = text if text.endswith((".", "!", "?")) else f"{text}."
    state = error.sqlstate
    if isinstance(error, psycopg.ProgrammingError | psycopg.DataError | psycopg.NotSupportedError) or (
        state is not None and not state.startswith(_LOST)
    ):
        return InvalidRequest(sentence[:1].upper() + sentence[1:], hint=error.diag.message_hint)
    return OperatorError(f"The snapshot did not answer: {sentence}", hint=error.diag.message_hint)

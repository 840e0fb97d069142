"""One table out of a private copy of a cluster into a running one: definition and rows, in one transaction."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from stillframe.backup.parallel import beside
from stillframe.backup.progress import Progress
from stillframe.domain.cancel import CancelToken
from stillframe.domain.table_restore import TableName
from stillframe.errors import StillframeError
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import Session, connect
from stillframe.postgres.table_definition import Section, read_definition
from stillframe.postgres.table_login import (
    TableSession,
    create_reader,
    create_writer,
    log_in,
    remove_login,
)
from stillframe.postgres.table_rows import TableContent, arriving_rows, leaving_rows, set_counter
from stillframe.postgres.table_shape import SourceTable, find_source, reshape
from stillframe.postgres.table_target import choose_owner, current_transaction, find_place

_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCopy:
    """What to copy where. `admin` owns the table when its owner cannot; `login` names the roles that do the work."""

    source: TableName
    target: TableName
    admin: str
    login: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReport:
    """Who watches: `progress` gets the bytes, and `cancel` ends the work.

    `before_copy` hears the table's size in bytes, `before_commit` the number of the target's transaction; what they
    raise ends the work. `after_reading` is called when the private copy is not needed any more.
    """

    progress: Progress
    cancel: CancelToken
    before_copy: Callable[[int], None]
    before_commit: Callable[[int], None]
    after_reading: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Definition:
    """The table's definition, which is being read: each call waits for its part."""

    before: Callable[[], str]
    after: Callable[[], str]


def copy_table(copy: Cluster, target: Cluster, work: TableCopy, report: CopyReport) -> SourceTable:
    """Bring the table to the target; when this returns it is there, complete and durable.

    `copy` is changed for it and worth nothing afterwards. Whatever is raised, the target is as it was: NotFound
    and Conflict for what is missing or in the way, Unsupported for a table that cannot come alone, InvalidRequest
    with PostgreSQL's sentence when the target lacks what the table needs, Cancelled.
    """
    place = find_place(target, work.target)
    table = find_source(copy, work.source)
    owner = choose_owner(target, place.name, source_owner=table.owner, admin=work.admin)
    report.before_copy(table.size)
    report.progress.begin("reading the definition")
    report.progress.expect(table.size)
    content = reshape(copy, table, place)
    arrived = TableName(database=table.name.database, schema=place.name.schema, table=place.name.table)
    with connect(copy) as session:
        reader = create_reader(session, work.login)
    with (
        # Each takes a while, and the second is not needed before all rows are there.
        beside(partial(read_definition, copy, reader, arrived, Section.AFTER)) as after,
        beside(partial(read_definition, copy, reader, arrived, Section.BEFORE)) as before,
        log_in(copy, table.name.database, reader) as source,
        _writer(target, work, owner=owner) as writer,
        interrupting(writer, report.cancel),
    ):
        definition = _Definition(before=before, after=after)
        _write(source, writer, definition, content, place.name, report)
    return table


@contextmanager
def _writer(target: Cluster, work: TableCopy, *, owner: str) -> Iterator[TableSession]:
    """A session that acts as the new table's owner; its login is gone when the block is left."""
    database = work.target.database
    try:
        with connect(target) as session:
            login = create_writer(session, work.login, owner=owner, database=database)
        with log_in(target, database, login) as writer:
            writer.become(owner)
            yield writer
    finally:
        remove_login(target, work.login, database=database)


def _write(
    source: TableSession,
    writer: TableSession,
    definition: _Definition,
    content: TableContent,
    name: TableName,
    report: CopyReport,
) -> None:
    statements = definition.before()
    with writer.transaction():
        report.progress.begin("copying the rows")
        writer.run_script(statements)
        _copy_rows(source, writer, content, name, report)
        statements = definition.after() + content.statistics
        report.after_reading()
        for counter in content.counters:
            set_counter(writer, counter)
        report.progress.begin("building the indexes")
        writer.run_script(statements)
        report.cancel.raise_if_cancelled()
        report.before_commit(current_transaction(writer))


def _copy_rows(
    source: TableSession, writer: TableSession, content: TableContent, name: TableName, report: CopyReport
) -> None:
    """Progress stays below the whole until the transaction is committed: the rows' form as they travel is not
    the one they are stored in."""
    total = report.progress.current.total_bytes or 0
    with writer.write_copy(arriving_rows(name, content)) as write:
        for block in source.read_copy(leaving_rows(name, content)):
            report.cancel.raise_if_cancelled()
            write(block)
            left = total - report.progress.current.done_bytes
            report.progress.advance(min(len(block), max(left, 0)))


@contextmanager
def interrupting(session: Session, cancel: CancelToken) -> Iterator[None]:
    """Once somebody cancels, end the statement that the session is at: building an index looks at no token.

    Raises Cancelled instead of what the interrupted statement raised.
    """
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_SECONDS):
            if cancel.cancelled:
                with suppress(StillframeError):
                    session.cancel()

    thread = threading.Thread(target=look, name="interrupt", daemon=True)
    thread.start()
    try:
        yield
    except StillframeError:
        cancel.raise_if_cancelled()
        raise
    finally:
        ended.set()
        thread.join()

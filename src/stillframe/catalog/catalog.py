"""The catalog: the service's own metadata and its queue of work, in one PostgreSQL database."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus

from stillframe.catalog import schema
from stillframe.catalog.driver import driver_connection, with_limits
from stillframe.catalog.jobs import DEFAULT_QUEUE, JobQueue
from stillframe.catalog.layout import Layout
from stillframe.catalog.records import Records
from stillframe.catalog.tables import TABLE_OF
from stillframe.catalog.translation import translated
from stillframe.domain.access import AccessKey, DatabaseUser, ManagedSecret, ResourcePolicy, Tag
from stillframe.domain.namespace import Incarnation, Namespace
from stillframe.domain.open_snapshot import OpenSnapshot
from stillframe.domain.operation import Operation
from stillframe.domain.proof import Proof
from stillframe.domain.snapshot import Snapshot
from stillframe.domain.table_restore import TableRestore
from stillframe.domain.verification import Verification
from stillframe.domain.workgroup import Workgroup
from stillframe.errors import InternalError

FREE_CONNECTION_SECONDS = 15
"""How long a transaction waits for its turn when all connections of the pool are in use."""


class Transaction:
    """One transaction: what was read and written through it becomes true together, or not at all.

    Belongs to the thread that opened it and ends with its `with` block.
    """

    def __init__(self, connection: sa.Connection, layouts: dict[type, Layout[Any]], queue: JobQueue) -> None:
        self._connection = connection
        self._queue = queue
        self.namespaces: Records[Namespace] = Records(connection, layouts[Namespace])
        self.incarnations: Records[Incarnation] = Records(connection, layouts[Incarnation])
        self.workgroups: Records[Workgroup] = Records(connection, layouts[Workgroup])
        self.snapshots: Records[Snapshot] = Records(connection, layouts[Snapshot])
        self.operations: Records[Operation] = Records(connection, layouts[Operation])
        self.table_restores: Records[TableRestore] = Records(connection, layouts[TableRestore])
        self.open_snapshots: Records[OpenSnapshot] = Records(connection, layouts[OpenSnapshot])
        self.proofs: Records[Proof] = Records(connection, layouts[Proof])
        self.verifications: Records[Verification] = Records(connection, layouts[Verification])
        self.access_keys: Records[AccessKey] = Records(connection, layouts[AccessKey])
        self.database_users: Records[DatabaseUser] = Records(connection, layouts[DatabaseUser])
        self.managed_secrets: Records[ManagedSecret] = Records(connection, layouts[ManagedSecret])
        self.tags: Records[Tag] = Records(connection, layouts[Tag])
        self.policies: Records[ResourcePolicy] = Records(connection, layouts[ResourcePolicy])

    def defer(self, operation: Operation, *, lock: str, queue: str = DEFAULT_QUEUE) -> None:
        """Queue the job of an operation; a worker sees it when the transaction commits, and never otherwise.

        Jobs with the same `lock` run one after the other, in the order in which they were queued.
        """
        with translated():
            self._queue.defer(driver_connection(self._connection), operation.id, lock=lock, queue=queue)

    def take_timeline(self, system_identifier: int, at_least: int) -> int:
        """The smallest timeline number from `at_least` on that was never taken for this system identifier.

        It is taken for good when the transaction commits; until then others who ask for the same one wait.
        """
        with translated():
            self._connection.execute(_TAKE_TURN, {"system": str(system_identifier)})
            parameters = {"system": system_identifier, "least": at_least}
            return int(self._connection.execute(_TAKE_TIMELINE, parameters).scalar_one())

    def take_turn(self, subject: str) -> None:
        """Wait until no other transaction has a turn on `subject`; ours lasts until this one ends.

        For what is counted before it is added to: two who count at once would both find room. Raises Conflict
        when the turn does not come in time.
        """
        with translated():
            self._connection.execute(_TAKE_NAMED_TURN, {"subject": subject})

    def refuse_if_broken(self) -> None:
        """Raise InternalError after an ignored failure: COMMIT would silently be a ROLLBACK then."""
        if driver_connection(self._connection).info.transaction_status == TransactionStatus.INERROR:
            raise InternalError("A transaction went on after one of its statements had failed.")


class Catalog:
    """Access to the catalog database; one for the whole process, to be used from any thread."""

    def __init__(self, conninfo: str, *, pool_size: int = 8) -> None:
        """Prepare for a libpq connection string or URL; nothing is connected yet."""
        self._engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=partial(_connect, with_limits(conninfo)),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=FREE_CONNECTION_SECONDS,
            pool_pre_ping=True,
            pool_use_lifo=True,
            use_native_hstore=False,
            hide_parameters=True,
            json_serializer=partial(json.dumps, allow_nan=False),
        )
        self._layouts: dict[type, Layout[Any]] = {
            record: Layout(record, table) for record, table in TABLE_OF.items()
        }
        self._queue = JobQueue()

    def migrate(self) -> None:
        """Create or upgrade the schema. Raises FormatUnknown when a newer release has used this catalog."""
        with translated(), self._engine.begin() as connection:
            schema.migrate(connection)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A READ COMMITTED transaction: committed when the block ends, rolled back when it raises.

        Raises CatalogUnavailable when the catalog does not answer, and at the end Conflict when a record
        refers to one that does not exist. Nothing is repeated: the caller knows whether that is safe.
        """
        with translated(), self._engine.begin() as connection:
            transaction = Transaction(connection, self._layouts, self._queue)
            yield transaction
            transaction.refuse_if_broken()

    def ping(self) -> None:
        """Return when the catalog answers; raise CatalogUnavailable when it does not."""
        with translated(), self._engine.connect() as connection:
            connection.execute(sa.select(1))

    def close(self) -> None:
        """Close all idle connections; those in use close when their transactions end."""
        self._engine.dispose()


def _connect(conninfo: str) -> "psycopg.Connection[Any]":
    return psycopg.connect(conninfo)


_TAKE_TURN = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('timeline of ' || :system, 0))")
"""In a statement of its own: the next one must see what was committed while this one waited."""

_TAKE_NAMED_TURN = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:subject, 0))")

_TAKE_TIMELINE = sa.text(
    """
    INSERT INTO timelines (system_identifier, timeline)
    SELECT :system, min(free) FROM (
        SELECT CAST(:least AS bigint) AS free
        UNION ALL
        SELECT timeline + 1 FROM timelines WHERE system_identifier = :system AND timeline >= :least
    ) AS candidates
    WHERE NOT EXISTS (SELECT FROM timelines WHERE system_identifier = :system AND timeline = free)
    RETURNING timeline
    """
)

"""Random schedules of everything that changes files, for comparing incremental snapshots with full copies.

With STILLFRAME_EQUIVALENCE_NATIVE=1 PostgreSQL's own programs copy the same history, and a run whose copies are not
all right fails at its end, with the list of them.
"""

import os
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

import psycopg

from stillframe.domain.identifiers import LineageId
from stillframe.errors import StillframeError
from stillframe.postgres.cluster import StopMode
from stillframe.postgres.connection import connect
from stillframe.repository import AncestryEntry
from support.backup import restored
from support.equivalence import UNDISTURBED, Rig, equivalence_rig
from support.equivalence_native import NativeRig, native_rig
from support.postgres import login

# Read before the tests are run: none of them sees the developer's own settings.
_NATIVE: Final = os.environ.get("STILLFRAME_EQUIVALENCE_NATIVE") == "1"
_TABLES: Final = tuple(f"t{number}" for number in range(6))
_DATABASES: Final = ("d0", "d1")
_REFUSALS = (psycopg.errors.UndefinedTable, psycopg.errors.DuplicateTable, psycopg.errors.UndefinedObject)
"""What an operation is answered with when its table is, or is not, there at the moment: then it does nothing."""


@dataclass(kw_only=True)
class Schedule:
    """One run. `log` holds what was done, to be shown when a comparison fails."""

    rig: Rig
    rng: random.Random
    stack: ExitStack
    timeline: int = 1
    log: list[str] = field(default_factory=list)

    def step(self) -> None:
        """Do something, chosen by chance."""
        operations, weights = zip(*_OPERATIONS, strict=True)
        (operation,) = self.rng.choices(operations, weights)
        operation(self)

    def run(self, *statements: str, database: str = "dev") -> None:
        """Each in a transaction of its own; what does not fit the moment is left out."""
        with login(self.rig.cluster, database=database) as admin:
            for statement in statements:
                self.log.append(f"{database}: {statement}")
                try:
                    admin.execute(statement.encode())
                except _REFUSALS:
                    self.log[-1] += " -- refused"

    def manage(self, *statements: str) -> None:
        """The same as the service's own role."""
        with connect(self.rig.cluster) as session:
            for statement in statements:
                self.log.append(f"service: {statement}")
                try:
                    session.execute(statement)
                except StillframeError as error:
                    # Tables of a copied database may lie where the database is to be moved.
                    if error.facts.get("sqlstate") != "55000":
                        raise
                    self.log[-1] += " -- refused"

    def table(self) -> str:
        """One of the tables, which may be there or not."""
        return self.rng.choice(_TABLES)

    def largest(self) -> str | None:
        """The longest of the tables that are not lost by a crash."""
        with login(self.rig.cluster) as admin:
            row = admin.execute(
                "SELECT relname FROM pg_class WHERE relkind = 'r' AND relpersistence = 'p'"
                " AND relnamespace = 'public'::regnamespace ORDER BY pg_relation_size(oid) DESC, relname LIMIT 1"
            ).fetchone()
        return str(row[0]) if row is not None else None

    def rows(self, most: int = 4000) -> int:
        """A number of rows: few or many."""
        return int(self.rng.choice([1, 10, 300, 1.0 * most]) * self.rng.uniform(0.3, 1)) + 1

    def move_to_a_restored_copy(self) -> None:
        """Take a snapshot, and go on with what it is restored to, in a lineage of its own."""
        origin = self.rig.verified()
        wanted = self.sums()
        self.timeline += 1
        self.log.append(f"restored on timeline {self.timeline}")
        copy = self.stack.enter_context(restored(self.rig.repository, origin, timeline=self.timeline))
        copy.write_settings(UNDISTURBED)
        copy.reload()
        facts = origin.facts
        fork = AncestryEntry(lineage_id=facts.lineage_id, timeline=facts.timeline, fork_lsn=facts.stop_lsn)
        self.rig.cluster.stop(StopMode.IMMEDIATE)
        self.rig.cluster = copy
        self.rig.ancestry = (*self.rig.ancestry, fork)
        self.rig.lineage = LineageId(uuid.UUID(int=self.rng.getrandbits(128)))
        assert self.sums() == wanted

    def sums(self) -> dict[str, object]:
        """What all tables hold that are not lost by a crash."""
        with login(self.rig.cluster) as admin:
            names = [
                str(name)
                for (name,) in admin.execute(
                    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relpersistence = 'p'"
                    " AND relnamespace = 'public'::regnamespace ORDER BY 1"
                ).fetchall()
            ]
            query = "SELECT count(*), sum(hashtext(r::text)::int8) FROM {} AS r"
            found: dict[str, object] = {
                name: admin.execute(query.format(name).encode()).fetchone() for name in names
            }
            found["large objects"] = admin.execute(
                "SELECT count(*), sum(length(lo_get(oid))) FROM pg_largeobject_metadata"
            ).fetchone()
        return found


@contextmanager
def schedule(seed: int) -> Iterator[Schedule]:
    """A schedule that begins with a first, full snapshot of a new namespace.

    Raises AssertionError when the native programs take part and copied something wrong.
    """
    with ExitStack() as stack:
        rig = stack.enter_context(native_rig() if _NATIVE else equivalence_rig())
        rig.in_passes = True
        made = Schedule(rig=rig, rng=random.Random(seed), stack=stack)
        made.manage("CREATE TABLESPACE place LOCATION ''", "GRANT CREATE ON TABLESPACE place TO admin")
        made.run("CREATE SEQUENCE tickets")
        rig.capture()
        yield made
        if isinstance(rig, NativeRig):
            assert not rig.wrong, rig.report()


def _create(now: Schedule) -> None:
    name, kind = now.table(), now.rng.choice(["", "", "UNLOGGED"])
    options = now.rng.choice(["", "WITH (fillfactor = 40)"])
    place = now.rng.choice(["", "TABLESPACE place"])
    now.run(
        f"CREATE {kind} TABLE {name} (n int, k int, t text) {options} {place}",
        f"CREATE INDEX {name}_n ON {name} USING {now.rng.choice(['btree', 'hash', 'brin', 'spgist'])} (n)",
        f"ALTER TABLE {name} ALTER t SET STORAGE {now.rng.choice(['EXTENDED', 'EXTERNAL'])}",
    )
    _insert(now, name)


def _insert(now: Schedule, name: str | None = None) -> None:
    length = now.rng.choice([10, 100, 700, 5000])
    now.run(
        f"INSERT INTO {name or now.table()} SELECT n, 0, repeat(chr(65 + n % 50), {length})"
        f" FROM generate_series(1, {now.rows(2000 if length < 1000 else 200)}) AS n"
    )


def _update(now: Schedule) -> None:
    column = now.rng.choice(["n = -n", "k = k + 1", "t = md5(t)"])
    now.run(f"UPDATE {now.table()} SET {column} WHERE abs(n) % {now.rng.randint(1, 400)} = 0")


def _delete(now: Schedule) -> None:
    sign = now.rng.choice([">", "<", ">", ">="])
    now.run(f"DELETE FROM {now.table()} WHERE n {sign} {now.rng.randint(0, 2000)}")


def _maintain(now: Schedule) -> None:
    name = now.table()
    work = ["VACUUM {}", "VACUUM {}", "VACUUM FULL {}", "CLUSTER {} USING {}_n", "REINDEX TABLE {}"]
    with_freeze = [*work, "VACUUM (FREEZE) {}", "TRUNCATE {}", "DROP TABLE {}", "ANALYZE {}"]
    statement = now.rng.choice(with_freeze)
    try:
        now.run(statement.format(name, name))
    except psycopg.errors.FeatureNotSupported:
        now.log[-1] += " -- refused"


def _shrink_and_grow(now: Schedule) -> None:
    """The order of truncation and growth is what an incremental copy gets wrong when it gets one wrong.

    Rows are chosen by their place: whatever was inserted before, pages at the end become empty and are cut off.
    """
    name = now.largest() or now.table()
    kept = f"(pg_relation_size('{name}') / 8192 * {now.rng.uniform(0, 0.9):.2f})::int"
    now.run(f"DELETE FROM {name} WHERE ctid >= format('(%s,1)', {kept})::tid", f"VACUUM {name}")
    if now.rng.random() < 0.5:
        now.manage("CHECKPOINT")
    grow = now.rng.choice([_insert, _copy_in])
    grow(now, name)


def _copy_in(now: Schedule, name: str | None = None) -> None:
    """COPY extends by many pages, of which some stay empty without being in WAL."""
    name = name or now.table()
    now.log.append(f"COPY {name}")
    with login(now.rig.cluster) as admin, admin.cursor() as cursor:
        try:
            with cursor.copy(f"COPY {name} FROM STDIN".encode()) as copy:
                for number in range(now.rows(600)):
                    copy.write_row((number, 0, "c" * now.rng.choice([50, 1500])))
        except _REFUSALS:
            now.log[-1] += " -- refused"


def _insert_together(now: Schedule) -> None:
    name, rows = now.table(), now.rows(300)
    statement = f"INSERT INTO {name} SELECT n, 0, repeat('z', 900) FROM generate_series(1, {rows}) AS n"
    threads = [threading.Thread(target=now.run, args=(statement,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _change_persistence(now: Schedule) -> None:
    name = now.table()
    change = now.rng.choice(
        ["SET UNLOGGED", "SET LOGGED", "SET TABLESPACE place", "SET TABLESPACE pg_default"]
    )
    now.run(f"ALTER TABLE {name} {change}")


def _abandon(now: Schedule) -> None:
    statement = (
        f"INSERT INTO {now.table()} SELECT n, 0, repeat('a', 300) FROM generate_series(1, {now.rows()}) AS n"
    )
    now.run(f"BEGIN; {statement}; CREATE TABLE brief AS SELECT generate_series(1, 500) AS n; ROLLBACK")


def _prepare(now: Schedule) -> None:
    name = f"p{now.rng.getrandbits(30)}"
    now.run(
        f"BEGIN; INSERT INTO {now.table()} VALUES (7, 7, 'prepared'); PREPARE TRANSACTION '{name}'",
    )
    if not now.log[-1].endswith("refused"):
        now.run(f"{now.rng.choice(['COMMIT', 'ROLLBACK'])} PREPARED '{name}'")


def _large_object(now: Schedule) -> None:
    number = now.rng.randint(50_000, 50_005)
    now.run(
        f"SELECT lo_unlink({number}) FROM pg_largeobject_metadata WHERE oid = {number}",
        f"SELECT lo_from_bytea({number}, decode(repeat('ab', {now.rows(90_000)}), 'hex'))",
        f"SELECT lo_put({number}, {now.rows(50_000)}, '\\xcdef')",
        "SELECT nextval('tickets')",
    )


def _database(now: Schedule) -> None:
    name = now.rng.choice(_DATABASES)
    with connect(now.rig.cluster) as session:
        there = bool(session.rows("SELECT 1 FROM pg_database WHERE datname = %s", (name,)))
    if not there:
        strategy = now.rng.choice(["file_copy", "wal_log"])
        template = now.rng.choice(["dev", "template1"])
        now.manage(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY {strategy}")
    elif now.rng.random() < 0.5:
        now.manage(f"DROP DATABASE {name} WITH (FORCE)")
    else:
        place = now.rng.choice(["place", "pg_default"])
        now.manage(f"ALTER DATABASE {name} SET TABLESPACE {place}")


def _checkpoint(now: Schedule) -> None:
    now.manage(now.rng.choice(["CHECKPOINT", "DO $$ BEGIN PERFORM pg_switch_wal(); END $$"]))


def _restart(now: Schedule) -> None:
    mode = now.rng.choice([StopMode.FAST, StopMode.KILL, StopMode.IMMEDIATE])
    now.log.append(f"restart after {mode.name}")
    now.rig.cluster.stop(mode)
    now.rig.cluster.start(UNDISTURBED)


def _snapshot(now: Schedule) -> None:
    """One that nobody compares: the next is incremental to it all the same."""
    now.log.append("snapshot")
    now.rig.capture()


_OPERATIONS: Final[tuple[tuple[Callable[[Schedule], None], int], ...]] = (
    (_create, 10),
    (_insert, 12),
    (_update, 12),
    (_delete, 8),
    (_maintain, 12),
    (_shrink_and_grow, 10),
    (_copy_in, 6),
    (_insert_together, 3),
    (_change_persistence, 4),
    (_abandon, 3),
    (_prepare, 3),
    (_large_object, 4),
    (_database, 3),
    (_checkpoint, 6),
    (_restart, 2),
    (_snapshot, 3),
)

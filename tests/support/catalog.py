"""Catalogs for tests: databases on one real server, copied from a migrated one; records with any values."""

import threading
import time
import types
import typing
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum

import psycopg
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import make_conninfo

from stillframe.catalog import JobWorker
from stillframe.domain.identifiers import AccountId, KmsKeyId, NamespaceId, NamespaceName, Region
from stillframe.domain.namespace import Namespace, NamespaceStatus
from stillframe.domain.operation import ENDED, Operation, OperationKind, OperationStatus
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.settings import SERVICE_ROLE
from support.postgres import SMALL, cluster_in, reachable_directory, stopped_at_the_end

ACCOUNT = AccountId("123456789012")
REGION = Region("eu-central-1")
MORNING = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)

# --- servers and databases ----------------------------------------------------------------------------------


@contextmanager
def running_server() -> Iterator[Cluster]:
    """A started cluster of its own, for catalogs to be made in."""
    with reachable_directory() as directory:
        cluster = cluster_in(directory)
        with stopped_at_the_end(cluster):
            cluster.initialize()
            cluster.start(SMALL)
            yield cluster


def conninfo_of(cluster: Cluster, database: str) -> str:
    """How a database of that server is reached."""
    return make_conninfo(
        host=str(cluster.socket_directory), port=cluster.socket_port, user=SERVICE_ROLE, dbname=database
    )


def new_database(cluster: Cluster, *, template: str = "template0") -> str:
    """The conninfo of a database that nobody else uses."""
    name = f"catalog_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(conninfo_of(cluster, "postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return conninfo_of(cluster, name)


def rows(conninfo: str, query: typing.LiteralString) -> list[tuple[typing.Any, ...]]:
    """What a query returns, on a connection of its own."""
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query).fetchall()


# --- records ------------------------------------------------------------------------------------------------


def a_namespace(name: str = "sales", **fields: object) -> Namespace:
    """A namespace that differs from others in its id and name."""
    values: dict[str, typing.Any] = {
        "id": NamespaceId(uuid.uuid4()),
        "account": ACCOUNT,
        "region": REGION,
        "name": NamespaceName(name),
        "status": NamespaceStatus.AVAILABLE,
        "created_at": MORNING,
        "admin_username": "admin",
        "admin_verifier": "SCRAM-SHA-256$4096:c2FsdA==$a2V5:a2V5",
        "db_name": "dev",
        "kms_key_id": KmsKeyId("key"),
        **fields,
    }
    return Namespace(**values)


def an_operation(**fields: object) -> Operation:
    """A queued operation."""
    values: dict[str, typing.Any] = {
        "id": uuid.uuid4(),
        "account": ACCOUNT,
        "region": REGION,
        "kind": OperationKind.CREATE_SNAPSHOT,
        "status": OperationStatus.QUEUED,
        "namespace_id": NamespaceId(uuid.uuid4()),
        "subject_id": uuid.uuid4(),
        "created_at": MORNING,
        **fields,
    }
    return Operation(**values)


def records_of(record_type: type) -> st.SearchStrategy[typing.Any]:
    """Any record of that type which the catalog's rules allow."""
    hints = typing.get_type_hints(record_type)
    fields = {name: _RULES[name] if name in _RULES else values_of(hint) for name, hint in hints.items()}
    records = st.builds(record_type, **fields)
    return records.filter(_is_legal) if record_type is Operation else records


def values_of(hint: object) -> st.SearchStrategy[typing.Any]:
    """Any value of a type that a record's field may have."""
    if isinstance(hint, typing.NewType):
        return values_of(hint.__supertype__)
    arguments = typing.get_args(hint)
    match typing.get_origin(hint):
        case typing.Union | types.UnionType:
            return st.one_of([values_of(argument) for argument in arguments])
        case origin if origin is tuple and arguments[-1] is Ellipsis:
            return st.lists(values_of(arguments[0]), max_size=4).map(tuple)
        case origin if origin is tuple:
            return st.tuples(*[values_of(argument) for argument in arguments])
        case origin if isinstance(origin, type) and issubclass(origin, Mapping):
            return st.dictionaries(_TEXT, _JSON, max_size=4)
    assert isinstance(hint, type)
    return st.sampled_from(hint) if issubclass(hint, Enum) else _VALUES[hint]


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-(2.0**53), 2.0**53) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_SIZE = st.integers(0, 2**63 - 1)
_VALUES: dict[type, st.SearchStrategy[typing.Any]] = {
    types.NoneType: st.none(),
    str: _TEXT,
    int: st.integers(-(2**63), 2**63 - 1),
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    bytes: st.binary(max_size=40),
    uuid.UUID: st.uuids(),
    datetime: st.builds(
        lambda moment, minutes: moment.astimezone(timezone(timedelta(minutes=minutes))),
        st.datetimes(timezones=st.just(UTC)).filter(lambda moment: 1 < moment.year < 9999),
        st.just(0) | st.integers(-720, 720),
    ),
}
_RULES: dict[str, st.SearchStrategy[typing.Any]] = {
    "retention_days": st.just(-1) | st.integers(1, 3653),
    "timeline": st.integers(1, 2**32 - 1),
    "system_identifier": st.none() | st.integers(0, 2**64 - 1),
    "port": st.none() | st.integers(1, 65535),
    "requested_port": st.integers(1, 65535),
    "done_bytes": _SIZE,
    "total_bytes": st.none() | _SIZE,
    "stored_bytes": st.none() | _SIZE,
    "logical_bytes": st.none() | _SIZE,
}


def _is_legal(operation: Operation) -> bool:
    return (operation.finished_at is not None) == (operation.status in ENDED)


# --- jobs ---------------------------------------------------------------------------------------------------


@contextmanager
def working(worker: JobWorker, *, grace_seconds: float = 10) -> Iterator[JobWorker]:
    """The worker at work in a thread of its own; stopped at the end, and the thread gone."""
    thread = threading.Thread(target=worker.run_until_stopped)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop(grace_seconds)
        thread.join(30)
        assert not thread.is_alive()


def eventually(condition: Callable[[], object], *, seconds: float = 30) -> None:
    """Return when the condition holds; fail when it does not within that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def later(seconds: float) -> datetime:
    """A moment after MORNING."""
    return MORNING + timedelta(seconds=seconds)

"""A running service with namespaces full of TPC-H data, as the sections need them."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bench.measure import Stopwatch, find_child, tree_bytes
from stillframe import Local
from stillframe.cli.connection import connect_to
from stillframe.cli.demo.tpch import TABLES, find_generator, load_tables
from stillframe.clients import EXTENSION, ClientMaker
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.machine import Machine, find_machine, namespace_cluster
from stillframe.service.arrivals import hydration_status

ADMIN, PASSWORD, DATABASE = "admin", "Benchmark1Run", "tpch"
_POLL_SECONDS = 0.1
_QUICK_POLL_SECONDS = 0.02
_QUICK_FOR_SECONDS = 1.0
_PATIENCE = 3600.0
_RESTORING = {"PENDING", "IN_PROGRESS"}
_SETTLED = {"AVAILABLE", "FAILED", "CANCELLED"}
_INDEXES = {
    "lineitem_part": "lineitem (l_partkey, l_suppkey)",
    "lineitem_shipped": "lineitem (l_shipdate)",
    "orders_customer": "orders (o_custkey)",
    "orders_date": "orders (o_orderdate)",
    "partsupp_supplier": "partsupp (ps_suppkey)",
    "customer_nation": "customer (c_nationkey)",
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A namespace with data and its server."""

    namespace: str
    workgroup: str
    cluster: Cluster
    scale: float

    @property
    def bytes(self) -> int:
        """The size of its data directory without WAL: what a copy has to read."""
        root = self.cluster.data_directory
        return tree_bytes(root) - tree_bytes(root / "pg_wal")


@dataclass(frozen=True, kw_only=True)
class TableRestore:
    """What a table took: bytes that were fetched from the repository, as far as was seen before the copy was gone."""

    fetched: int


class Warehouse:
    """The service and what was put into it. Made once for a run."""

    def __init__(self, local: Local, root: Path) -> None:
        self.local = local
        self.root = root
        self.client = local.client()
        self._operator = ClientMaker(local.address)(EXTENSION)
        self.machine: Machine = find_machine(None, server_user=local.settings.server_user)

    @property
    def repository(self) -> Path:
        """The directory of the snapshots."""
        return self.local.settings.paths.repository(self.local.address.region)

    @property
    def worker_pid(self) -> int:
        """The process that carries out snapshots and restores."""
        service = self.local.address.pid
        found = find_child(service, "stillframe.app.worker") if service is not None else None
        assert found is not None, "the service has no worker process"
        return found

    def make(self, name: str, **workgroup: Any) -> str:
        """A namespace and a workgroup of that name, AVAILABLE; the name."""
        self.client.create_namespace(
            namespaceName=name, adminUsername=ADMIN, adminUserPassword=PASSWORD, dbName=DATABASE
        )
        self.client.create_workgroup(workgroupName=name, namespaceName=name, **workgroup)
        self.await_available(name)
        return name

    def remove(self, name: str) -> None:
        """Delete what `make` made, and wait until it is gone."""
        self.client.delete_workgroup(workgroupName=name)
        self._await_gone(self.client.exceptions.ResourceNotFoundException, workgroup=name)
        self.client.delete_namespace(namespaceName=name)
        self._await_gone(self.client.exceptions.ResourceNotFoundException, namespace=name)

    def load(self, name: str, *, scale: float) -> Source:
        """A namespace with TPC-H data, primary keys and six more indexes, vacuumed and checkpointed."""
        self.make(name)
        source = Source(namespace=name, workgroup=name, cluster=self.cluster(name), scale=scale)
        with self.connect(name) as connection:
            load_tables(connection, generator=find_generator(), scale=scale)
            for index, target in _INDEXES.items():
                connection.execute(
                    sql.SQL("CREATE INDEX {} ON ").format(sql.Identifier(index)) + sql.SQL(target)
                )
            for table in TABLES:
                # Hint bits and visibility maps now, and not in the middle of a measurement.
                connection.execute(sql.SQL("VACUUM (FREEZE, ANALYZE) {}").format(sql.Identifier(table)))
        with self.service_connection(source) as connection:
            connection.execute("CHECKPOINT")
        return source

    def connect(self, workgroup: str, database: str = DATABASE) -> "psycopg.Connection[Any]":
        """The admin's connection, in autocommit, by the workgroup's endpoint."""
        return self.local.connect(workgroup, database, user=ADMIN, password=PASSWORD, autocommit=True)

    def service_connection(self, source: Source) -> "psycopg.Connection[Any]":
        """A superuser's connection over the server's own socket."""
        cluster = source.cluster
        return psycopg.connect(
            host=str(cluster.socket_directory),
            port=cluster.socket_port,
            user="stillframe",
            dbname="postgres",
            autocommit=True,
        )

    def cluster(self, name: str) -> Cluster:
        """The server of a namespace, found by its only incarnation."""
        identifier = self.client.get_namespace(namespaceName=name)["namespace"]["namespaceId"]
        (incarnation,) = self.local.settings.paths.namespace(identifier).iterdir()
        return namespace_cluster(
            self.local.settings, self.machine, uuid.UUID(identifier), uuid.UUID(incarnation.name)
        )

    def rekey(self, name: str) -> None:
        """Give a namespace a fresh KMS key: content is never shared across keys, so the next snapshot is full."""
        key = self._operator.create_key()["key"]["keyId"]
        self.client.update_namespace(namespaceName=name, kmsKeyId=key)
        self.await_available(name)

    def arrival(self, name: str) -> dict[str, Any] | None:
        """How far the files of a restored namespace have arrived; None when all are there."""
        found: dict[str, Any] = self._operator.describe_namespace(namespaceName=name)
        return found.get("arrival")

    def await_arrival(self, name: str) -> None:
        """Return when a restored namespace is AVAILABLE and every file of it is there."""
        self.await_available(name)
        # Looked at on the disk: a question by HTTP every tenth of a second is work for the machine that is measured.
        cluster, watch = self.cluster(name), Stopwatch()
        while cluster.arrival_note() is not None:
            assert watch.seconds < _PATIENCE, "the restore does not end"
            time.sleep(_QUICK_POLL_SECONDS)

    @contextmanager
    def opened(self, snapshot: str) -> Iterator["psycopg.Connection[Any]"]:
        """A connection to a snapshot that is opened for the length of the block."""
        answer = self._operator.open_snapshot(snapshotName=snapshot, durationSeconds=600, temporary=True)
        copy, identifier = answer["openSnapshot"], answer["openSnapshot"]["openSnapshotId"]
        try:
            while copy["status"] == "OPENING":
                time.sleep(_QUICK_POLL_SECONDS)
                (copy,) = self._operator.list_open_snapshots(openSnapshotId=identifier)["openSnapshots"]
            assert copy["status"] == "OPEN", copy
            address = {"host": copy["address"], "port": copy["port"], "user": copy["username"]}
            with psycopg.connect(**address, password=answer["password"], dbname=DATABASE) as session:
                yield session
        finally:
            self._operator.close_snapshot(openSnapshotId=identifier)

    def restore_table(self, name: str, snapshot: str, table: str, new: str) -> TableRestore:
        """RestoreTableFromSnapshot into the same database, until it SUCCEEDED; how far the files of its copy got."""
        answer = self.client.restore_table_from_snapshot(
            namespaceName=name,
            workgroupName=name,
            snapshotName=snapshot,
            sourceDatabaseName=DATABASE,
            sourceTableName=table,
            newTableName=new,
        )
        status, fetched = answer["tableRestoreStatus"], 0
        request = status["tableRestoreRequestId"]
        copy = self._private_copy(name, request)
        while status["status"] in _RESTORING:
            time.sleep(_QUICK_POLL_SECONDS)
            arrival = hydration_status(copy)
            fetched = arrival.fetched_bytes if arrival is not None else fetched
            status = self.client.get_table_restore_status(tableRestoreRequestId=request)["tableRestoreStatus"]
        assert status["status"] == "SUCCEEDED", status
        return TableRestore(fetched=fetched)

    def _private_copy(self, name: str, identifier: str) -> Cluster:
        """The server that a table is taken from, which is there for as long as that lasts."""
        namespace = self.client.get_namespace(namespaceName=name)["namespace"]["namespaceId"]
        return namespace_cluster(
            self.local.settings, self.machine, uuid.UUID(namespace), uuid.UUID(identifier)
        )

    def snapshot(self, name: str, snapshot: str) -> dict[str, Any]:
        """CreateSnapshot, and its last answer when it is AVAILABLE."""
        self.client.create_snapshot(namespaceName=name, snapshotName=snapshot)
        return self._settled(lambda: self.client.get_snapshot(snapshotName=snapshot)["snapshot"])

    def restore(self, name: str, snapshot: str) -> None:
        """RestoreFromSnapshot into a namespace, until it and its workgroup are AVAILABLE."""
        self.client.restore_from_snapshot(namespaceName=name, workgroupName=name, snapshotName=snapshot)
        self.await_available(name)
        self.require_success(name)

    def require_success(self, name: str) -> None:
        """Fail unless the newest operation of a namespace succeeded: one that failed leaves it AVAILABLE, too."""
        connection = connect_to(self.local.address)
        *_, newest = connection.every_extension("list_operations", "operations", namespaceName=name)
        assert newest["status"] == "succeeded", newest

    def await_available(self, name: str) -> None:
        """Return when a namespace and its workgroup are AVAILABLE."""
        self._settled(lambda: self.client.get_workgroup(workgroupName=name)["workgroup"])
        self._settled(lambda: self.client.get_namespace(namespaceName=name)["namespace"])

    def _settled(self, look: Any) -> dict[str, Any]:
        watch = Stopwatch()
        while (found := look())["status"] not in _SETTLED:
            assert watch.seconds < _PATIENCE, f"still {found['status']}"
            # Often while a moment counts, seldom later: asking is work for the machine that is measured.
            time.sleep(_QUICK_POLL_SECONDS if watch.seconds < _QUICK_FOR_SECONDS else _POLL_SECONDS)
        assert found["status"] == "AVAILABLE", f"{found['status']}: {self.local.log_tail(15)}"
        return dict(found)

    def _await_gone(self, missing: type[Exception], **what: str) -> None:
        ((kind, name),) = what.items()
        look = getattr(self.client, f"get_{kind}")
        watch = Stopwatch()
        while watch.seconds < _PATIENCE:
            try:
                look(**{f"{kind}Name": name})
            except missing:
                return
            time.sleep(_POLL_SECONDS)


@contextmanager
def warehouse(root: Path) -> Iterator[Warehouse]:
    """A service in that directory, for the length of the block."""
    # Collecting rubbish is left to quiet times; here it would fall into somebody's measurement.
    with Local(root / "data", sweep_seconds=86400.0) as local:
        yield Warehouse(local, root)

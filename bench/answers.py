"""The first answer of a server that was brought back."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg

from bench.contenders import Peer
from bench.measure import Stopwatch, settle
from bench.programs import run
from bench.warehouse import DATABASE, Source, Warehouse
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.settings import ServerSettings

_FIRST = "SELECT count(*) FROM nation"
_POLL_SECONDS = 0.005
_PATIENCE = 3600.0


@contextmanager
def started(house: Warehouse, source: Source, contender: Peer) -> Iterator[Cluster]:
    """A server on what a peer brought back, in the state it is in."""
    directory = contender.returned
    for folder in directory.parents:
        if folder == house.root:
            break
        # Some keep the modes of all folders on the way, which may be only for us.
        folder.chmod(0o711)
    identity = house.machine.identity
    if identity.owner is not None:
        run("chown", "-R", f"{identity.owner[0]}:{identity.owner[1]}", str(directory))
    cluster = replace(
        source.cluster,
        data_directory=directory,
        socket_directory=house.root / "s",
        log_directory=house.root / "l",
    )
    cluster.start(ServerSettings(), deadline=600)
    try:
        yield cluster
    finally:
        cluster.stop()


def await_answer(connect: Callable[[], "psycopg.Connection[Any]"]) -> None:
    """Ask again and again until a server has counted the nations."""
    watch = Stopwatch()
    while True:
        try:
            with connect() as session:
                assert session.execute(_FIRST).fetchone() == (25,)
                return
        except psycopg.Error:
            assert watch.seconds < _PATIENCE, "no answer"
            time.sleep(_POLL_SECONDS)


def restore_until_answer(house: Warehouse, target: str, snapshot: str) -> Stopwatch:
    """Restore a snapshot, cold, until the workgroup has answered; what has run since the call."""
    settle(cold=True)
    watch = Stopwatch()
    house.client.restore_from_snapshot(namespaceName=target, workgroupName=target, snapshotName=snapshot)
    await_answer(lambda: house.connect(target))
    return watch


def service_session(cluster: Cluster) -> "psycopg.Connection[Any]":
    """A superuser's connection to the TPC-H data of such a server."""
    return psycopg.connect(
        host=str(cluster.socket_directory), port=cluster.socket_port, user="stillframe", dbname=DATABASE
    )

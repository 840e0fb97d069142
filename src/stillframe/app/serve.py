"""The service process: what comes up in which order, and goes down in the opposite one.

This module imports little, so that the catalog's server and the worker are on their way while the rest loads.
"""

import gc
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Protocol

import structlog

from stillframe.app.catalog_server import CATALOG_SETTINGS, catalog_cluster, start_catalog_server
from stillframe.app.children import Worker
from stillframe.app.directories import prepare
from stillframe.app.lock import held_lock
from stillframe.app.privileges import rest_administration
from stillframe.app.shutdown import stop_servers
from stillframe.config import ServersOnExit, Settings
from stillframe.errors import StillframeError
from stillframe.http.server import listen
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.machine import find_machine
from stillframe.telemetry.logging import configure_logging

log = structlog.get_logger(__name__)

_WATCH_SECONDS = 0.5


def serve(
    settings: Settings, *, exit_with: int | None = None, on_ready: Callable[[str], None] | None = None
) -> int:
    """Run the service until SIGINT or SIGTERM; the exit status.

    `exit_with` is a descriptor whose end (its other side was closed) ends the service as well. `on_ready` gets the
    endpoint's URL. Raises OperatorError when the machine or the configuration prevents the start.
    """
    configure_logging(settings.log_level, json=settings.log_json)
    rest_administration()
    stop = StopRequest()
    stop.listen(exit_with)
    with ExitStack() as stack:
        machine = find_machine(settings.postgres_bin, server_user=settings.server_user)
        prepare(settings.paths, machine.identity)
        stack.enter_context(held_lock(settings.paths.lock_file, patience=0, **_in_use(settings)))
        listener = listen(settings.host, settings.port)
        stack.callback(listener.close)
        cluster = catalog_cluster(settings, machine)
        keep = settings.servers_on_exit is ServersOnExit.KEEP
        stack.callback(stop_servers, settings, machine, keep_namespaces=keep)
        catalog_started = _in_background(lambda: start_catalog_server(cluster))
        # Heavy to import; meanwhile the catalog's server comes up.
        from stillframe.app.service import Service  # noqa: PLC0415
        from stillframe.app.worker import ParentPipe, run_worker  # noqa: PLC0415

        _keep_what_is_imported()
        catalog_started.result()
        worker = Worker(settings)
        worker.start(lambda pipe: run_worker(settings, ParentPipe(pipe), machine))
        # Before the servers: what the worker is doing needs them.
        stack.callback(worker.stop)
        service = Service(settings, machine)
        stack.callback(service.close)
        service.prepare()
        worker.catalog_is_ready()
        _keep_catalog(cluster, stack)
        server = service.server(listener, on_ready=on_ready)
        stop.attach(server)
        server.run()
        log.info("service_stopping")
    return 0


class Stoppable(Protocol):
    """Something that runs until it is told to stop."""

    def stop(self) -> None:
        """Ask it to end; from any thread or signal handler."""
        ...


class StopRequest:
    """A wish to stop that may come before there is anything to be stopped."""

    def __init__(self) -> None:
        self._wanted = False
        self._target: Stoppable | None = None

    def listen(self, descriptor: int | None) -> None:
        """Take SIGINT, SIGTERM, and the end of this descriptor for the wish."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._want())
        if descriptor is not None:
            threading.Thread(target=self._follow, args=(descriptor,), name="parent", daemon=True).start()

    def attach(self, target: Stoppable) -> None:
        """From now on the wish goes to `target`; at once when it was made before."""
        self._target = target
        if self._wanted:
            target.stop()

    def _want(self) -> None:
        self._wanted = True
        if self._target is not None:
            self._target.stop()

    def _follow(self, descriptor: int) -> None:
        while os.read(descriptor, 1):
            continue
        self._want()


def _in_use(settings: Settings) -> dict[str, str]:
    return {
        "message": f"Another service already runs on {settings.paths.root}.",
        "hint": "Use that one, or choose another directory with --data.",
    }


def _keep_what_is_imported() -> None:
    """No collection of garbage goes through it ever again, here and in forks, and their memory stays shared."""
    gc.freeze()
    gc.enable()


def _in_background(action: Callable[[], None]) -> "Future[None]":
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="start")
    future = pool.submit(action)
    pool.shutdown(wait=False)
    return future


def _keep_catalog(cluster: Cluster, stack: ExitStack) -> None:
    """Start the catalog's server again whenever it is gone, until the stack ends."""
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(_WATCH_SECONDS):
            try:
                if cluster.adopt() is None and not stopping.is_set():
                    log.error("catalog_is_down")
                    cluster.start(CATALOG_SETTINGS)
            except StillframeError as error:
                log.error("catalog_does_not_start", kind=error.kind, reason=error.message)

    thread = threading.Thread(target=watch, name="catalog-watch", daemon=True)
    thread.start()
    stack.callback(thread.join)
    stack.callback(stopping.set)

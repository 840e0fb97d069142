"""The service process: catalog, worker, endpoint, API, and the order in which they come and go."""

import json
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import structlog
from starlette.applications import Starlette

import stillframe
from stillframe.app.children import Worker
from stillframe.app.composition import Parts, build_parts, build_use_cases, endpoint_client
from stillframe.app.credentials import StoredCredentials, ensure_root_key
from stillframe.app.directories import prepare, write_private
from stillframe.app.lock import held_lock
from stillframe.app.observation import CatalogCollector
from stillframe.aws.dispatch import Dispatcher
from stillframe.aws.handlers import build_handlers
from stillframe.aws.model import build_model, load_extension, redshift_serverless_document
from stillframe.aws.sigv4 import SignatureVerifier
from stillframe.config import ServersOnExit, Settings
from stillframe.domain.clock import SystemClock
from stillframe.errors import StillframeError
from stillframe.http.api import ApiEndpoint
from stillframe.http.app import create_app
from stillframe.http.server import HttpServer, listen
from stillframe.postgres.settings import ServerSettings
from stillframe.service.access_keys import IssuedKey
from stillframe.telemetry.logging import configure_logging
from stillframe.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

CATALOG_SETTINGS = ServerSettings(
    max_connections=100, shared_buffers=32 * 1024 * 1024, max_wal_size=128 * 1024 * 1024
)
_WATCH_SECONDS = 0.5


def serve(
    settings: Settings, *, exit_with: int | None = None, on_ready: Callable[[str], None] | None = None
) -> int:
    """Run the service until SIGINT or SIGTERM; the exit status.

    `exit_with` is a descriptor whose end (its other side was closed) ends the service as well. `on_ready` gets the
    endpoint's URL. Raises OperatorError when the machine or the configuration prevents the start.
    """
    configure_logging(settings.log_level, json=settings.log_json)
    with ExitStack() as stack:
        parts = build_parts(settings)
        prepare(settings.paths, parts.servers.machine.identity)
        stack.enter_context(
            held_lock(
                settings.paths.lock_file,
                patience=0,
                message=f"Another service already runs on {settings.paths.root}.",
                hint="Use that one, or choose another directory with --data.",
            )
        )
        listener = listen(settings.host, settings.port)
        stack.callback(listener.close)
        stack.callback(_stop_servers, parts)
        worker = Worker(settings)
        worker.start()
        # Before the servers: what the worker is doing needs them.
        stack.callback(worker.stop)
        start_catalog(parts)
        root = ensure_root_key(parts)
        worker.catalog_is_ready()
        port = listener.getsockname()[1]
        stack.callback(settings.paths.service_file.unlink, missing_ok=True)
        server = HttpServer(
            _application(parts), listener=listener, on_ready=lambda: _announce(settings, port, root, on_ready)
        )
        _stop_on_signals(server, exit_with)
        stopping = threading.Event()
        stack.callback(stopping.set)
        threading.Thread(
            target=_keep_catalog, args=(parts, stopping), name="catalog-watch", daemon=True
        ).start()
        server.run()
        log.info("service_stopping")
    return 0


def start_catalog(parts: Parts) -> None:
    """The embedded catalog: made when there is none, started, brought to the newest schema."""
    cluster = parts.catalog_cluster
    if not (cluster.data_directory / "PG_VERSION").exists():
        parts.servers.remove_leftover(cluster)
        cluster.initialize()
    cluster.start(CATALOG_SETTINGS)
    parts.catalog.migrate()


def _keep_catalog(parts: Parts, stopping: threading.Event) -> None:
    """Start the catalog's server again when it is gone."""
    while not stopping.wait(_WATCH_SECONDS):
        try:
            if parts.catalog_cluster.adopt() is None and not stopping.is_set():
                log.error("catalog_is_down")
                parts.catalog_cluster.start(CATALOG_SETTINGS)
        except StillframeError as error:
            log.error("catalog_does_not_start", kind=error.kind, reason=error.message)


def _application(parts: Parts) -> Starlette:
    document = redshift_serverless_document()
    real_time = SystemClock()
    dispatcher = Dispatcher(
        models=(build_model(document), load_extension(document)),
        handlers=build_handlers(build_use_cases(parts), parts.clock.now),
        authenticator=SignatureVerifier(store=StoredCredentials(parts), clock=real_time),
        clock=real_time,
    )
    metrics = Metrics()
    metrics.registry.register(CatalogCollector(parts))
    api = ApiEndpoint(dispatcher=dispatcher, metrics=metrics, clock=real_time)
    return create_app(api=api, metrics=metrics, ready=_Readiness(parts))


class _Readiness:
    """Whether the catalog's server is there; asked on the event loop, so it only looks at the socket."""

    def __init__(self, parts: Parts) -> None:
        self._socket = parts.catalog_cluster.socket_path

    def __call__(self) -> bool:
        return self._socket.exists()


def _announce(settings: Settings, port: int, root: IssuedKey, on_ready: Callable[[str], None] | None) -> None:
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 - compared, not bound
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    facts = {
        "endpoint_url": url,
        "region": settings.region,
        "account_id": root.key.account,
        "access_key_id": root.key.access_key_id,
        "secret_access_key": root.secret.reveal(),
        "pid": os.getpid(),
        "version": stillframe.__version__,
    }
    write_private(settings.paths.service_file, json.dumps(facts, indent=2) + "\n")
    log.info("service_ready", endpoint=url)
    if on_ready is not None:
        on_ready(url)


def _stop_on_signals(server: HttpServer, exit_with: int | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    if exit_with is not None:
        threading.Thread(target=_stop_at_end_of, args=(exit_with, server), name="parent", daemon=True).start()


def _stop_at_end_of(descriptor: int, server: HttpServer) -> None:
    while os.read(descriptor, 1):
        continue
    server.stop()


def _stop_servers(parts: Parts) -> None:
    """End what was started for this data directory, the catalog last."""
    if parts.settings.servers_on_exit is ServersOnExit.STOP:
        _stop_namespaces(parts)
        _stop_endpoint(parts)
    parts.catalog.close()
    parts.catalog_cluster.stop()


def _stop_namespaces(parts: Parts) -> None:
    clusters = list(parts.servers.all_clusters())
    with ThreadPoolExecutor(max_workers=8) as pool:
        for outcome in [pool.submit(cluster.stop) for cluster in clusters]:
            outcome.result()


def _stop_endpoint(parts: Parts) -> None:
    client = endpoint_client(parts.settings, switch_user=False)
    try:
        client.shutdown(seconds=1.0)
    except StillframeError:
        # It does not run.
        return


def stop_all(settings: Settings) -> None:
    """End every process that belongs to this data directory, after a service that could not do it itself."""
    parts = build_parts(settings)
    with held_lock(
        settings.paths.run / "worker.lock",
        patience=30,
        message=f"A worker still runs on {settings.paths.root}",
    ):
        _stop_namespaces(parts)
        _stop_endpoint(parts)
        parts.catalog_cluster.stop()

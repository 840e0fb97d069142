"""The API as one object: its use cases, its HTTP server, and what it needs before it can answer."""

import json
import os
import socket
from collections.abc import Callable

import structlog
from starlette.applications import Starlette

import stillframe
from stillframe.app.composition import build_parts, build_use_cases
from stillframe.app.credentials import StoredCredentials, ensure_root_key
from stillframe.app.directories import write_private
from stillframe.app.observation import CatalogCollector
from stillframe.aws.dispatch import Dispatcher
from stillframe.aws.handlers import build_handlers
from stillframe.aws.model import build_model, load_extension, redshift_serverless_document
from stillframe.aws.sigv4 import SignatureVerifier
from stillframe.config import Settings
from stillframe.domain.clock import SystemClock
from stillframe.http.api import ApiEndpoint
from stillframe.http.app import create_app
from stillframe.http.server import HttpServer
from stillframe.postgres.machine import Machine
from stillframe.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class Service:
    """The API process's own part; the catalog's server runs before it is made."""

    def __init__(self, settings: Settings, machine: Machine) -> None:
        self._settings = settings
        self._parts = build_parts(settings, machine)

    def prepare(self) -> None:
        """Bring the catalog to the newest schema. Raises FormatUnknown when a newer release has used it."""
        self._parts.catalog.migrate()

    def server(self, listener: socket.socket, *, on_ready: Callable[[str], None] | None) -> HttpServer:
        """The HTTP server; when it is ready it says where, in a file and to `on_ready`."""
        port = listener.getsockname()[1]
        return HttpServer(
            self._application(), listener=listener, on_ready=lambda: self._announce(port, on_ready)
        )

    def close(self) -> None:
        """Take back what says that the service runs, and let go of the catalog."""
        self._settings.paths.service_file.unlink(missing_ok=True)
        self._parts.catalog.close()

    def _application(self) -> Starlette:
        parts, real_time = self._parts, SystemClock()
        document = redshift_serverless_document()
        dispatcher = Dispatcher(
            models=(build_model(document), load_extension(document)),
            handlers=build_handlers(build_use_cases(parts), parts.clock.now),
            authenticator=SignatureVerifier(store=StoredCredentials(parts), clock=real_time),
            clock=real_time,
        )
        metrics = Metrics()
        metrics.registry.register(CatalogCollector(parts))
        api = ApiEndpoint(dispatcher=dispatcher, metrics=metrics, clock=real_time)
        # Asked on the event loop, so it only looks whether the server's socket is there.
        return create_app(api=api, metrics=metrics, ready=parts.catalog_cluster.socket_path.exists)

    def _announce(self, port: int, on_ready: Callable[[str], None] | None) -> None:
        root = ensure_root_key(self._parts)
        url = f"http://{_reachable(self._settings.host)}:{port}"
        facts = {
            "endpoint_url": url,
            "region": self._settings.region,
            "account_id": root.key.account,
            "access_key_id": root.key.access_key_id,
            "secret_access_key": root.secret.reveal(),
            "pid": os.getpid(),
            "version": stillframe.__version__,
        }
        write_private(self._settings.paths.service_file, json.dumps(facts, indent=2) + "\n")
        log.info("service_ready", endpoint=url)
        if on_ready is not None:
            on_ready(url)


def _reachable(host: str) -> str:
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host

"""What the service tells Prometheus. Every figure has its home here; labels are bounded sets."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

# From a look-up in the catalog to a request that waits for a server to start.
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The figures of one service, in a registry of their own.

    Callers use the methods named for what happened, never a metric itself, so that names and labels stay in
    one place. To add a figure: make it in `__init__` with `registry=self.registry`, and a method that moves
    it.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._requests = Counter(
            "stillframe_requests_total",
            "Requests to the API that were answered.",
            ("operation", "code"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "stillframe_request_seconds",
            "Time from the first byte of a request to its answer.",
            ("operation",),
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )

    def request_answered(self, *, operation: str, code: str, seconds: float) -> None:
        """Count one request: `operation` of the model or `unknown`, `code` of an error or `OK`."""
        self._requests.labels(operation, code).inc()
        self._request_seconds.labels(operation).observe(seconds)

    def exposition(self) -> bytes:
        """All figures in the text format of Prometheus."""
        return generate_latest(self.registry)

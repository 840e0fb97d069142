"""The web application: the API, the probes for machines, and whatever pages it is given."""

from collections.abc import Callable, Sequence
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from stillframe.http.api import ApiEndpoint
from stillframe.telemetry.metrics import Metrics

Ready = Callable[[], bool]
"""Whether the service can carry out requests now; asked on the event loop, so it answers at once."""


def create_app(
    *, api: ApiEndpoint, metrics: Metrics, ready: Ready, pages: Sequence[BaseRoute] = ()
) -> Starlette:
    """`POST /` the API, `GET /health` and `GET /metrics`; every other path is one of `pages` or a JSON 404.

    `/health` answers 200 as long as `ready` says so, 503 otherwise.
    """
    probes = _Probes(metrics=metrics, ready=ready)
    routes = [
        Route("/", api.answer, methods=["POST"]),
        Route("/health", probes.health, methods=["GET"]),
        Route("/metrics", probes.figures, methods=["GET"]),
        *pages,
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _refusal})


class _Probes:
    def __init__(self, *, metrics: Metrics, ready: Ready) -> None:
        self._metrics = metrics
        self._ready = ready

    async def health(self, _request: Request) -> Response:
        if self._ready():
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "not ready"}, HTTPStatus.SERVICE_UNAVAILABLE)

    def figures(self, _request: Request) -> Response:
        # Not async: Starlette runs it in a thread, and collecting may look at the disk.
        return Response(self._metrics.exposition(), media_type=self._metrics.content_type)


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path} is not offered here. The API is POST /."
    return JSONResponse({"message": message}, error.status_code, headers=error.headers)

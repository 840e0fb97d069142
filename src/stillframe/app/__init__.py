"""The composition root: from settings to running processes. Each entry loads only what it needs."""

from collections.abc import Callable

from stillframe.config import Settings


def serve(
    settings: Settings, *, exit_with: int | None = None, on_ready: Callable[[str], None] | None = None
) -> int:
    """Run the service; see `stillframe.app.serve.serve`."""
    from stillframe.app.serve import serve as run  # noqa: PLC0415

    return run(settings, exit_with=exit_with, on_ready=on_ready)


def stop_all(settings: Settings) -> None:
    """End every process of a data directory; see `stillframe.app.shutdown.stop_all`."""
    from stillframe.app.shutdown import stop_all as stop  # noqa: PLC0415

    stop(settings)


def rebuild_catalog(settings: Settings) -> int:
    """Add stored snapshots to the catalog; see `stillframe.app.rebuild.rebuild_catalog`."""
    from stillframe.app.rebuild import rebuild_catalog as rebuild  # noqa: PLC0415

    return rebuild(settings)

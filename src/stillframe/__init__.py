"""Stillframe: snapshots of PostgreSQL behind the Amazon Redshift Serverless API."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillframe.local import Local

__version__ = "0.1.0"

__all__ = ["Local", "__version__"]


def __getattr__(name: str) -> Any:
    """Load `Local` on first use, so that importing a single layer never imports the whole service."""
    if name == "Local":
        from stillframe.local import Local  # noqa: PLC0415 - the point of this function

        return Local
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

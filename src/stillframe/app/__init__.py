"""The composition root: from settings to running processes."""

from stillframe.app.rebuild import rebuild_catalog
from stillframe.app.serve import serve, stop_all

__all__ = ["rebuild_catalog", "serve", "stop_all"]

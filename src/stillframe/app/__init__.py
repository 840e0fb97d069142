"""The composition root: from settings to running processes."""

from stillframe.app.serve import serve, stop_all

__all__ = ["serve", "stop_all"]

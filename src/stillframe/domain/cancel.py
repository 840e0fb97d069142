"""Cancelling long work between two of its steps."""

import threading

from stillframe.errors import Cancelled


class CancelToken:
    """Shared by the one who may cancel and the work that looks at it; safe to use from several threads."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._reason = ""

    def cancel(self, reason: str) -> None:
        """Ask the work to stop at its next step. The first reason is kept."""
        if not self._event.is_set():
            self._reason = reason
            self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled if somebody asked."""
        if self._event.is_set():
            raise Cancelled(self._reason)

    def wait(self, seconds: float) -> None:
        """Wait that long, or raise Cancelled as soon as somebody asks."""
        if self._event.wait(seconds):
            raise Cancelled(self._reason)

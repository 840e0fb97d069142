"""A clock that a file can move, so that thirty days pass in a test without waiting."""

from datetime import datetime, timedelta
from pathlib import Path

from stillframe.domain.clock import Clock, SystemClock


class MovableClock(SystemClock):
    """The machine's clock plus the seconds that a file holds; an absent or unreadable file moves nothing."""

    def __init__(self, offset_file: Path) -> None:
        self._file = offset_file

    def now(self) -> datetime:
        """The current moment, moved, aware, in UTC."""
        return super().now() + timedelta(seconds=self._offset())

    def _offset(self) -> float:
        try:
            return float(self._file.read_text().strip() or 0)
        except (OSError, ValueError):
            return 0.0


def clock_for(offset_file: Path | None) -> Clock:
    """The machine's clock, or one that the file moves."""
    return MovableClock(offset_file) if offset_file is not None else SystemClock()

"""Hydrators as programs of their own, for whoever has no nursery."""

import subprocess
import sys

import msgspec

from stillframe.app.children import program_environment
from stillframe.config import Settings
from stillframe.errors import ServerUnavailable
from stillframe.service.hydrations import HydratorOrder


class ProgramLauncher:
    """Starts each hydrator in a session of its own. Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def launch(self, order: HydratorOrder) -> int:
        """A hydrator's pid. Raises ServerUnavailable."""
        said = self._settings.handed_down() + msgspec.json.encode(order) + b"\n"
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "stillframe.app.hydrator"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=program_environment(),
                cwd="/",
                start_new_session=True,
            )
            assert process.stdin is not None
            process.stdin.write(said)
            process.stdin.close()
        except OSError as error:
            raise ServerUnavailable(f"The hydrator could not be started: {error.strerror}") from error
        return process.pid

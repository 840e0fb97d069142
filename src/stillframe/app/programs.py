"""Hydrators as programs of their own, for whoever has no nursery."""

import subprocess
import sys
from pathlib import Path

import msgspec

from stillframe.app.children import program_environment
from stillframe.config import Settings
from stillframe.errors import ServerUnavailable
from stillframe.hydration import Probe, probe
from stillframe.service.hydrations import HydratorOrder

_LAUNCH = 'exec 3<&0; "$@" <&3 3<&- >/dev/null & echo $!'
"""Through a shell that ends at once, so that the program belongs to nobody."""

_LAUNCH_SECONDS = 20


class ProgramLauncher:
    """Starts each hydrator in a session of its own. Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def probe(self, directory: Path) -> Probe:
        """Whether a hydrator could bring files into this directory, for this process's rights."""
        return probe(directory)

    def launch(self, order: HydratorOrder) -> int:
        """A hydrator's pid. Raises ServerUnavailable."""
        program = [sys.executable, "-m", "stillframe.app.hydrator"]
        try:
            launched = subprocess.run(
                ["/bin/sh", "-c", _LAUNCH, "sh", *program],
                input=self._settings.handed_down() + msgspec.json.encode(order) + b"\n",
                stdout=subprocess.PIPE,
                env=program_environment(),
                cwd="/",
                start_new_session=True,
                timeout=_LAUNCH_SECONDS,
                check=True,
            )
            return int(launched.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise ServerUnavailable("The hydrator could not be started") from error

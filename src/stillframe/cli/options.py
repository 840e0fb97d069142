"""Options that many commands have."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stillframe.cli.output import OutputFormat, Terminal

DataOption = Annotated[
    Path | None,
    Parameter(name="--data", help="The service's data directory. [default: STILLFRAME_DATA, or this user's]"),
]
OutputOption = Annotated[
    OutputFormat, Parameter(name="--output", help="`json` prints one JSON document and nothing else.")
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """What every command that talks to a service takes."""

    data: DataOption = None
    output: OutputOption = OutputFormat.TEXT

    @property
    def terminal(self) -> Terminal:
        """Where the command's results and remarks go."""
        return Terminal(self.output)


DEFAULTS = Common()

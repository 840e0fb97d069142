"""The command `stillframe`. Data goes to standard output, everything said about it to standard error."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run this process's command line and end it with the command's exit status (`stillframe --help`)."""
    from stillframe.cli.root import run

    sys.exit(run(sys.argv[1:]))

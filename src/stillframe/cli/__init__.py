"""The command `stillframe`. Data goes to standard output, everything said about it to standard error."""

import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run this process's command line and end it with the command's exit status (`stillframe --help`)."""
    from stillframe.cli.root import run

    # Whoever asks us to end gets the orderly way out that Ctrl-C takes; `serve` puts its own handlers over these.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))

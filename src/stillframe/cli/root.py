"""The tree of commands, and what becomes of the errors they raise."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from cyclopts import App, CycloptsError

import stillframe
from stillframe.errors import StillframeError

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_EPILOGUE = """
Exit status: 0 done; 1 failed, with the reason on standard error; 2 wrong command line; 130 interrupted.
Data is printed to standard output (`--output json` for programs), everything else to standard error.
"""

_COMMANDS = {
    "serve": ("serve:serve", "Run the service in the foreground until SIGINT or SIGTERM."),
    "demo": ("demo:demo", "See it work: load data, take a snapshot, destroy the data, get it back."),
    "env": ("env:env", 'Print shell exports for AWS clients: eval "$(stillframe env)".'),
    "credentials": ("credentials:app", "Access keys of the service."),
    "key": ("key:app", "Keys that snapshots are encrypted under: make, rotate, disable."),
    "doctor": ("doctor:doctor", "Check this machine and say what to do about it."),
    "snapshot": ("snapshot:app", "Take, watch, look into, prove, restore and delete snapshots."),
    "namespace": ("namespace:app", "Look at namespaces."),
    "workgroup": ("workgroup:app", "Look at workgroups."),
    "secret": ("secret:app", "Admin passwords that the service manages."),
    "repository": ("repository:app", "Look into the stored snapshots without a running service."),
}


def build() -> App:
    """The whole command tree. A command's module is imported only when that command runs."""
    app = App(
        name="stillframe",
        help=stillframe.__doc__,
        help_epilogue=_EPILOGUE,
        version=stillframe.__version__,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for name, (target, summary) in _COMMANDS.items():
        app.command(f"stillframe.cli.{target}", name=name, help=summary)
    return app


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line; return its exit status. No exception leaves this function but SystemExit."""
    try:
        return _status(build()(list(arguments), exit_on_error=False, print_error=False))
    except CycloptsError as error:
        return _complain(
            str(error).strip(), "`stillframe --help` lists the commands and their options.", USAGE
        )
    except StillframeError as error:
        return _complain(error.message, error.hint, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _give_up_output()
    except Exception as error:  # noqa: BLE001 - the last resort: a user gets a sentence, never a traceback
        return _report_bug(error)


def _status(result: Any) -> int:
    return result if isinstance(result, int) else DONE


def _complain(message: str, hint: str | None, status: int) -> int:
    sys.stderr.write(f"stillframe: {message}\n")
    if hint:
        sys.stderr.write(f"{hint}\n")
    return status


def _report_bug(error: Exception) -> int:
    if os.environ.get("STILLFRAME_LOG_LEVEL", "").lower() == "debug":
        sys.excepthook(type(error), error, error.__traceback__)
    hint = "This is a fault of Stillframe. Set STILLFRAME_LOG_LEVEL=debug to see where it happened."
    return _complain(f"Unexpected {type(error).__name__}: {error}", hint, FAILED)


def _give_up_output() -> int:
    # The reader went away (`| head`). Python would complain again when it flushes the stream at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED

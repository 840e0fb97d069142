"""`stillframe serve`."""

import gc
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def serve(
    *,
    data: Annotated[Path | None, Parameter(help="Where everything is kept.")] = None,
    host: Annotated[str | None, Parameter(help="The address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, Parameter(help="The port; 0 takes a free one. [default: 9439]")] = None,
    config: Annotated[Path | None, Parameter(help="A TOML file with settings.")] = None,
    exit_with_fd: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """Run the service in the foreground until SIGINT or SIGTERM.

    Prints one line with the endpoint when it is ready. Settings come from these options, before STILLFRAME_*
    variables, before the file named by --config or STILLFRAME_CONFIG, before the defaults.
    """
    # Until everything is imported there is no garbage worth looking for; the service goes on with it then.
    gc.disable()
    from stillframe.app import serve as run_service
    from stillframe.config import load_settings

    settings = load_settings(config=config, overrides={"data": data, "host": host, "port": port})
    return run_service(settings, exit_with=exit_with_fd, on_ready=_announce)


def _announce(endpoint_url: str) -> None:
    sys.stdout.write(f"Stillframe is ready at {endpoint_url}\n")
    sys.stdout.flush()

"""`stillframe env`."""

import os
import re
import shlex
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from cyclopts import Parameter

from stillframe.cli.connection import find_address
from stillframe.cli.options import DEFAULTS, Common
from stillframe.clients import ServiceAddress


class Shell(StrEnum):
    """The syntaxes there are."""

    SH = "sh"
    FISH = "fish"


def env(
    *,
    shell: Annotated[Shell, Parameter(help="`sh` also suits bash, zsh, dash and ksh.")] = Shell.SH,
    common: Common = DEFAULTS,
) -> None:
    """Print what AWS clients need to know, for the shell: eval "$(stillframe env)".

    The lines hold the secret key of the service's root user.
    """
    address = find_address(common.data)
    variables = client_variables(address)
    common.terminal.lines(variables, export_lines(variables, shell=shell, inherited=os.environ))


def client_variables(address: ServiceAddress) -> dict[str, str]:
    """The environment in which any AWS SDK finds the service; SDKs differ in what they call the Region."""
    return {
        "AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS": address.endpoint_url,
        "AWS_ACCESS_KEY_ID": address.access_key_id,
        "AWS_SECRET_ACCESS_KEY": address.secret_access_key,
        "AWS_DEFAULT_REGION": address.region,
        "AWS_REGION": address.region,
    }


def export_lines(variables: Mapping[str, str], *, shell: Shell, inherited: Mapping[str, str]) -> list[str]:
    """Commands that set the variables, and that unset a session token, which would spoil every signature."""
    stale = [name for name in ("AWS_SESSION_TOKEN",) if name in inherited]
    if shell is Shell.FISH:
        return [f"set -e {name}" for name in stale] + [
            f"set -gx {name} {_fish_quote(value)}" for name, value in variables.items()
        ]
    return [f"unset {name}" for name in stale] + [
        f"export {name}={shlex.quote(value)}" for name, value in variables.items()
    ]


def _fish_quote(text: str) -> str:
    # Between single quotes fish knows two escapes: \\ and \'.
    return "'" + re.sub(r"([\\'])", r"\\\1", text) + "'"

"""SDK clients of a service whose address is known: what the commands and `Local` share.

A client made here depends on nothing but its arguments: no environment variable, profile, configuration file
or proxy of the user changes where it connects or how it signs.
"""

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stillframe.errors import FormatUnknown, PermissionMissing, ServerUnavailable

API = "redshift-serverless"
EXTENSION = "stillframe"
"""The operations that the vendor's API does not have; `stillframe.aws.client` knows their model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAddress:
    """Where a running service answers and how requests to it are signed."""

    endpoint_url: str
    region: str
    account_id: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    pid: int | None = None
    version: str | None = None


def read_address(path: Path) -> ServiceAddress:
    """Read the file in which a running service says how it is reached (`Paths.service_file`).

    Raises ServerUnavailable when there is none, PermissionMissing when this user may not read it,
    FormatUnknown when it holds something else.
    """
    try:
        values = json.loads(path.read_bytes())
        return ServiceAddress(**{name: values.get(name) for name in ServiceAddress.__slots__})
    except (FileNotFoundError, NotADirectoryError):
        raise ServerUnavailable(
            f"No service is running on the data directory {path.parent.parent}.",
            hint="Start one with `stillframe serve`, or name its directory with --data or STILLFRAME_DATA.",
        ) from None
    except OSError as error:
        raise PermissionMissing(
            f"The file {path} cannot be read: {error.strerror}.",
            hint="Run the command as the user of the service, or set AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS.",
        ) from None
    except (ValueError, AttributeError):
        raise FormatUnknown(f"The file {path} is not the description of a service.") from None


class ClientMaker:
    """Makes plain boto3 clients of a service at a known address; they share what is expensive to load."""

    def __init__(self, address: ServiceAddress) -> None:
        self._address = address

    @cached_property
    def _session(self) -> Any:
        import boto3  # noqa: PLC0415 - half of a short command's time, and not every caller makes a client

        return boto3.Session(botocore_session=hermetic_session())

    def __call__(self, service: str, *, region: str | None = None) -> Any:
        """A client of `API` or `EXTENSION`, in `region` or the address's own."""
        from botocore.config import Config  # noqa: PLC0415

        address = self._address
        return self._session.client(
            service,
            endpoint_url=address.endpoint_url,
            region_name=region or address.region,
            aws_access_key_id=address.access_key_id,
            aws_secret_access_key=address.secret_access_key,
            config=Config(proxies={}),
        )


def hermetic_session() -> Any:
    """A botocore session that reads no `AWS_*` variable and no file of the user, and knows our extension."""
    from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES  # noqa: PLC0415
    from botocore.session import Session  # noqa: PLC0415

    variables = {
        name: (in_file, None, default, convert)
        for name, (in_file, _, default, convert) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
    }
    variables["config_file"] = (None, None, os.devnull, None)
    variables["credentials_file"] = (None, None, os.devnull, None)
    session = Session(session_vars=variables)
    add_extension_model(session)
    return session


def add_extension_model(session: Any) -> None:
    """Make the service name `EXTENSION` known to this botocore session and to no other."""
    from stillframe.aws.client import ExtensionLoader  # noqa: PLC0415

    session.register_component("data_loader", ExtensionLoader(session.get_config_variable("data_path")))

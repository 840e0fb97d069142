"""How a command finds the service and calls it; the only place of the commands that knows SDK errors."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from stillframe.clients import API, EXTENSION, ClientMaker, ServiceAddress, add_extension_model, read_address
from stillframe.errors import (
    AccessDenied,
    ConfigurationInvalid,
    Conflict,
    InvalidRequest,
    NotBuilt,
    NotFound,
    OperatorError,
    QuotaExceeded,
    ServerUnavailable,
    StillframeError,
)

_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS", "AWS_ENDPOINT_URL")
_TAKE_KEYS = 'Take the service\'s own keys: eval "$(stillframe env)".'
Answer = dict[str, Any]


class Connection:
    """The two clients of one service: the vendor's API and our extension, at the same endpoint."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        self._make = make

    @cached_property
    def _api(self) -> Any:
        return self._make(API)

    @cached_property
    def _extension(self) -> Any:
        return self._make(EXTENSION)

    def call(self, operation: str, **parameters: Any) -> Answer:
        """Call an operation of the vendor's API by its snake_case name; None parameters are left out.

        Raises the error of `stillframe.errors` that says what the service answered, or ServerUnavailable.
        """
        return _call(self._api, operation, parameters)

    def extend(self, operation: str, **parameters: Any) -> Answer:
        """Call an operation of our extension; otherwise like `call`."""
        return _call(self._extension, operation, parameters)

    def every(self, operation: str, member: str, **parameters: Any) -> Iterator[Answer]:
        """All items of a list operation of the vendor's API, page after page."""
        return _pages(self.call, operation, member, parameters)

    def every_extension(self, operation: str, member: str, **parameters: Any) -> Iterator[Answer]:
        """All items of a list operation of our extension, page after page."""
        return _pages(self.extend, operation, member, parameters)


def connect(data: Path | None = None) -> Connection:
    """The service that the SDK's environment names, or the one running on the data directory.

    `data` is what the user wrote after --data; when it is given, it decides. Raises ServerUnavailable, with
    what to do about it, when nothing runs there.
    """
    endpoint = next((os.environ[name] for name in _ENDPOINT_VARIABLES if os.environ.get(name)), None)
    if data is None and endpoint is not None:
        return Connection(lambda service: _from_environment(service, endpoint))
    return connect_to(find_address(data))


def connect_to(address: ServiceAddress) -> Connection:
    """The service at a known address."""
    return Connection(ClientMaker(address))


def find_address(data: Path | None = None) -> ServiceAddress:
    """How the service running on a data directory is reached; ServerUnavailable when none is."""
    from stillframe.config import load_settings

    settings = load_settings(overrides={"data": data})
    address = read_address(settings.paths.service_file)
    if address.pid is not None and not _is_alive(address.pid):
        raise ServerUnavailable(
            f"No service is running on the data directory {settings.data}; the last one has died.",
            hint="Start it again with `stillframe serve`: it picks up what was left.",
        )
    return address


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _from_environment(service: str, endpoint: str) -> Any:
    import boto3
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    session = Session()
    add_extension_model(session)
    try:
        region = session.get_config_variable("region") or "us-east-1"
        return boto3.Session(botocore_session=session).client(
            service, endpoint_url=endpoint, region_name=region
        )
    except BotoCoreError as error:
        raise ConfigurationInvalid(f"The AWS client cannot be set up: {error}.") from None


def _pages(
    call: Callable[..., Answer], operation: str, member: str, parameters: Mapping[str, Any]
) -> Iterator[Answer]:
    token: str | None = None
    while True:
        page = call(operation, **parameters, nextToken=token)
        yield from page[member]
        token = page.get("nextToken")
        if not token:
            return


def _call(client: Any, operation: str, parameters: Mapping[str, Any]) -> Answer:
    from botocore.exceptions import BotoCoreError, ClientError

    given = {name: value for name, value in parameters.items() if value is not None}
    try:
        answer: Answer = getattr(client, operation)(**given)
    except ClientError as error:
        raise _translate(error.response) from None
    except BotoCoreError as error:
        raise _translate_transport(error, client.meta.endpoint_url) from None
    return answer


def _translate(response: Mapping[str, Any]) -> StillframeError:
    code = response["Error"].get("Code", "")
    message = response["Error"].get("Message") or code or "The service answered with an error without a text."
    if code == "ResourceNotFoundException":
        return NotFound(message, resource_name=str(response.get("resourceName", "")))
    if code in _BY_CODE:
        return _BY_CODE[code](message)
    if code in _REFUSED_KEYS:
        return AccessDenied(message, hint=_TAKE_KEYS)
    request_id = response.get("ResponseMetadata", {}).get("RequestId")
    where = f" The log of the service has it under the request id {request_id}." if request_id else ""
    return OperatorError(f"{code}: {message}", hint=where.strip() or None)


_BY_CODE: Mapping[str, Callable[[str], StillframeError]] = {
    "ConflictException": Conflict,
    "ValidationException": InvalidRequest,
    "ServiceQuotaExceededException": QuotaExceeded,
    "AccessDeniedException": AccessDenied,
    "UnknownOperationException": NotBuilt,
}
_REFUSED_KEYS = frozenset(
    {
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)


def _translate_transport(error: Exception, endpoint: str) -> StillframeError:
    from botocore.exceptions import ConnectionError as NoConnection
    from botocore.exceptions import HTTPClientError, NoCredentialsError, ParamValidationError

    if isinstance(error, ParamValidationError):
        return InvalidRequest(str(error))
    if isinstance(error, NoCredentialsError):
        return AccessDenied(
            "There are no credentials.", hint='Take the service\'s own: eval "$(stillframe env)".'
        )
    if isinstance(error, HTTPClientError | NoConnection):
        return ServerUnavailable(
            f"No service is running on {endpoint}.",
            hint="Start one with `stillframe serve`, or correct the endpoint.",
        )
    return ServerUnavailable(f"The service at {endpoint} could not be asked: {error}.")

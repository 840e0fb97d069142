"""Helpers of the tests of the wire: signed requests, dispatchers, botocore without a network."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.credentials import Credentials

from stillframe.aws.dispatch import Authenticator, Dispatcher, Handler
from stillframe.aws.messages import RawRequest, RawResponse
from stillframe.aws.model import (
    Operation,
    ServiceModel,
    load_extension,
    load_redshift_serverless,
    redshift_serverless_document,
)
from stillframe.aws.shapes import ListShape, MapShape, Shape, StringShape, StructureShape
from stillframe.aws.sigv4 import Credential, SignatureVerifier
from stillframe.domain.access import Caller
from stillframe.domain.identifiers import AccountId, Region
from stillframe.kms import Secret

ACCOUNT = AccountId("123456789012")
REGION = Region("eu-central-1")
KEY = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
ARN = f"arn:aws:iam::{ACCOUNT}:user/tester"
HOST = "localhost:9439"


@cache
def models() -> tuple[ServiceModel, ServiceModel]:
    """The model of the API and that of our extension."""
    return load_redshift_serverless(), load_extension(redshift_serverless_document())


def operations() -> Mapping[str, Operation]:
    """The operations of both models by name."""
    return {name: operation for model in models() for name, operation in model.operations.items()}


@dataclass
class ShiftedClock:
    """The machine's clock, put forward by `ahead`."""

    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing of the wire sleeps")


@dataclass
class Store:
    """Access keys in a dict."""

    keys: dict[str, Credential] = field(
        default_factory=lambda: {KEY: Credential(account=ACCOUNT, arn=ARN, secret=Secret(SECRET))}
    )

    def find(self, access_key_id: str) -> Credential | None:
        return self.keys.get(access_key_id)


class Anybody:
    """Believes every request."""

    def authenticate(self, request: RawRequest, *, service: str) -> Caller:
        return Caller(account=ACCOUNT, region=REGION, arn=ARN, request_id=request.request_id)


def verifier(*, store: Store | None = None, clock: ShiftedClock | None = None) -> SignatureVerifier:
    """One that knows KEY."""
    return SignatureVerifier(store=store or Store(), clock=clock or ShiftedClock())


def dispatcher(handlers: Mapping[str, Handler], *, authenticator: Authenticator | None = None) -> Dispatcher:
    """Of both models, believing every request unless told otherwise."""
    return Dispatcher(
        models=models(), handlers=handlers, authenticator=authenticator or Anybody(), clock=ShiftedClock()
    )


def request(operation: str, body: bytes = b"{}", *, prefix: str = "RedshiftServerless") -> RawRequest:
    """An unsigned request for an operation."""
    return RawRequest(
        request_id=str(uuid.uuid4()),
        method="POST",
        path="/",
        query="",
        headers=[
            ("host", HOST),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", f"{prefix}.{operation}"),
        ],
        body=body,
    )


def signed(
    unsigned: RawRequest,
    *,
    key: str = KEY,
    secret: str = SECRET,
    token: str | None = None,
    region: str = REGION,
    service: str = "redshift-serverless",
) -> RawRequest:
    """The request with the signature that botocore gives it at this moment."""
    aws = AWSRequest(
        method=unsigned.method,
        url=f"http://{HOST}{unsigned.path}{'?' if unsigned.query else ''}{unsigned.query}",
        data=unsigned.body,
        headers={name: value for name, value in unsigned.headers if name != "host"},
    )
    SigV4Auth(Credentials(key, secret, token), service, region).add_auth(aws)
    headers = [("host", HOST), *((name.lower(), str(value)) for name, value in aws.headers.items())]
    return replace(unsigned, headers=headers)


def with_header(original: RawRequest, name: str, value: str | None) -> RawRequest:
    """The request with that header exchanged, or taken away."""
    kept = [(key, old) for key, old in original.headers if key != name]
    return replace(original, headers=kept if value is None else [*kept, (name, value)])


def smallest(shape: Shape) -> Any:
    """The least that an answer of this shape must have."""
    if isinstance(shape, StructureShape):
        return {name: smallest(shape.members[name]) for name in shape.required}
    if isinstance(shape, ListShape):
        return []
    if isinstance(shape, MapShape):
        return {}
    assert isinstance(shape, StringShape), f"no sample of {shape.name}"
    return shape.enum[0] if shape.enum else "x"


def obliging_handlers() -> dict[str, Handler]:
    """A handler for every operation, that gives its smallest answer."""

    def handler_of(operation: Operation) -> Handler:
        answer = smallest(operation.output)
        return lambda _caller, _members: answer

    return {name: handler_of(operation) for name, operation in operations().items()}


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, *_args: object, **_options: object) -> Iterator[bytes]:
        yield self._content


def client(respond: Callable[[RawRequest], RawResponse]) -> Any:
    """A botocore client of redshift-serverless whose requests go to `respond` instead of a network."""
    session = botocore.session.Session()
    session.set_credentials(KEY, SECRET)
    made = session.create_client(
        "redshift-serverless",
        region_name=REGION,
        endpoint_url=f"http://{HOST}",
        config=Config(retries={"max_attempts": 0}),
    )

    def send(request: Any, **_context: object) -> AWSResponse:
        response = respond(_raw(request))
        return AWSResponse(request.url, response.status, dict(response.headers), _Body(response.body))

    made.meta.events.register("before-send", send)
    return made


def _raw(prepared: Any) -> RawRequest:
    url = urlsplit(prepared.url)
    headers = [
        (name.lower(), value.decode("latin-1") if isinstance(value, bytes) else str(value))
        for name, value in prepared.headers.items()
    ]
    body = prepared.body or b""
    return RawRequest(
        request_id=str(uuid.uuid4()),
        method=prepared.method,
        path=url.path,
        query=url.query,
        headers=[("host", url.netloc), *headers],
        body=body.encode() if isinstance(body, str) else body,
    )

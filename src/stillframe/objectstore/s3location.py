"""Where a bucket is, and how it is reached; free of the driver, so that settings can be checked without it."""

import re
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from stillframe.errors import ConfigurationInvalid

_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,61}[a-zA-Z0-9]")
_PREFIX = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]*(/[a-zA-Z0-9_][a-zA-Z0-9._-]*)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Location:
    """A folder of a bucket (`prefix`, without slashes around it; "" is the bucket itself) at an endpoint.

    Without an endpoint it is Amazon S3's. `path_style` puts the bucket into the path of requests instead of
    the host's name; None does so wherever an endpoint is named.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    path_style: bool | None = None

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"

    def below(self, folder: str) -> "S3Location":
        """A folder of this folder."""
        return replace(self, prefix=f"{self.prefix}/{folder}" if self.prefix else folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Credentials:
    """Keys to sign with. Neither secret is in the repr."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Patience:
    """How long one request may take, how often it is repeated, and for how long in all. Times in seconds."""

    request: float = 120.0
    connect: float = 5.0
    retries: int = 10
    total: float = 120.0
    first_pause: float = 0.1
    longest_pause: float = 5.0


def parse_s3_location(
    url: str, *, endpoint_url: str | None = None, region: str | None = None, path_style: bool | None = None
) -> S3Location:
    """The location that `s3://bucket/folder` names. Raises ConfigurationInvalid, without repeating the value."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if parts.scheme != "s3" or not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise ConfigurationInvalid(
            "The URL of the repository is not of the form s3://bucket/folder.",
            hint="Credentials and the endpoint have settings of their own.",
        )
    if prefix and not _PREFIX.fullmatch(prefix):
        raise ConfigurationInvalid(
            "The folder in the URL of the repository has characters that not every store can keep.",
            hint="Use letters, digits, dots, hyphens and underscores, and single slashes between parts.",
        )
    return S3Location(
        bucket=parts.netloc,
        prefix=prefix,
        endpoint_url=_checked_endpoint(endpoint_url),
        region=region,
        path_style=path_style,
    )


def _checked_endpoint(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or "@" in parts.netloc:
        raise ConfigurationInvalid(
            "The endpoint of the object store is not of the form https://host:port.",
            hint="Credentials have settings of their own.",
        )
    return url.rstrip("/")

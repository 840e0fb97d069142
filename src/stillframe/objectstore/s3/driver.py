"""The driver's client for a location."""

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.store import S3Store

from stillframe.errors import ConfigurationInvalid
from stillframe.objectstore.s3location import S3Credentials, S3Location, S3Patience

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3CredentialProvider


def connect(location: S3Location, *, credentials: S3Credentials | None, patience: S3Patience) -> S3Store:
    """A client; nothing is asked of the store yet. Without credentials those of the AWS SDK's chain are used.

    Raises ConfigurationInvalid when there are none.
    """
    config = _config(location)
    if credentials is not None:
        config |= _signing(credentials)
    return S3Store(
        prefix=location.prefix or None,
        config=config,
        client_options=_client(location, patience),
        retry_config=_retries(patience),
        credential_provider=_sdk_credentials() if credentials is None else None,
    )


def _signing(credentials: S3Credentials) -> "S3Config":
    config: S3Config = {
        "access_key_id": credentials.access_key_id,
        "secret_access_key": credentials.secret_access_key,
    }
    if credentials.session_token is not None:
        config["session_token"] = credentials.session_token
    return config


def _config(location: S3Location) -> "S3Config":
    path_style = location.path_style if location.path_style is not None else location.endpoint_url is not None
    config: S3Config = {
        "bucket": location.bucket,
        "virtual_hosted_style_request": not path_style,
        # Deleting many at once is a request that not every store knows; we delete one by one.
        "disable_bulk_delete": True,
    }
    if location.region is not None:
        config["region"] = location.region
    if location.endpoint_url is not None:
        config["endpoint"] = location.endpoint_url if path_style else _with_bucket(location)
    return config


def _with_bucket(location: S3Location) -> str:
    """The endpoint with the bucket in its host's name, which is how the driver wants it."""
    parts = urlsplit(location.endpoint_url or "")
    return parts._replace(netloc=f"{location.bucket}.{parts.netloc}").geturl()


def _client(location: S3Location, patience: S3Patience) -> "ClientConfig":
    return {
        # Whoever names an endpoint without TLS wants it; what is stored is encrypted before it gets here.
        "allow_http": urlsplit(location.endpoint_url or "").scheme == "http",
        "connect_timeout": timedelta(seconds=patience.connect),
        "timeout": timedelta(seconds=patience.request),
    }


def _retries(patience: S3Patience) -> "RetryConfig":
    return {
        "max_retries": patience.retries,
        "retry_timeout": timedelta(seconds=patience.total),
        "backoff": {
            "init_backoff": timedelta(seconds=patience.first_pause),
            "max_backoff": timedelta(seconds=patience.longest_pause),
            "base": 2,
        },
    }


def _sdk_credentials() -> "S3CredentialProvider":
    # It brings boto3, which takes longer to load than everything else here together.
    from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415

    try:
        return Boto3CredentialProvider()
    except ValueError:
        raise ConfigurationInvalid(
            "There are no credentials for the object store.",
            hint="Set repository_access_key_id and repository_secret_access_key, or give the AWS SDK a profile, "
            "variables or a role.",
        ) from None

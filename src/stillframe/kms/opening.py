"""The key management that the settings choose."""

from stillframe.config import KeyManagementKind, Settings
from stillframe.domain.clock import Clock
from stillframe.errors import ConfigurationInvalid
from stillframe.kms.aws import AwsCredentials, AwsKeyManagement
from stillframe.kms.local import LocalKeyManagement
from stillframe.kms.port import KeyManagement
from stillframe.kms.routed import RoutedKeyManagement
from stillframe.kms.secret import Secret


def key_management(settings: Settings, clock: Clock | None = None) -> KeyManagement:
    """Where the keys of this data directory are; asks nobody yet. Raises ConfigurationInvalid."""
    local = LocalKeyManagement(settings.paths.keys, clock=clock)
    if settings.kms is KeyManagementKind.LOCAL:
        return local
    remote = AwsKeyManagement(endpoint_url=settings.kms_endpoint_url, credentials=_credentials(settings))
    return RoutedKeyManagement(local, remote)


def _credentials(settings: Settings) -> AwsCredentials | None:
    access_key_id, secret = settings.kms_access_key_id, settings.kms_secret_access_key
    if access_key_id is None and secret is None:
        return None
    if access_key_id is None or secret is None:
        raise ConfigurationInvalid(
            "kms_access_key_id and kms_secret_access_key go together: one of them is missing."
        )
    return AwsCredentials(access_key_id=access_key_id, secret_access_key=Secret(secret.get_secret_value()))

"""The key management that the settings choose."""

from stillframe.config import KeyManagementKind, Settings
from stillframe.domain.clock import Clock
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
    pair = settings.kms_key_pair
    if pair is None:
        return None
    secret = Secret(pair.secret_access_key.get_secret_value())
    return AwsCredentials(access_key_id=pair.access_key_id, secret_access_key=secret)

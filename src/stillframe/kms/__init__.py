"""Keys that other keys and small secrets are wrapped under."""

from stillframe.kms.aws import AwsCredentials, AwsKeyManagement
from stillframe.kms.local import LocalKeyManagement
from stillframe.kms.port import KeyDescription, KeyManagement, KeyState, ResolvedKey, require_enabled
from stillframe.kms.routed import RoutedKeyManagement
from stillframe.kms.secret import Secret, SecretBox

__all__ = [
    "AwsCredentials",
    "AwsKeyManagement",
    "KeyDescription",
    "KeyManagement",
    "KeyState",
    "LocalKeyManagement",
    "ResolvedKey",
    "RoutedKeyManagement",
    "Secret",
    "SecretBox",
    "require_enabled",
]

"""Keys that other keys and small secrets are wrapped under."""

from stillframe.kms.local import LocalKeyManagement
from stillframe.kms.port import KeyDescription, KeyManagement, KeyState
from stillframe.kms.secret import Secret, SecretBox

__all__ = ["KeyDescription", "KeyManagement", "KeyState", "LocalKeyManagement", "Secret", "SecretBox"]

"""GetCredentials, and our operations on access keys and managed passwords."""

from collections.abc import Mapping
from typing import Any

from stillframe.aws.dispatch import Handler
from stillframe.domain.access import AccessKey, Caller
from stillframe.errors import InvalidRequest
from stillframe.service.access_keys import AccessKeys
from stillframe.service.credentials import Credentials
from stillframe.service.secrets import ManagedSecrets


class AccessHandlers:
    """The operations that hand out credentials."""

    def __init__(self, credentials: Credentials, access_keys: AccessKeys, secrets: ManagedSecrets) -> None:
        self._credentials = credentials
        self._access_keys = access_keys
        self._secrets = secrets

    def table(self) -> Mapping[str, Handler]:
        """Handlers by operation."""
        return {
            "GetCredentials": self.get_credentials,
            "CreateAccessKey": self.create_key,
            "ListAccessKeys": self.list_keys,
            "DeleteAccessKey": self.delete_key,
            "GetManagedSecret": self.get_secret,
        }

    def get_credentials(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """GetCredentials."""
        if "workgroupName" not in members and "customDomainName" not in members:
            raise InvalidRequest("Either workgroupName or customDomainName must be given.")
        credentials = self._credentials.get(
            caller,
            workgroup_name=members.get("workgroupName"),
            db_name=members.get("dbName"),
            seconds=members.get("durationSeconds"),
        )
        return {
            "dbUser": credentials.role,
            "dbPassword": credentials.password.reveal(),
            "expiration": credentials.expires_at,
            "nextRefreshTime": credentials.next_refresh_at,
        }

    def create_key(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """CreateAccessKey (ours)."""
        issued = self._access_keys.create(
            caller, user_name=members.get("userName"), account=members.get("accountId")
        )
        return {"accessKey": {**_present(issued.key), "secretAccessKey": issued.secret.reveal()}}

    def list_keys(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002 - the port
        """ListAccessKeys (ours)."""
        return {"accessKeys": [_present(key) for key in self._access_keys.list(caller)]}

    def delete_key(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """DeleteAccessKey (ours)."""
        self._access_keys.delete(caller, members["accessKeyId"])
        return {}

    def get_secret(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """GetManagedSecret (ours)."""
        username, password = self._secrets.reveal(caller, members["secretArn"])
        return {"username": username, "password": password.reveal()}


def _present(key: AccessKey) -> Mapping[str, Any]:
    return {
        "accessKeyId": key.access_key_id,
        "accountId": key.account,
        "userName": key.user_name,
        "createdAt": key.created_at,
    }

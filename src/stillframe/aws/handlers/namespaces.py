"""CreateNamespace, GetNamespace, ListNamespaces, UpdateNamespace, DeleteNamespace."""

from collections.abc import Mapping
from typing import Any

from stillframe.aws.dispatch import Handler
from stillframe.aws.handlers.values import page_of, tags_of
from stillframe.domain.access import Caller
from stillframe.domain.identifiers import NamespaceName
from stillframe.domain.namespace import Namespace
from stillframe.errors import InvalidRequest
from stillframe.kms import Secret
from stillframe.service.namespaces import AdminRequest, NamespaceChange, Namespaces, NewNamespace

_NOT_OFFERED = (
    "s3TableAction",
    "s3TableGranularity",
    "s3TableKmsKeyId",
    "s3TableNames",
    "logDestinationType",
)


class NamespaceHandlers:
    """The namespace operations on the wire."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    def table(self) -> Mapping[str, Handler]:
        """Handlers by operation."""
        return {
            "CreateNamespace": self.create,
            "GetNamespace": self.get,
            "ListNamespaces": self.list,
            "UpdateNamespace": self.update,
            "DeleteNamespace": self.delete,
        }

    def create(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """CreateNamespace."""
        request = NewNamespace(
            name=NamespaceName(members["namespaceName"]),
            admin=_admin(members),
            db_name=members.get("dbName"),
            kms_key_id=members.get("kmsKeyId"),
            default_iam_role_arn=members.get("defaultIamRoleArn"),
            iam_roles=members.get("iamRoles") or (),
            log_exports=members.get("logExports") or (),
            tags=tags_of(members),
        )
        return {"namespace": present_namespace(self._namespaces.create(caller, request))}

    def get(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """GetNamespace."""
        return {"namespace": present_namespace(self._namespaces.get(caller, members["namespaceName"]))}

    def list(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """ListNamespaces."""
        page = self._namespaces.list(caller, **page_of(members))
        return {
            "namespaces": [present_namespace(namespace) for namespace in page.items],
            "nextToken": page.next_token,
        }

    def update(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """UpdateNamespace."""
        asked = [name for name in _NOT_OFFERED if name in members]
        if asked:
            raise InvalidRequest(
                f"{asked[0]} is not offered: Stillframe keeps logs in files and has no S3 tables."
            )
        change = NamespaceChange(
            admin=_admin(members),
            kms_key_id=members.get("kmsKeyId"),
            default_iam_role_arn=members.get("defaultIamRoleArn"),
            iam_roles=members.get("iamRoles"),
            log_exports=members.get("logExports"),
        )
        return {
            "namespace": present_namespace(self._namespaces.update(caller, members["namespaceName"], change))
        }

    def delete(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """DeleteNamespace."""
        namespace = self._namespaces.delete(
            caller,
            members["namespaceName"],
            final_snapshot_name=members.get("finalSnapshotName"),
            final_retention_days=members.get("finalSnapshotRetentionPeriod"),
        )
        return {"namespace": present_namespace(namespace)}


def present_namespace(namespace: Namespace) -> Mapping[str, Any]:
    """The API's Namespace. IAM roles come as the one string form that Terraform and CloudFormation parse."""
    return {
        "namespaceArn": namespace.arn,
        "namespaceId": str(namespace.id),
        "namespaceName": namespace.name,
        "status": namespace.status.value,
        "creationDate": namespace.created_at,
        "adminUsername": namespace.admin_username,
        "adminPasswordSecretArn": namespace.admin_secret_arn,
        "adminPasswordSecretKmsKeyId": namespace.admin_secret_kms_key_id,
        "dbName": namespace.db_name,
        "kmsKeyId": namespace.kms_key_id,
        "defaultIamRoleArn": namespace.default_iam_role_arn,
        "iamRoles": [f"IamRole(applyStatus=in-sync, iamRoleArn={role})" for role in namespace.iam_roles],
        "logExports": list(namespace.log_exports),
    }


def _admin(members: Mapping[str, Any]) -> AdminRequest:
    password = members.get("adminUserPassword")
    return AdminRequest(
        username=members.get("adminUsername"),
        password=Secret(password) if password is not None else None,
        managed=members.get("manageAdminPassword"),
        secret_kms_key_id=members.get("adminPasswordSecretKmsKeyId"),
    )

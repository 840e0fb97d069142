"""CreateWorkgroup, GetWorkgroup, ListWorkgroups, UpdateWorkgroup, DeleteWorkgroup."""

from collections.abc import Mapping
from typing import Any

from stillframe.aws.dispatch import Handler
from stillframe.aws.handlers.values import page_of, tags_of
from stillframe.domain.access import Caller
from stillframe.domain.identifiers import WorkgroupName
from stillframe.domain.workgroup import Workgroup
from stillframe.service.workgroups import NewWorkgroup, WorkgroupOptions, Workgroups

_OPTIONS = {
    "base_capacity": "baseCapacity",
    "max_capacity": "maxCapacity",
    "enhanced_vpc_routing": "enhancedVpcRouting",
    "extra_compute": "extraComputeForAutomaticOptimization",
    "ip_address_type": "ipAddressType",
    "port": "port",
    "publicly_accessible": "publiclyAccessible",
    "security_group_ids": "securityGroupIds",
    "subnet_ids": "subnetIds",
    "track_name": "trackName",
}


class WorkgroupHandlers:
    """The workgroup operations on the wire."""

    def __init__(self, workgroups: Workgroups) -> None:
        self._workgroups = workgroups

    def table(self) -> Mapping[str, Handler]:
        """Handlers by operation."""
        return {
            "CreateWorkgroup": self.create,
            "GetWorkgroup": self.get,
            "ListWorkgroups": self.list,
            "UpdateWorkgroup": self.update,
            "DeleteWorkgroup": self.delete,
        }

    def create(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """CreateWorkgroup."""
        request = NewWorkgroup(
            name=WorkgroupName(members["workgroupName"]),
            namespace_name=members["namespaceName"],
            options=_options(members),
            tags=tags_of(members),
        )
        return {"workgroup": self._present(self._workgroups.create(caller, request))}

    def get(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """GetWorkgroup."""
        return {"workgroup": self._present(self._workgroups.get(caller, members["workgroupName"]))}

    def list(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """ListWorkgroups."""
        page = self._workgroups.list(caller, owner=members.get("ownerAccount"), **page_of(members))
        return {
            "workgroups": [self._present(workgroup) for workgroup in page.items],
            "nextToken": page.next_token,
        }

    def update(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """UpdateWorkgroup."""
        workgroup = self._workgroups.update(caller, members["workgroupName"], _options(members))
        return {"workgroup": self._present(workgroup)}

    def delete(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """DeleteWorkgroup."""
        return {"workgroup": self._present(self._workgroups.delete(caller, members["workgroupName"]))}

    def _present(self, workgroup: Workgroup) -> Mapping[str, Any]:
        return {
            "workgroupArn": workgroup.arn,
            "workgroupId": str(workgroup.id),
            "workgroupName": workgroup.name,
            "namespaceName": workgroup.namespace_name,
            "status": workgroup.status.value,
            "creationDate": workgroup.created_at,
            "baseCapacity": workgroup.base_capacity,
            "maxCapacity": workgroup.max_capacity,
            "configParameters": [
                {"parameterKey": key, "parameterValue": value} for key, value in workgroup.config_parameters
            ],
            "enhancedVpcRouting": workgroup.enhanced_vpc_routing,
            "extraComputeForAutomaticOptimization": workgroup.extra_compute,
            "ipAddressType": workgroup.ip_address_type,
            "port": workgroup.port or workgroup.requested_port,
            "publiclyAccessible": workgroup.publicly_accessible,
            "pricePerformanceTarget": _price_performance(workgroup),
            "securityGroupIds": list(workgroup.security_group_ids),
            "subnetIds": list(workgroup.subnet_ids),
            "crossAccountVpcs": [],
            "trackName": workgroup.track_name,
            "workgroupVersion": workgroup.server_version,
            "patchVersion": workgroup.server_version,
            "endpoint": self._endpoint(workgroup),
        }

    def _endpoint(self, workgroup: Workgroup) -> Mapping[str, Any] | None:
        if workgroup.port is None:
            return None
        address = self._workgroups.address(workgroup)
        return {"address": address, "port": workgroup.port, "vpcEndpoints": []}


def _options(members: Mapping[str, Any]) -> WorkgroupOptions:
    parameters = members.get("configParameters")
    target = members.get("pricePerformanceTarget")
    return WorkgroupOptions(
        config_parameters=None
        if parameters is None
        else [(item.get("parameterKey", ""), item.get("parameterValue", "")) for item in parameters],
        price_performance=None if target is None else (target.get("status"), target.get("level")),
        **{option: members.get(member) for option, member in _OPTIONS.items()},
    )


def _price_performance(workgroup: Workgroup) -> Mapping[str, Any] | None:
    if workgroup.price_performance_status is None and workgroup.price_performance_level is None:
        return None
    return {"status": workgroup.price_performance_status, "level": workgroup.price_performance_level}

"""Workgroups: create, read, list, update, delete."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stillframe.catalog import Transaction
from stillframe.domain.access import Caller
from stillframe.domain.identifiers import Scope, WorkgroupId, WorkgroupName
from stillframe.domain.operation import OperationKind
from stillframe.domain.parameters import complete_parameters
from stillframe.domain.workgroup import ALLOWED_PORTS, DEFAULT_PORT, Workgroup, WorkgroupStatus
from stillframe.errors import Conflict, InvalidRequest, QuotaExceeded
from stillframe.service.foundation import (
    Foundation,
    already_exists,
    not_found,
    nothing_to_change,
    require_available,
    require_workgroup_available,
    several_changes,
    take_quota_turn,
)
from stillframe.service.namespace_lookup import find_namespace
from stillframe.service.operations import Intent, claim
from stillframe.service.pagination import Listing, paginate
from stillframe.service.tags import attach, check_tags

DEFAULT_CAPACITY = 128
HIGHEST_CAPACITY = 5632
NO_LIMIT = -1
TRACKS = ("current", "trailing")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkgroupOptions:
    """What can be chosen when a workgroup is made and changed later; None means: not given."""

    base_capacity: int | None = None
    max_capacity: int | None = None
    config_parameters: Sequence[tuple[str, str]] | None = None
    enhanced_vpc_routing: bool | None = None
    extra_compute: bool | None = None
    ip_address_type: str | None = None
    port: int | None = None
    price_performance: tuple[str | None, int | None] | None = None
    publicly_accessible: bool | None = None
    security_group_ids: Sequence[str] | None = None
    subnet_ids: Sequence[str] | None = None
    track_name: str | None = None

    def given(self) -> list[str]:
        """The names of the options that the request holds."""
        return [name for name in self.__dataclass_fields__ if getattr(self, name) is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorkgroup:
    """A request to create a workgroup."""

    name: WorkgroupName
    namespace_name: str
    options: WorkgroupOptions
    tags: Sequence[tuple[str, str]] = ()


class Workgroups:
    """CreateWorkgroup, GetWorkgroup, ListWorkgroups, UpdateWorkgroup, DeleteWorkgroup."""

    def __init__(self, foundation: Foundation) -> None:
        self._base = foundation

    def create(self, caller: Caller, request: NewWorkgroup) -> Workgroup:
        """A workgroup that is CREATING; a job starts its server.

        Raises NotFound, Conflict, InvalidRequest, QuotaExceeded.
        """
        check_tags(request.tags)
        columns = _columns(request.options)
        with self._base.catalog.transaction() as transaction:
            namespace = find_namespace(transaction, caller.scope, request.namespace_name, lock=True)
            self._require_room(transaction, caller.scope, request, columns)
            _require_no_other(transaction, namespace.id, request.namespace_name)
            require_available(namespace)
            workgroup = Workgroup(
                id=WorkgroupId(self._base.new_id()),
                account=caller.account,
                region=caller.region,
                name=request.name,
                namespace_id=namespace.id,
                namespace_name=namespace.name,
                status=WorkgroupStatus.CREATING,
                created_at=self._base.clock.now(),
                **({"base_capacity": DEFAULT_CAPACITY} | columns | _parameters((), columns)),
            )
            transaction.workgroups.insert(workgroup)
            attach(transaction, workgroup.arn, request.tags, limit=self._base.settings.quotas.tags)
            intent = Intent(kind=OperationKind.CREATE_WORKGROUP, subject_id=workgroup.id, arguments={})
            operation = claim(self._base, transaction, namespace, caller, intent).operation
            busy_workgroup = replace(workgroup, operation_id=operation.id)
            transaction.workgroups.put(busy_workgroup)
        return busy_workgroup

    def get(self, caller: Caller, name: str) -> Workgroup:
        """The workgroup of that name. Raises NotFound."""
        with self._base.catalog.transaction() as transaction:
            return find_workgroup(transaction, caller.scope, name)

    def address(self, workgroup: Workgroup) -> str:
        """The host that clients of this workgroup connect to."""
        host = self._base.settings.host
        if not workgroup.publicly_accessible or host in {"127.0.0.1", "::1", "localhost"}:
            return "127.0.0.1"
        return socket.getfqdn() if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound

    def list(
        self, caller: Caller, *, owner: str | None, max_results: int | None, next_token: str | None
    ) -> Listing[Workgroup]:
        """Workgroups by creation time; another account's are never visible, so a foreign owner gives none."""
        account = caller.account if owner in {None, caller.account} else "-"
        with self._base.catalog.transaction() as transaction:
            return paginate(
                lambda after, limit: transaction.workgroups.page(
                    after=after, limit=limit, account=account, region=caller.region
                ),
                purpose=("workgroups", caller.scope, owner),
                max_results=max_results,
                next_token=next_token,
            )

    def update(self, caller: Caller, name: str, options: WorkgroupOptions) -> Workgroup:
        """The workgroup, MODIFYING until the change is in force. Raises NotFound, Conflict, InvalidRequest."""
        given = options.given()
        if not given:
            raise nothing_to_change()
        if len(given) > 1:
            raise several_changes()
        columns = _columns(options)
        with self._base.catalog.transaction() as transaction:
            changed = self._claim(
                transaction,
                caller,
                name,
                OperationKind.UPDATE_WORKGROUP,
                WorkgroupStatus.MODIFYING,
                columns=columns,
            )
            self._require_capacity(transaction, changed)
        return changed

    def delete(self, caller: Caller, name: str) -> Workgroup:
        """The workgroup, DELETING; its namespace keeps the data. Raises NotFound, Conflict."""
        with self._base.catalog.transaction() as transaction:
            return self._claim(
                transaction,
                caller,
                name,
                OperationKind.DELETE_WORKGROUP,
                WorkgroupStatus.DELETING,
                columns={},
            )

    def _claim(
        self,
        transaction: Transaction,
        caller: Caller,
        name: str,
        kind: OperationKind,
        status: WorkgroupStatus,
        *,
        columns: Mapping[str, Any],
    ) -> Workgroup:
        seen = find_workgroup(transaction, caller.scope, name)
        namespace = find_namespace(transaction, caller.scope, seen.namespace_name, lock=True)
        workgroup = find_workgroup(transaction, caller.scope, name, lock=True)
        require_workgroup_available(workgroup)
        require_available(namespace)
        before = {name: getattr(workgroup, name) for name in columns}
        arguments = {"changed": sorted(columns), "before": before}
        intent = Intent(kind=kind, subject_id=workgroup.id, arguments=arguments)
        operation = claim(self._base, transaction, namespace, caller, intent).operation
        changes = {**columns, **_parameters(workgroup.config_parameters, columns)}
        claimed: Workgroup = replace(workgroup, status=status, operation_id=operation.id, **changes)
        _check_capacities(claimed)
        transaction.workgroups.put(claimed)
        return claimed

    def _require_room(
        self, transaction: Transaction, scope: Scope, request: NewWorkgroup, columns: Mapping[str, Any]
    ) -> None:
        take_quota_turn(transaction, "workgroups", scope)
        owned = transaction.workgroups.list(account=scope.account, region=scope.region)
        if any(workgroup.name == request.name for workgroup in owned):
            raise already_exists("workgroup", request.name)
        if len(owned) >= self._base.settings.quotas.workgroups:
            raise QuotaExceeded("The quota of workgroups for this account and Region is reached.")
        wanted = int(str(columns.get("base_capacity", DEFAULT_CAPACITY)))
        self._require_total(sum(workgroup.base_capacity for workgroup in owned) + wanted)

    def _require_capacity(self, transaction: Transaction, changed: Workgroup) -> None:
        take_quota_turn(transaction, "workgroups", changed.scope)
        owned = transaction.workgroups.list(account=changed.account, region=changed.region)
        self._require_total(sum(workgroup.base_capacity for workgroup in owned))

    def _require_total(self, capacity: int) -> None:
        if capacity > self._base.settings.quotas.base_capacity:
            raise QuotaExceeded("The quota of base capacity for this account and Region would be exceeded.")


def find_workgroup(transaction: Transaction, scope: Scope, name: str, *, lock: bool = False) -> Workgroup:
    """The workgroup of that name in this scope, with its row locked if asked. Raises NotFound."""
    workgroup = transaction.workgroups.find(lock=lock, account=scope.account, region=scope.region, name=name)
    if workgroup is None:
        raise not_found("workgroup", name)
    return workgroup


def _columns(options: WorkgroupOptions) -> dict[str, Any]:
    """The columns that the given options set, checked one by one."""
    columns: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("enhanced_vpc_routing", "extra_compute", "ip_address_type", "publicly_accessible")
        if getattr(options, name) is not None
    }
    for name in ("security_group_ids", "subnet_ids"):
        if getattr(options, name) is not None:
            columns[name] = tuple(getattr(options, name))
    return columns | _capacity_columns(options) | _server_columns(options)


def _capacity_columns(options: WorkgroupOptions) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if options.base_capacity is not None:
        columns["base_capacity"] = _check_capacity(options.base_capacity)
    if options.max_capacity is not None:
        columns["max_capacity"] = (
            None if options.max_capacity == NO_LIMIT else _check_limit(options.max_capacity)
        )
    if options.price_performance is not None:
        status, level = options.price_performance
        columns |= {"price_performance_status": status, "price_performance_level": level}
    if {"base_capacity", "max_capacity"} <= set(columns):
        _check_order(options.base_capacity, options.max_capacity)
    return columns


def _server_columns(options: WorkgroupOptions) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if options.port is not None:
        columns["requested_port"] = _check_port(options.port)
    if options.config_parameters is not None:
        complete_parameters(options.config_parameters)
        columns["config_parameters"] = tuple(options.config_parameters)
    if options.track_name is not None:
        if options.track_name not in TRACKS:
            raise InvalidRequest(f"The track name must be one of {', '.join(TRACKS)}.")
        columns["track_name"] = options.track_name
    return columns


def _parameters(current: Sequence[tuple[str, str]], columns: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters in force once the given ones are laid over the current ones."""
    given: Sequence[tuple[str, str]] = columns.get("config_parameters", ())
    return {"config_parameters": complete_parameters(tuple((dict(current) | dict(given)).items()))}


def _check_port(port: int) -> int:
    if not any(port in allowed for allowed in ALLOWED_PORTS):
        raise InvalidRequest(
            f"The port must be within 5431-5455 or 8191-8215. The default is {DEFAULT_PORT}.",
        )
    return port


def _check_capacity(capacity: int) -> int:
    if capacity != 4 and not (8 <= capacity <= 1024 and capacity % 8 == 0):
        raise InvalidRequest("The base capacity must be 4 RPUs, or a multiple of 8 from 8 to 1024 RPUs.")
    return capacity


def _check_limit(capacity: int) -> int:
    if not 4 <= capacity <= HIGHEST_CAPACITY:
        raise InvalidRequest(f"The maximum capacity must be -1 or from 4 to {HIGHEST_CAPACITY} RPUs.")
    return capacity


def _check_order(base: int | None, limit: int | None) -> None:
    if base is not None and limit not in {None, NO_LIMIT} and limit < base:
        raise InvalidRequest("The maximum capacity can't be lower than the base capacity.")


def _check_capacities(workgroup: Workgroup) -> None:
    _check_order(workgroup.base_capacity, workgroup.max_capacity)


def _require_no_other(transaction: Transaction, namespace_id: object, namespace_name: str) -> None:
    other = transaction.workgroups.find(namespace_id=namespace_id)
    if other is not None:
        raise Conflict(
            f"A workgroup already exists for namespace {namespace_name}: {other.name}. A namespace has one workgroup."
        )

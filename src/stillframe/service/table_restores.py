"""Accepting restores of one table, and telling how far they are."""

import uuid
from dataclasses import dataclass
from typing import Any

from stillframe.domain.access import Caller
from stillframe.domain.identifiers import NamespaceName, WorkgroupName
from stillframe.domain.namespace import Namespace
from stillframe.domain.operation import OperationKind
from stillframe.domain.snapshot import Snapshot
from stillframe.domain.table_restore import (
    DEFAULT_SCHEMA,
    TableName,
    TableRestore,
    TableRestoreStatus,
    parse_identifier,
)
from stillframe.errors import InvalidRequest
from stillframe.service.foundation import (
    Foundation,
    not_found,
    require_available,
    require_workgroup_available,
)
from stillframe.service.keys import require_usable
from stillframe.service.namespace_lookup import find_namespace
from stillframe.service.operations import Intent, claim
from stillframe.service.pagination import Listing, paginate
from stillframe.service.restores import require_restorable, require_together
from stillframe.service.snapshots import SnapshotSelector, find_snapshot
from stillframe.service.workgroups import find_workgroup


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRequest:
    """A request for one table, names as they were written; None means: not given."""

    namespace_name: str
    workgroup_name: str
    snapshot_name: str
    source_database: str
    source_schema: str | None
    source_table: str
    target_database: str | None
    target_schema: str | None
    new_table: str
    case_sensitive: bool = False


class TableRestores:
    """RestoreTableFromSnapshot, GetTableRestoreStatus, ListTableRestoreStatus."""

    def __init__(self, foundation: Foundation) -> None:
        self._base = foundation

    def from_snapshot(self, caller: Caller, request: TableRequest) -> TableRestore:
        """Accept the request, PENDING; a job carries it out.

        What can only be seen inside of databases (a missing table, a target that exists) is found by the job, which
        ends FAILED then. Raises NotFound (namespace, workgroup, snapshot), Conflict (busy, snapshot not AVAILABLE),
        InvalidRequest (a malformed name; workgroup or snapshot of another namespace).
        """
        source, target = names_of(request)
        with self._base.catalog.transaction() as transaction:
            namespace = find_namespace(transaction, caller.scope, request.namespace_name, lock=True)
            workgroup = find_workgroup(transaction, caller.scope, request.workgroup_name, lock=True)
            require_together(namespace, workgroup)
            snapshot = find_snapshot(
                transaction, caller, SnapshotSelector(name=request.snapshot_name), lock=True
            )
            _require_own(snapshot, namespace)
            require_available(namespace)
            require_workgroup_available(workgroup)
            require_restorable(snapshot)
            require_usable(self._base, snapshot.kms_key_id)
            intent = Intent(
                kind=OperationKind.RESTORE_TABLE_FROM_SNAPSHOT,
                subject_id=workgroup.id,
                arguments={"snapshot_id": str(snapshot.id)},
            )
            operation = claim(self._base, transaction, namespace, caller, intent).operation
            accepted = TableRestore(
                id=operation.id,
                account=namespace.account,
                region=namespace.region,
                namespace_id=namespace.id,
                namespace_name=namespace.name,
                workgroup_name=workgroup.name,
                snapshot_id=snapshot.id,
                snapshot_name=snapshot.name,
                source_database=source.database,
                source_schema=source.schema,
                source_table=source.table,
                target_database=target.database,
                target_schema=target.schema,
                new_table=target.table,
                status=TableRestoreStatus.PENDING,
                created_at=operation.created_at,
            )
            transaction.table_restores.insert(accepted)
        return accepted

    def get(self, caller: Caller, request_id: str) -> TableRestore:
        """The request of that id. Raises NotFound."""
        with self._base.catalog.transaction() as transaction:
            found = transaction.table_restores.find(
                id=_parsed_id(request_id), account=caller.account, region=caller.region
            )
        if found is None:
            raise not_found("table restore request", request_id)
        return found

    def list(
        self,
        caller: Caller,
        *,
        namespace_name: NamespaceName | None,
        workgroup_name: WorkgroupName | None,
        max_results: int | None,
        next_token: str | None,
    ) -> Listing[TableRestore]:
        """The requests of this account and Region, oldest first, finished ones too. Raises InvalidRequest (token).

        A name that no request had fits none: requests outlive their namespace and workgroup.
        """
        equals: dict[str, Any] = {"account": caller.account, "region": caller.region}
        if namespace_name is not None:
            equals["namespace_name"] = namespace_name
        if workgroup_name is not None:
            equals["workgroup_name"] = workgroup_name
        with self._base.catalog.transaction() as transaction:
            return paginate(
                lambda after, limit: transaction.table_restores.page(after=after, limit=limit, **equals),
                purpose=("table restores", caller.scope, namespace_name, workgroup_name),
                max_results=max_results,
                next_token=next_token,
            )


def names_of(request: TableRequest) -> tuple[TableName, TableName]:
    """Source and target with their defaults: schema `public`, and for the target what the source has.

    Raises InvalidRequest for a name that nothing can have.
    """

    def parsed(text: str, member: str) -> str:
        return parse_identifier(text, case_sensitive=request.case_sensitive, member=member)

    source = TableName(
        database=parsed(request.source_database, "sourceDatabaseName"),
        schema=parsed(_given(request.source_schema, DEFAULT_SCHEMA), "sourceSchemaName"),
        table=parsed(request.source_table, "sourceTableName"),
    )
    target = TableName(
        database=parsed(_given(request.target_database, source.database), "targetDatabaseName"),
        schema=parsed(_given(request.target_schema, source.schema), "targetSchemaName"),
        table=parsed(request.new_table, "newTableName"),
    )
    return source, target


def _given(text: str | None, default: str) -> str:
    return default if text is None else text


def _require_own(snapshot: Snapshot, namespace: Namespace) -> None:
    if snapshot.namespace_id != namespace.id:
        raise InvalidRequest(
            f"Serverless snapshot {snapshot.name} was not taken of namespace {namespace.name}."
        )


def _parsed_id(text: str) -> uuid.UUID:
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        raise not_found("table restore request", text) from None
    if str(parsed) != text:
        raise not_found("table restore request", text)
    return parsed

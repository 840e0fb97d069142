"""Every record comes back as it was written, and what must not be written is refused."""

import dataclasses
import threading
import uuid
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillframe.catalog import Catalog, Transaction
from stillframe.catalog.tables import TABLE_OF
from stillframe.domain.access import Tag
from stillframe.domain.identifiers import AccountId, IncarnationId, LineageId
from stillframe.domain.namespace import Incarnation, Namespace, NamespaceStatus
from stillframe.domain.operation import OperationStatus
from stillframe.errors import Conflict, InternalError, InvalidRequest
from support.catalog import ACCOUNT, MORNING, REGION, a_namespace, an_operation, later, records_of

pytestmark = pytest.mark.integration

ATTRIBUTES = (
    "namespaces",
    "incarnations",
    "workgroups",
    "snapshots",
    "operations",
    "table_restores",
    "open_snapshots",
    "proofs",
    "verifications",
    "access_keys",
    "database_users",
    "managed_secrets",
    "tags",
    "policies",
)
RECORD_OF = dict(zip(ATTRIBUTES, TABLE_OF, strict=True))
quickly = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


class RolledBackError(Exception):
    """Ends a transaction whose changes are not wanted."""


@pytest.mark.parametrize("attribute", ATTRIBUTES)
@quickly
@given(data=st.data())
def test_every_record_comes_back_as_it_was_written(
    shared_catalog: Catalog, attribute: str, data: st.DataObject
) -> None:
    record_type = RECORD_OF[attribute]
    first, second = data.draw(records_of(record_type)), data.draw(records_of(record_type))
    keys = [column.name for column in TABLE_OF[record_type].primary_key]
    identity = {name: getattr(first, name) for name in keys}
    changed = dataclasses.replace(second, **identity)
    with suppress(RolledBackError), shared_catalog.transaction() as transaction:
        records = getattr(transaction, attribute)
        records.insert(first)
        assert records.find(**identity) == first
        records.put(changed)
        assert records.list(**identity) == [changed]
        records.upsert(first)
        assert records.page(limit=2).items == (first,)
        assert records.count(**identity) == records.delete(**identity) == 1
        records.upsert(second)
        assert records.list() == [second]
        raise RolledBackError


def test_times_come_back_in_utc(catalog: Catalog) -> None:
    with catalog.transaction() as transaction:
        transaction.namespaces.insert(a_namespace())
        found = transaction.namespaces.list()[0]
    assert found.created_at == MORNING
    assert found.created_at.utcoffset() == timedelta(0)


def test_a_name_is_taken_once_in_its_account_and_region(catalog: Catalog) -> None:
    with catalog.transaction() as transaction:
        transaction.namespaces.insert(a_namespace("sales"))
        transaction.namespaces.insert(a_namespace("sales", region="us-east-1"))
        transaction.namespaces.insert(a_namespace("sales", account="999999999999"))
        with pytest.raises(Conflict) as caught:
            transaction.namespaces.insert(a_namespace("sales"))
        # The transaction is still good for something else.
        transaction.namespaces.insert(a_namespace("other"))
    assert caught.value.facts["constraint"] == "namespaces_account_region_name_key"
    with catalog.transaction() as transaction:
        assert transaction.namespaces.count() == 4


def test_a_refused_row_does_not_show_in_the_error(catalog: Catalog) -> None:
    broken = a_namespace(admin_verifier="very secret verifier")
    object.__setattr__(broken, "db_name", None)
    with pytest.raises(InternalError) as caught, catalog.transaction() as transaction:
        transaction.namespaces.insert(broken)
    chain = [caught.value, caught.value.__cause__]
    assert all("very secret" not in f"{error!r} {getattr(error, 'facts', '')}" for error in chain)
    assert caught.value.__suppress_context__


def test_putting_a_record_that_is_gone_is_a_mistake_of_ours(catalog: Catalog) -> None:
    with pytest.raises(InternalError), catalog.transaction() as transaction:
        transaction.namespaces.put(a_namespace())


def test_change_touches_the_named_fields_only(catalog: Catalog) -> None:
    namespace = a_namespace(iam_roles=("reader",))
    with catalog.transaction() as transaction:
        transaction.namespaces.insert(namespace)
        assert transaction.namespaces.change({"status": NamespaceStatus.DELETING}, name="sales") == 1
        assert transaction.namespaces.change({"status": NamespaceStatus.DELETING}, name="none") == 0
        found = transaction.namespaces.find(id=namespace.id)
    assert found == dataclasses.replace(namespace, status=NamespaceStatus.DELETING)


def test_conditions_may_be_one_value_several_values_or_nothing(catalog: Catalog) -> None:
    with catalog.transaction() as transaction:
        for name in "abc":
            transaction.namespaces.insert(
                a_namespace(name, operation_id=uuid.uuid4() if name == "c" else None)
            )
        assert _names(transaction, name="b") == ["b"]
        assert _names(transaction, name=("a", "c")) == ["a", "c"]
        assert _names(transaction, name=frozenset()) == []
        assert _names(transaction, operation_id=None) == ["a", "b"]
        assert _names(transaction, account=ACCOUNT, region=REGION, status=set(NamespaceStatus)) == [
            "a",
            "b",
            "c",
        ]
        assert _names(transaction, account=AccountId("999999999999")) == []


def _names(transaction: Transaction, **equals: Any) -> list[str]:
    return [namespace.name for namespace in transaction.namespaces.list(order_by="name", **equals)]


def test_lists_are_ordered_and_limited_as_asked(catalog: Catalog) -> None:
    with catalog.transaction() as transaction:
        for number, name in enumerate("cab"):
            transaction.namespaces.insert(a_namespace(name, created_at=later(number)))
        found = transaction.namespaces
        assert [namespace.name for namespace in found.list()] == ["c", "a", "b"]
        assert [namespace.name for namespace in found.list(order_by="-created_at", limit=2)] == ["b", "a"]
        assert [namespace.name for namespace in found.list(order_by=("status", "name"))] == ["a", "b", "c"]


def test_records_are_counted_by_their_values(catalog: Catalog) -> None:
    with catalog.transaction() as transaction:
        for name in "abc":
            transaction.namespaces.insert(a_namespace(name, db_name="one" if name == "a" else "two"))
        found = transaction.namespaces
        assert found.tally("db_name", "account") == {("one", ACCOUNT): 1, ("two", ACCOUNT): 2}
        assert found.tally("db_name", name=("a", "b")) == {("one",): 1, ("two",): 1}
        assert found.tally("db_name", name="z") == {}


def test_a_field_that_does_not_exist_is_never_taken_for_a_condition(catalog: Catalog) -> None:
    with catalog.transaction() as transaction:
        for refused in (
            lambda: transaction.namespaces.find(nmae="sales"),
            lambda: transaction.namespaces.list(order_by="; DROP TABLE namespaces"),
            lambda: transaction.namespaces.change({"nmae": "x"}, name="sales"),
            transaction.namespaces.delete,
            lambda: transaction.namespaces.list(operation_id=(None,)),
            lambda: transaction.namespaces.tally("nmae"),
        ):
            with pytest.raises(InternalError):
                refused()


def test_finding_one_of_several_is_refused(catalog: Catalog) -> None:
    with catalog.transaction() as transaction:
        transaction.namespaces.insert(a_namespace("a"))
        transaction.namespaces.insert(a_namespace("b"))
        with pytest.raises(InternalError):
            transaction.namespaces.find(account=ACCOUNT)


@pytest.mark.parametrize("text", ["zero \x00 character", "half \ud83d of a pair"])
def test_text_that_postgresql_cannot_hold_is_the_callers_mistake(catalog: Catalog, text: str) -> None:
    with catalog.transaction() as transaction:
        with pytest.raises(InvalidRequest):
            transaction.tags.insert(Tag(resource_arn="arn", key="k", value=text))
        with pytest.raises(InvalidRequest):
            transaction.operations.insert(an_operation(arguments={"deep": [{"text": text}]}))
        assert transaction.tags.count() == 0


def test_a_number_that_is_too_big_is_the_callers_mistake(catalog: Catalog) -> None:
    with pytest.raises(InvalidRequest), catalog.transaction() as transaction:
        transaction.operations.insert(an_operation(done_bytes=2**63))


@pytest.mark.parametrize(
    "broken",
    [
        {"status": OperationStatus.SUCCEEDED},
        {"finished_at": MORNING},
        {"done_bytes": -1},
    ],
)
def test_an_impossible_operation_is_refused(catalog: Catalog, broken: dict[str, object]) -> None:
    with pytest.raises(InternalError), catalog.transaction() as transaction:
        transaction.operations.insert(an_operation(**broken))


def test_a_locked_record_is_not_changed_by_anybody_else(catalog: Catalog) -> None:
    namespace = a_namespace()
    with catalog.transaction() as transaction:
        transaction.namespaces.insert(namespace)
    locked, order = threading.Event(), list[str]()

    def other() -> None:
        locked.wait(10)
        with catalog.transaction() as transaction:
            found = transaction.namespaces.find(lock=True, id=namespace.id)
            assert found is not None
            order.append(f"second saw {found.db_name}")

    thread = threading.Thread(target=other)
    thread.start()
    with catalog.transaction() as transaction:
        found = transaction.namespaces.find(lock=True, id=namespace.id)
        assert found == namespace
        locked.set()
        thread.join(0.3)
        order.append("first")
        transaction.namespaces.put(dataclasses.replace(namespace, db_name="changed"))
    thread.join(10)
    assert order == ["first", "second saw changed"]


def test_a_namespace_takes_what_is_only_its_own_with_it(catalog: Catalog) -> None:
    namespace = a_namespace()
    with catalog.transaction() as transaction:
        transaction.incarnations.insert(_incarnation_of(namespace))
        transaction.namespaces.insert(namespace)
    with catalog.transaction() as transaction:
        assert transaction.incarnations.count() == 1
        transaction.namespaces.delete(id=namespace.id)
    with catalog.transaction() as transaction:
        assert transaction.incarnations.count() == 0


def test_the_current_incarnation_is_one_of_the_namespaces_own(catalog: Catalog) -> None:
    first, second = a_namespace("first"), a_namespace("second")
    incarnation = _incarnation_of(first)
    with catalog.transaction() as transaction:
        transaction.namespaces.insert(dataclasses.replace(first, incarnation_id=incarnation.id))
        transaction.incarnations.insert(incarnation)
        transaction.namespaces.insert(second)
    with pytest.raises(Conflict), catalog.transaction() as transaction:
        transaction.namespaces.put(dataclasses.replace(second, incarnation_id=incarnation.id))


def _incarnation_of(namespace: Namespace) -> Incarnation:
    return Incarnation(
        id=IncarnationId(uuid.uuid4()),
        namespace_id=namespace.id,
        lineage_id=LineageId(uuid.uuid4()),
        created_at=MORNING,
        system_identifier=2**64 - 1,
    )

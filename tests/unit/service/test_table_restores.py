"""What a request for one table means."""

import dataclasses

import pytest

from stillframe.domain.table_restore import TableName
from stillframe.errors import InvalidRequest
from stillframe.service.table_restores import TableRequest, names_of

pytestmark = pytest.mark.unit

REQUEST = TableRequest(
    namespace_name="shop",
    workgroup_name="shop",
    snapshot_name="nightly",
    source_database="Dev",
    source_schema=None,
    source_table="Orders",
    target_database=None,
    target_schema=None,
    new_table="Orders_Back",
)


def test_what_is_not_given_is_public_and_then_what_the_source_has() -> None:
    source, target = names_of(REQUEST)
    assert source == TableName(database="dev", schema="public", table="orders")
    assert target == TableName(database="dev", schema="public", table="orders_back")
    _, elsewhere = names_of(dataclasses.replace(REQUEST, source_schema="Sales"))
    assert elsewhere.schema == "sales"


def test_names_are_taken_as_written_when_that_is_asked_for() -> None:
    request = dataclasses.replace(REQUEST, case_sensitive=True, target_schema="Archive")
    source, target = names_of(request)
    assert source == TableName(database="Dev", schema="public", table="Orders")
    assert target == TableName(database="Dev", schema="Archive", table="Orders_Back")


@pytest.mark.parametrize(
    ("field", "member"),
    [
        ("source_database", "sourceDatabaseName"),
        ("source_schema", "sourceSchemaName"),
        ("source_table", "sourceTableName"),
        ("target_database", "targetDatabaseName"),
        ("target_schema", "targetSchemaName"),
        ("new_table", "newTableName"),
    ],
)
def test_an_empty_name_is_refused_by_the_name_of_its_member(field: str, member: str) -> None:
    with pytest.raises(InvalidRequest, match=member):
        names_of(dataclasses.replace(REQUEST, **{field: ""}))  # type: ignore[arg-type]

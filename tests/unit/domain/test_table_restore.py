"""Names in requests for one table."""

import pytest

from stillframe.domain.table_restore import is_system_schema, parse_identifier
from stillframe.errors import InvalidRequest

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "folded"),
    [("orders", "orders"), ("Orders", "orders"), ("ORDERS 24", "orders 24"), ("ÄÖ", "ÄÖ"), ('A"b', 'a"b')],
)
def test_names_are_folded_as_postgresql_folds_what_is_not_quoted(text: str, folded: str) -> None:
    assert parse_identifier(text, case_sensitive=False, member="newTableName") == folded
    assert parse_identifier(text, case_sensitive=True, member="newTableName") == text


@pytest.mark.parametrize("text", ["", "a\0b", "x" * 64, "ä" * 32])
def test_names_that_nothing_can_have_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="newTableName"):
        parse_identifier(text, case_sensitive=True, member="newTableName")


def test_the_longest_name_is_63_bytes() -> None:
    assert parse_identifier("ä" * 31 + "x", case_sensitive=True, member="newTableName") == "ä" * 31 + "x"


@pytest.mark.parametrize(
    ("name", "is_system"),
    [
        ("public", False),
        ("pg_catalog", True),
        ("pg_temp_3", True),
        ("information_schema", True),
        ("pgx", False),
    ],
)
def test_postgresql_s_own_schemas_are_known(name: str, is_system: bool) -> None:
    assert is_system_schema(name) is is_system

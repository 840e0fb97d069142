"""Names of a table's parts, and the script that makes the table."""

import pytest

from stillframe.errors import InternalError
from stillframe.postgres.table_definition import without_restriction
from stillframe.postgres.table_names import free_name, renamed

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("name", "new_name"),
    [
        ("orders_pkey", "sales_pkey"),
        ("orders_id_seq", "sales_id_seq"),
        ("orders", "orders"),
        ("ordersx_pkey", "ordersx_pkey"),
        ("by_date", "by_date"),
    ],
)
def test_only_names_that_begin_with_the_table_s_change_with_it(name: str, new_name: str) -> None:
    assert renamed(name, old_table="orders", new_table="sales") == new_name


def test_a_new_name_is_never_longer_than_postgresql_allows() -> None:
    long = renamed("orders_pkey", old_table="orders", new_table="ä" * 31)
    assert len(long.encode()) <= 63
    assert long.endswith("_pkey")


def test_a_taken_name_gets_the_first_free_number() -> None:
    assert free_name("by_date", {"other"}) == "by_date"
    assert free_name("by_date", {"by_date", "by_date1"}) == "by_date2"
    assert free_name("x" * 63, {"x" * 63}) == "x" * 62 + "1"


SCRIPT = (
    "--\n-- PostgreSQL database dump\n--\n\n\\restrict Key1\n\n"
    "SELECT 1;\nCOMMENT ON x IS 'a\n\\restrict Key1\nb';\n"
)


def test_the_lines_for_psql_are_taken_out_and_no_others() -> None:
    script = without_restriction(f"{SCRIPT}--\n\n\\unrestrict Key1\n\n")
    assert script.count("restrict") == 1
    assert "'a\n\\restrict Key1\nb'" in script
    assert "unrestrict" not in script


def test_a_script_of_an_older_pg_dump_stays_as_it_is() -> None:
    script = "--\n-- PostgreSQL database dump\n--\n\nSELECT 1;\n"
    assert without_restriction(script) == script


@pytest.mark.parametrize("end", ["", "\n\\unrestrict Other\n\n"])
def test_a_script_with_one_bound_only_is_not_run(end: str) -> None:
    with pytest.raises(InternalError):
        without_restriction(SCRIPT + end)

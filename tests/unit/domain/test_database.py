"""Database names, admin names and passwords keep the vendor's rules and PostgreSQL's limits."""

import pytest

from stillframe.domain.database import check_password, parse_admin_name, parse_database_name
from stillframe.domain.lsn import Lsn
from stillframe.errors import InvalidRequest

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", ["dev", "D", "a_1+b.c@d-e", "x" * 63])
def test_a_database_name_begins_with_a_letter(name: str) -> None:
    assert parse_database_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "1db", "_db", "db!", "x" * 64, "select", "USER", "template0", "Template1", "d\0b"]
)
def test_other_database_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_database_name(name)


@pytest.mark.parametrize("name", ["pg_admin", "PG_x", "stillframe", "Stillframe", "public", "none", "all"])
def test_nobody_becomes_a_role_that_postgresql_or_the_service_keeps_for_itself(name: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_admin_name(name)


@pytest.mark.parametrize("password", ["Secret12", "A1b2C3d4!#$%&()*", "aA0" + "~" * 61])
def test_good_passwords_are_taken(password: str) -> None:
    check_password(password)


@pytest.mark.parametrize(
    "password",
    ["Short1a", "aA0" + "x" * 62, "nodigitsHere", "NOLOWER12", "noupper12", "With space1", "Quote'12",
     'Quote"12', "Slash/12", "Back\\slash12", "At@sign12", "Ünicode12"],
)  # fmt: skip
def test_bad_passwords_are_refused_without_being_repeated(password: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_password(password)
    assert password not in str(refused.value)


@pytest.mark.parametrize("text", ["0/0", "0/1A2B3C4D", "FFFFFFFF/FFFFFFFF"])
def test_an_lsn_reads_back_as_postgresql_prints_it(text: str) -> None:
    assert str(Lsn.parse(text)) == text


@pytest.mark.parametrize("text", ["", "/", "1", "0/", "/0", "0/123456789", "x/y", "0/1/2"])
def test_what_is_no_lsn_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Lsn.parse(text)


def test_an_lsn_knows_the_wal_file_that_holds_it() -> None:
    lsn = Lsn.parse("1/FF000028")
    assert lsn.segment_name(timeline=3, segment_size=16 * 1024 * 1024) == "0000000300000001000000FF"

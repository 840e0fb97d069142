"""Verifiers are those of RFC 7677, and fresh passwords obey the API's rules."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.errors import InvalidRequest
from stillframe.postgres.scram import check_password, prepared, random_password, scram_verifier

pytestmark = pytest.mark.unit


def test_the_example_of_the_standard_comes_out() -> None:
    # RFC 7677: user "pencil", salt and count as printed there; StoredKey follows from the proof shown there.
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    assert scram_verifier("pencil", salt=salt, iterations=4096) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_two_verifiers_of_one_password_differ() -> None:
    assert scram_verifier("Secret123") != scram_verifier("Secret123")


@pytest.mark.parametrize("password", ["", "with\0nul"])
def test_impossible_passwords_are_refused(password: str) -> None:
    with pytest.raises(InvalidRequest):
        scram_verifier(password)


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        ("plain", b"plain"),
        ("I\u00adX", b"IX"),
        ("\u00aa", b"a"),
        ("\u2168", b"IX"),
        ("a\u00a0b", b"a b"),
        ("tab\there", b"tab\there"),
        ("\u0627\u0031", "\u0627\u0031".encode()),
    ],
    ids=[
        "ascii",
        "mapped to nothing",
        "compatibility",
        "roman numeral",
        "space",
        "control taken raw",
        "bidi raw",
    ],
)
def test_passwords_are_prepared_as_the_server_does(password: str, expected: bytes) -> None:
    assert prepared(password) == expected


@given(length=st.integers(8, 64))
def test_random_passwords_pass_the_rules(length: int) -> None:
    fresh = random_password(length)
    assert len(fresh) == length
    check_password(fresh)


@pytest.mark.parametrize("length", [0, 7, 65])
def test_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(InvalidRequest):
        random_password(length)


@pytest.mark.parametrize(
    ("password", "complaint"),
    [
        ("Short1a", "between 8 and 64"),
        ("A" * 60 + "aaaa1", "between 8 and 64"),
        ("alllower1", "uppercase"),
        ("ALLUPPER1", "lowercase"),
        ("NoDigitsHere", "number"),
        ("With Space1", "printable"),
        ("With'quote1", "printable"),
        ("With\\back1", "printable"),
        ("With/slash1", "printable"),
        ("With@sign11", "printable"),
        ("Grüße12345", "printable"),
    ],
)
def test_each_broken_rule_is_named(password: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        check_password(password)

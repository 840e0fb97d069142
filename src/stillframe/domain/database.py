"""Names and passwords inside a namespace."""

import re
from typing import NewType

from stillframe.domain.reserved import RESERVED_WORDS
from stillframe.errors import InvalidRequest

DatabaseName = NewType("DatabaseName", str)
RoleName = NewType("RoleName", str)

DEFAULT_DATABASE = DatabaseName("dev")
DEFAULT_ADMIN = RoleName("admin")
SERVICE_ROLE = RoleName("stillframe")
"""The role the service itself uses inside every cluster; nobody else can log in as it."""

_NAME = re.compile(r"[a-zA-Z][a-zA-Z_0-9+.@-]*")
_LONGEST_NAME = 63
_FORBIDDEN_IN_PASSWORDS = frozenset("'\"\\/@")
_TEMPLATES = frozenset({"template0", "template1"})


def parse_database_name(text: str) -> DatabaseName:
    """1-63 characters, a letter first, no reserved word (API reference: CreateNamespace; PostgreSQL stores 63)."""
    if not _NAME.fullmatch(text) or len(text) > _LONGEST_NAME:
        raise InvalidRequest(
            "The database name must begin with a letter and contain 1 to 63 letters, digits or the characters _+.@-.",
        )
    if text.lower() in RESERVED_WORDS or text.lower() in _TEMPLATES:
        raise InvalidRequest(f"The database name {text} is a reserved word.")
    return DatabaseName(text)


def parse_admin_name(text: str) -> RoleName:
    """The same characters as a database name; not a role that PostgreSQL or the service keeps for itself."""
    if not _NAME.fullmatch(text) or len(text) > _LONGEST_NAME:
        raise InvalidRequest(
            "The admin user name must begin with a letter and contain 1 to 63 letters, digits or the characters _+.@-.",
        )
    if text.lower() in RESERVED_WORDS | {"public", "none", SERVICE_ROLE} or text.lower().startswith("pg_"):
        raise InvalidRequest(f"The admin user name {text} is reserved.")
    return RoleName(text)


def check_password(password: str) -> None:
    """8-64 printable ASCII characters but `' " \\ / @` and space, with an upper and lower case letter and a digit."""
    acceptable = (
        8 <= len(password) <= 64
        and all(33 <= ord(character) <= 126 for character in password)
        and not _FORBIDDEN_IN_PASSWORDS & set(password)
        and any(character.isupper() for character in password)
        and any(character.islower() for character in password)
        and any(character.isdigit() for character in password)
    )
    if not acceptable:
        raise InvalidRequest(
            "The admin password must be 8 to 64 printable ASCII characters with at least one uppercase letter, one "
            "lowercase letter and one digit, and without ' \" \\ / @ or space.",
        )

"""Passwords: what PostgreSQL stores instead of one (SCRAM-SHA-256, RFC 5802 and 7677), and fresh ones.

Computed here, so that a plain password never reaches a statement, a log or a file.
"""

import base64
import hashlib
import hmac
import secrets
import string
import stringprep
import unicodedata

from stillframe.errors import InvalidRequest

_ITERATIONS = 4096
_SALT_BYTES = 16
_FORBIDDEN = frozenset("'\"\\/@ ")
_ALPHABET = "".join(chr(code) for code in range(33, 127) if chr(code) not in _FORBIDDEN)
_CLASSES = (string.ascii_uppercase, string.ascii_lowercase, string.digits)

_PROHIBITED = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def scram_verifier(password: str, *, salt: bytes | None = None, iterations: int = _ITERATIONS) -> str:
    """What goes into `PASSWORD '…'` for this password (PostgreSQL: pg_be_scram_build_secret()).

    A random salt unless one is given. Raises InvalidRequest for an empty password or one with a NUL.
    """
    if not password or "\0" in password:
        raise InvalidRequest("A password must not be empty and must not contain a NUL character")
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${iterations}:{_base64(salt)}${_base64(stored_key)}:{_base64(server_key)}"


def prepared(password: str) -> bytes:
    """The bytes that are hashed: SASLprep (RFC 4013) where it applies, else the UTF-8 text as it is.

    libpq and the server do the same: what SASLprep prohibits is taken raw, so any password can be used.
    """
    mapped = "".join(_mapped(sign) for sign in password)
    normal = unicodedata.normalize("NFKC", mapped)
    return (normal if _allowed(normal) else password).encode()


def _mapped(sign: str) -> str:
    if stringprep.in_table_c12(sign):
        return " "
    return "" if stringprep.in_table_b1(sign) else sign


def _allowed(text: str) -> bool:
    if not text or any(check(sign) for sign in text for check in _PROHIBITED):
        return False
    right_to_left = [stringprep.in_table_d1(sign) for sign in text]
    if not any(right_to_left):
        return True
    return right_to_left[0] and right_to_left[-1] and not any(map(stringprep.in_table_d2, text))


def random_password(length: int = 32) -> str:
    """A fresh password by the API's rules for admin passwords: upper, lower, digit, printable ASCII.

    8 to 64 characters, no quotation marks, slashes, `@` or spaces. Raises InvalidRequest for another length.
    """
    if not 8 <= length <= 64:
        raise InvalidRequest("A password has 8 to 64 characters")
    choice = secrets.SystemRandom()
    signs = [choice.choice(kind) for kind in _CLASSES]
    signs += [choice.choice(_ALPHABET) for _ in range(length - len(signs))]
    choice.shuffle(signs)
    return "".join(signs)


def check_password(password: str) -> None:
    """Raise InvalidRequest, naming the broken rule, unless it may be an admin password (API reference)."""
    if not 8 <= len(password) <= 64:
        raise InvalidRequest("The password must be between 8 and 64 characters in length.")
    if any(sign not in _ALPHABET for sign in password):
        raise InvalidRequest(
            "The password can contain any printable ASCII character except ' \" \\ / @ and space."
        )
    for kind, name in zip(_CLASSES, ("uppercase letter", "lowercase letter", "number"), strict=True):
        if not any(sign in kind for sign in password):
            raise InvalidRequest(f"The password must contain at least one {name}.")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()

"""Names for what belongs to a table, when the table gets a new one."""

from collections.abc import Collection

LONGEST_NAME = 63
"""Bytes of a PostgreSQL identifier."""


def renamed(name: str, *, old_table: str, new_table: str) -> str:
    """The name of an index, constraint or sequence after its table's renaming.

    PostgreSQL begins those it names itself with the table's name; such a beginning changes with the table. A name
    that somebody chose stays.
    """
    if not name.startswith(f"{old_table}_"):
        return name
    return fitted(new_table, name[len(old_table) :])


def fitted(beginning: str, end: str) -> str:
    """Both together, with the beginning cut off where it would be longer than a name may be."""
    room = LONGEST_NAME - len(end.encode())
    if room < 1:
        return (beginning + end).encode()[:LONGEST_NAME].decode(errors="ignore")
    return beginning.encode()[:room].decode(errors="ignore") + end


def free_name(wanted: str, taken: Collection[str]) -> str:
    """`wanted`, or with the first number after it that makes it free, as PostgreSQL numbers names."""
    if wanted not in taken:
        return wanted
    number = 1
    while (candidate := fitted(wanted, str(number))) in taken:
        number += 1
    return candidate

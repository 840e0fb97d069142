"""Which relation a file of a snapshot is a part of, in the words of those who have to do something about it.

A snapshot knows the names of its databases, and numbers for everything else: names of relations are in their
database's own catalog, which may be what is damaged.
"""

import re
from typing import NamedTuple

from stillframe.repository.facts import SnapshotFacts
from stillframe.repository.format import BLOCK
from stillframe.repository.paths import split

_FILE = re.compile(r"(?P<number>[1-9]\d{0,9})(_(?P<fork>fsm|vm|init))?(\.(?P<segment>[1-9]\d{0,9}))?")
_DATABASE = re.compile(r"(?:base|pg_tblspc/(?P<space>\d+)/PG_[^/]+)/(?P<database>\d+)")


class AffectedRelation(NamedTuple):
    """A relation's description, and the number of its block that the file begins with."""

    description: str
    first_block: int


def affected_relation(path: str, facts: SnapshotFacts) -> AffectedRelation | None:
    """What a relation file belongs to: database, relation file number and fork; None for any other file.

    Numbers are object ids; the relation's own name is found by `pg_filenode_relation` in that database.
    """
    directory, name = split(path)
    file, place = _FILE.fullmatch(name), _place(directory, facts)
    if file is None or place is None:
        return None
    segment_blocks = facts.postgres.relation_segment_size // BLOCK
    description = f"{place}, relation file {file['number']}, fork {file['fork'] or 'main'}"
    return AffectedRelation(description, int(file["segment"] or 0) * segment_blocks)


def _place(directory: str, facts: SnapshotFacts) -> str | None:
    if directory == "global":
        return "shared by all databases"
    found = _DATABASE.fullmatch(directory)
    if found is None:
        return None
    names = {one.oid: one.name for one in facts.databases}
    number = int(found["database"])
    named = f" ({names[number]})" if number in names else ""
    space = f" in tablespace {found['space']}" if found["space"] else ""
    return f"database {number}{named}{space}"

"""Proving a snapshot on a private, running copy of it: every relation is there, whole, and can be read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stillframe.backup.progress import Progress
from stillframe.backup.table_copy import interrupting
from stillframe.domain.cancel import CancelToken
from stillframe.postgres.amcheck import (
    StoredRelation,
    check_relation,
    count_rows,
    install_amcheck,
    stored_relations,
    strange_sequences,
    unusable_indexes,
)
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import Session, connect
from stillframe.postgres.control import read_control_file
from stillframe.postgres.pages import PAGE_SIZE
from stillframe.postgres.roles import Database, list_databases
from stillframe.system import translating_os_errors

MOST_FINDINGS = 100

_LONGEST_STATEMENT = 6 * 3600
"""Seconds: an index's expression is its owner's code, and may have been changed since to never end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseProof:
    """What was checked of one database. `rows` of its users' tables, `bytes` of all its relations' first forks."""

    name: str
    tables: int
    indexes: int
    rows: int
    bytes: int


@dataclass(slots=True, kw_only=True)
class ProofReport:
    """What a proof saw: `findings` are what is wrong, `remarks` what is odd and was so in the source."""

    databases: list[DatabaseProof] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add_finding(self, sentence: str) -> None:
        """Note what is wrong; the first hundred are kept."""
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(sentence)


def prove(copy: Cluster, *, progress: Progress, cancel: CancelToken) -> ProofReport:
    """Check every database of a running private copy; nothing it finds is raised.

    Raises ServerUnavailable when the server goes away, Cancelled. The copy is changed for it: amcheck's functions are
    added where they are missing.
    """
    report = ProofReport()
    progress.begin("checking")
    with connect(copy) as session:
        databases = list_databases(session)
    progress.expect(sum(database.size for database in databases))
    segment = read_control_file(copy.data_directory).relation_segment_blocks * PAGE_SIZE
    for number, database in enumerate(databases):
        with (
            connect(copy, database.name, statement_timeout=_LONGEST_STATEMENT) as session,
            interrupting(session, cancel),
        ):
            check = _DatabaseCheck(copy.data_directory, session, database, report, segment=segment)
            report.databases.append(check.run(cancel, shared=number == 0))
        progress.advance(database.size)
    return report


class _DatabaseCheck:
    def __init__(
        self, root: Path, session: Session, database: Database, report: ProofReport, *, segment: int
    ) -> None:
        self._root = root
        self._session = session
        self._database = database
        self._report = report
        self._segment = segment

    def run(self, cancel: CancelToken, *, shared: bool) -> DatabaseProof:
        """Relations that belong to all databases are checked when `shared` says so."""
        schema = install_amcheck(self._session)
        relations = [found for found in stored_relations(self._session) if shared or not found.shared]
        rows = 0
        for relation in relations:
            cancel.raise_if_cancelled()
            rows += self._relation(relation, schema)
        self._catalogs()
        return DatabaseProof(
            name=self._database.name,
            tables=sum(1 for relation in relations if relation.countable),
            indexes=sum(1 for relation in relations if relation.is_index),
            rows=rows,
            bytes=sum(relation.size for relation in relations),
        )

    def _relation(self, relation: StoredRelation, schema: str) -> int:
        """Check one relation; how many rows it has."""
        wrong = list(self._files(relation))
        # What cannot be opened cannot be checked either, and says so once.
        if not wrong and relation.checkable:
            wrong += check_relation(self._session, schema, relation)
        rows: int | str = 0
        if not wrong and relation.countable:
            rows = count_rows(self._session, relation)
        if isinstance(rows, str):
            wrong.append(rows)
        for sentence in wrong:
            self._add(f"{relation.title}, file {relation.path}: {sentence}")
        return rows if isinstance(rows, int) else 0

    def _files(self, relation: StoredRelation) -> Iterator[str]:
        """What is wrong with the lengths of a relation's files: one after the other, all but the last one full."""
        with translating_os_errors("looking at the copy's files"):
            lengths = list(_segment_lengths(self._root / relation.path))
        if not lengths:
            yield "The file is missing."
        for number, length in enumerate(lengths):
            if length % PAGE_SIZE or length > self._segment:
                yield f"Segment {number} has {length} bytes, which no relation file has."
            elif length < self._segment and number + 1 < len(lengths):
                yield f"Segment {number} has {length} bytes, and others follow."

    def _catalogs(self) -> None:
        for name in strange_sequences(self._session):
            self._add(f"sequence {name}: It stands outside of its bounds.")
        self._report.remarks.extend(
            f"database {self._database.name}, index {name}: It is marked invalid, as it was in the namespace."
            for name in unusable_indexes(self._session)
        )

    def _add(self, sentence: str) -> None:
        self._report.add_finding(f"database {self._database.name}, {sentence}")


def _segment_lengths(first: Path) -> Iterator[int]:
    path, number = first, 0
    while path.exists():
        yield path.stat().st_size
        number += 1
        path = first.with_name(f"{first.name}.{number}")

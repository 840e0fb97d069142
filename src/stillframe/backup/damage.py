"""Saying which pages of the source are wrong, in the words of its users (rules 24, 25)."""

from collections.abc import Mapping, Sequence

from stillframe.backup.reading import DamagedPage, Findings
from stillframe.errors import StillframeError
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import Session, connect

_NAME_OF_FILE = """
    SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE pg_relation_filenode(c.oid) = %s
"""
_MOST_SENTENCES = 50


def damage_sentences(source: Cluster, findings: Findings, *, databases: Mapping[int, str]) -> tuple[str, ...]:
    """A sentence for each damaged page that loses data, with database, relation, file and block.

    After fifty, one more says how many there are in all. `databases` are the names by their numbers.
    """
    serious = [page for page in findings.damaged if not page.harmless]
    return _sentences(source, serious, databases=databases, total=findings.damaged_count)


def damaged_map_sentences(
    source: Cluster, findings: Findings, *, databases: Mapping[int, str]
) -> tuple[str, ...]:
    """The same for pages of maps of free space and visibility.

    Nothing is lost with them, because their readers make a bad page anew (rule 25); but something wrote to it.
    """
    maps = [page for page in findings.damaged if page.harmless]
    return _sentences(source, maps, databases=databases, total=findings.damaged_count)


def _sentences(
    source: Cluster, pages: Sequence[DamagedPage], *, databases: Mapping[int, str], total: int
) -> tuple[str, ...]:
    names = {str(number): name for number, name in databases.items()}
    sentences = [_sentence(source, page, names) for page in pages[:_MOST_SENTENCES]]
    if len(pages) > _MOST_SENTENCES:
        sentences.append(f"{total} pages of the source are damaged in all.")
    return tuple(sentences)


def _sentence(source: Cluster, page: DamagedPage, names: Mapping[str, str]) -> str:
    database = names.get(page.path.split("/")[-2])
    where = f"database {database}, relation {_relation_name(source, database, page)}, " if database else ""
    return f"A page fails its checksum and stays so: {where}file {page.path}, block {page.block}."


def _relation_name(source: Cluster, database: str, page: DamagedPage) -> str:
    """The relation's name, or its number when the damage, or its absence, keeps us from learning it."""
    try:
        with connect(source, database, statement_timeout=10) as session:
            return _looked_up(session, page)
    except StillframeError:
        return str(page.relation.number)


def _looked_up(session: Session, page: DamagedPage) -> str:
    rows = session.rows(_NAME_OF_FILE, (page.relation.number,))
    return str(rows[0][0]) if len(rows) == 1 else str(page.relation.number)

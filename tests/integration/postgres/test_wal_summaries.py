"""Our reading of WAL summaries against PostgreSQL's own two: its program and its function."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from stillframe.domain.cancel import CancelToken
from stillframe.domain.lsn import Lsn
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import Session, connect
from stillframe.postgres.files import Fork
from stillframe.postgres.wal_summaries import (
    NO_LIMIT,
    ForkKey,
    SummaryFile,
    list_summaries,
    merge_summaries,
    wait_until_summarized,
)
from support.postgres import login

pytestmark = pytest.mark.integration

Told = dict[ForkKey, tuple[int, list[int]]]
_FORKS = {"main": Fork.MAIN, "fsm": Fork.FREE_SPACE, "vm": Fork.VISIBILITY, "init": Fork.INIT}
_LINE = re.compile(r"TS (\d+), DB (\d+), REL (\d+), FORK (\w+): (limit|blocks?) (\d+)(?:\.\.(\d+))?")


@pytest.fixture(scope="module")
def summarised(namespace: Cluster) -> list[SummaryFile]:
    """Summaries of many kinds of changes, bitmaps among them."""
    with login(namespace) as admin:
        admin.execute("CREATE TABLE wide (n int, t text) WITH (fillfactor = 10)")
        admin.execute("INSERT INTO wide SELECT n, repeat('w', 700) FROM generate_series(1, 6000) AS n")
    _summarise(namespace)
    with login(namespace) as admin:
        admin.execute("UPDATE wide SET n = -n WHERE n % 50 = 0")
        admin.execute("DELETE FROM wide WHERE abs(n) > 5000")
        admin.execute("VACUUM wide")
        admin.execute("CREATE UNLOGGED TABLE careless (n int PRIMARY KEY)")
    with connect(namespace) as session:
        session.execute("CREATE DATABASE copied STRATEGY file_copy")
        session.execute("DROP DATABASE copied")
    _summarise(namespace)
    return list_summaries(namespace.data_directory)


def _summarise(cluster: Cluster) -> None:
    with connect(cluster) as session:
        session.execute("CHECKPOINT")
        redo = Lsn.parse(session.row("SELECT redo_lsn::text FROM pg_control_checkpoint()")[0])
        wait_until_summarized(session, lsn=redo, timeline=1, cancel=CancelToken())


def ours(file: SummaryFile) -> Told:
    return {key: (found.limit, found.blocks().tolist()) for key, found in merge_summaries([file]).items()}


def test_the_files_are_those_the_server_lists(namespace: Cluster, summarised: list[SummaryFile]) -> None:
    with connect(namespace) as session:
        rows = session.rows(
            "SELECT tli, start_lsn::text, end_lsn::text FROM pg_available_wal_summaries()"
            " ORDER BY tli, start_lsn - '0/0'::pg_lsn"
        )
    assert [(tli, Lsn.parse(start), Lsn.parse(end)) for tli, start, end in rows] == [
        (file.timeline, file.start, file.end) for file in summarised
    ]
    assert len(summarised) >= 2


def test_every_summary_says_what_the_servers_function_says(
    namespace: Cluster, summarised: list[SummaryFile]
) -> None:
    with connect(namespace) as session:
        for file in summarised:
            assert ours(file) == _by_function(session, file)


def test_every_summary_says_what_pg_walsummary_says(
    namespace: Cluster, summarised: list[SummaryFile]
) -> None:
    program = str(namespace.installation.program("pg_walsummary"))
    kinds: set[bool] = set()
    for file in summarised:
        told = ours(file)
        kinds |= {len(blocks) > 4096 for _, blocks in told.values()}
        assert told == _by_program(namespace, program, file.path)
    assert kinds == {False, True}, "there was no bitmap to read, or no list"


def test_all_kinds_of_entries_were_among_them(summarised: list[SummaryFile]) -> None:
    keys = [key for file in summarised for key in ours(file)]
    assert {key.fork for key in keys} >= {Fork.MAIN, Fork.VISIBILITY, Fork.INIT}
    assert any(key.number == 0 for key in keys)
    assert any(
        0 < limit < NO_LIMIT and blocks for file in summarised for limit, blocks in ours(file).values()
    )


def _by_function(session: Session, file: SummaryFile) -> Told:
    rows = session.rows(
        "SELECT reltablespace::int8, reldatabase::int8, relfilenode::int8, relforknumber, relblocknumber,"
        " is_limit_block FROM pg_wal_summary_contents(%s, %s::pg_lsn, %s::pg_lsn)",
        (file.timeline, str(file.start), str(file.end)),
    )
    forks = list(_FORKS.values())
    found = (
        (ForkKey(tablespace, database, number, forks[fork]), block, limit)
        for tablespace, database, number, fork, block, limit in rows
    )
    return _told((key, (block, block), limit) for key, block, limit in found)


def _by_program(cluster: Cluster, program: str, path: Path) -> Told:
    result = cluster.identity.run([program, str(path)], deadline=60)
    assert result.returncode == 0, result.stderr
    return _told(_parsed(line) for line in result.stdout.splitlines())


def _parsed(line: str) -> tuple[ForkKey, tuple[int, int], bool]:
    match = _LINE.fullmatch(line)
    assert match is not None, line
    key = ForkKey(int(match[1]), int(match[2]), int(match[3]), _FORKS[match[4]])
    return key, (int(match[6]), int(match[7] or match[6])), match[5] == "limit"


def _told(statements: Iterable[tuple[ForkKey, tuple[int, int], bool]]) -> Told:
    limits: dict[ForkKey, int] = {}
    blocks: dict[ForkKey, list[int]] = defaultdict(list)
    for key, (first, last), limit in statements:
        if limit:
            limits[key] = first
        else:
            blocks[key] += range(first, last + 1)
    return {key: (limits.get(key, NO_LIMIT), sorted(blocks[key])) for key in limits.keys() | blocks.keys()}

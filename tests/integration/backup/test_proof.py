"""A proof finds what is wrong with a copy, names it, and says nothing about what is well."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stillframe.backup.proof import ProofReport, prove
from stillframe.domain.cancel import CancelToken
from stillframe.errors import Cancelled
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.connection import connect
from stillframe.postgres.pages import PAGE_SIZE
from support.backup import new_progress
from support.damage import flip_bit
from support.postgres import SMALL, login, running_namespace

pytestmark = pytest.mark.integration

STATEMENTS = (
    "CREATE TABLE orders (id int PRIMARY KEY, note text)",
    "INSERT INTO orders SELECT n, md5(n::text) FROM generate_series(1, 5000) AS n",
    "CREATE TABLE long AS SELECT string_agg(md5(n::text), '') AS text FROM generate_series(1, 9000) AS n",
    "CREATE TABLE parts (n int) PARTITION BY RANGE (n)",
    "CREATE TABLE part_one PARTITION OF parts FOR VALUES FROM (0) TO (10)",
    "INSERT INTO parts VALUES (1), (2)",
    "CREATE MATERIALIZED VIEW later AS SELECT 1 AS n WITH NO DATA",
    "CREATE UNLOGGED TABLE scratch AS SELECT generate_series(1, 10) AS n",
    "CREATE TABLE nothing ()",
    "CREATE SEQUENCE tickets",
    "SELECT nextval('tickets')",
    'CREATE TABLE "odd "" name" AS SELECT 1 AS n',
    "CREATE INDEX by_hash ON orders USING hash (id)",
)


@pytest.fixture
def copy() -> Iterator[Cluster]:
    """A cluster with a bit of everything, all of it on disk and nothing in memory."""
    with running_namespace() as cluster:
        with login(cluster) as admin:
            for statement in STATEMENTS:
                admin.execute(statement.encode())
        cluster.stop()
        cluster.start(SMALL)
        yield cluster


def _prove(copy: Cluster) -> ProofReport:
    return prove(copy, progress=new_progress(), cancel=CancelToken())


def _file(copy: Cluster, name: str) -> tuple[str, Path]:
    with connect(copy, "dev") as session:
        (path,) = session.row("SELECT pg_relation_filepath(%s::regclass)", (f"public.{name}",))
    return path, copy.data_directory / path


def test_a_sound_copy_has_no_findings_and_its_rows_are_counted(copy: Cluster) -> None:
    progress = new_progress()
    report = prove(copy, progress=progress, cancel=CancelToken())
    assert (report.findings, report.remarks) == ([], [])
    found = {database.name: database for database in report.databases}
    assert found.keys() == {"dev", "postgres", "template1"}
    assert found["dev"].rows == 5000 + 1 + 2 + 10 + 1
    assert found["postgres"].rows == 0
    assert found["dev"].indexes > found["postgres"].indexes > 100
    assert progress.current.done_bytes == progress.current.total_bytes
    assert _prove(copy).findings == []


def test_a_flipped_bit_is_found_in_its_table(copy: Cluster) -> None:
    path, file = _file(copy, "orders")
    flip_bit(file, 7 * PAGE_SIZE + 4000)
    findings = _prove(copy).findings
    assert findings[0].startswith(f"database dev, table public.orders, file {path}: ")
    assert "block 7" in findings[0]
    assert all("orders" in finding for finding in findings)


def test_a_flipped_bit_is_found_in_its_index(copy: Cluster) -> None:
    path, file = _file(copy, "orders_pkey")
    flip_bit(file, 3 * PAGE_SIZE + 4000)
    (finding,) = _prove(copy).findings
    assert finding.startswith(f"database dev, index public.orders_pkey, file {path}: ")


def test_rows_that_an_index_does_not_know_are_found(copy: Cluster) -> None:
    """All checksums are right: only the comparison of index and table shows it."""
    with connect(copy, "dev") as session:
        session.execute(
            "UPDATE pg_index SET indisready = false WHERE indexrelid = 'public.orders_pkey'::regclass"
        )
        session.execute("INSERT INTO public.orders VALUES (9999, 'unseen')")
        session.execute(
            "UPDATE pg_index SET indisready = true WHERE indexrelid = 'public.orders_pkey'::regclass"
        )
    (finding,) = _prove(copy).findings
    assert "index public.orders_pkey" in finding
    assert "lacks matching index tuple" in finding


def test_a_file_that_is_not_there_is_missed(copy: Cluster) -> None:
    path, file = _file(copy, "orders")
    file.unlink()
    findings = _prove(copy).findings
    assert f"database dev, table public.orders, file {path}: The file is missing." in findings


def test_a_file_that_is_cut_off_is_found(copy: Cluster) -> None:
    path, file = _file(copy, "by_hash")
    with file.open("r+b") as opened:
        opened.truncate(PAGE_SIZE + 100)
    (finding,) = _prove(copy).findings
    assert finding.startswith(f"database dev, index public.by_hash, file {path}: ")
    assert finding.endswith(f"Segment 0 has {PAGE_SIZE + 100} bytes, which no relation file has.")


def test_a_segment_that_is_not_full_before_the_last_is_found(copy: Cluster) -> None:
    path, file = _file(copy, "by_hash")
    size = file.stat().st_size
    file.with_name(f"{file.name}.1").write_bytes(bytes(PAGE_SIZE))
    assert _prove(copy).findings == [
        f"database dev, index public.by_hash, file {path}: Segment 0 has {size} bytes, and others follow."
    ]


def test_an_index_that_is_marked_invalid_is_a_remark(copy: Cluster) -> None:
    with connect(copy, "dev") as session:
        session.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.by_hash'::regclass"
        )
    report = _prove(copy)
    assert report.findings == []
    assert report.remarks == [
        "database dev, index public.by_hash: It is marked invalid, as it was in the namespace."
    ]


def test_a_sequence_outside_of_its_bounds_is_found(copy: Cluster) -> None:
    with connect(copy, "dev") as session:
        session.execute("UPDATE pg_sequence SET seqmin = 5 WHERE seqrelid = 'public.tickets'::regclass")
    assert _prove(copy).findings == [
        "database dev, sequence public.tickets: It stands outside of its bounds."
    ]


def test_a_proof_that_is_cancelled_ends(copy: Cluster) -> None:
    cancel = CancelToken()
    cancel.cancel("Enough.")
    with pytest.raises(Cancelled, match="Enough"):
        prove(copy, progress=new_progress(), cancel=cancel)

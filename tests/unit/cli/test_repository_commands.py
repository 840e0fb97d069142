"""`repository stats` and `repository gc` on a data directory of which no service runs."""

from pathlib import Path
from typing import Any

import pytest

from stillframe.objectstore import LocalObjectStore
from stillframe.repository import Repository
from support.repository import keys_in, pages, store_files

pytestmark = pytest.mark.unit


@pytest.fixture(name="repository")
def _repository(data: Path) -> Repository:
    place = data / "regions" / "eu-central-1" / "repository"
    place.parent.mkdir(parents=True)
    return Repository.create_or_open(LocalObjectStore(place), keys_in(data))


def test_stats_tell_what_each_snapshot_alone_takes(
    repository: Repository, data: Path, stillframe: Any
) -> None:
    document = store_files(repository, {"base/5/1": pages(*range(32))})
    outcome = stillframe("repository", "stats", "--output", "json", "--data", str(data))
    (region,) = outcome.document["regions"]
    (snapshot,) = region["snapshots"]
    assert region["region"] == "eu-central-1"
    assert snapshot["snapshotId"] == str(document.snapshot_id)
    assert snapshot["snapshotName"] == "nightly"
    assert (
        0 < snapshot["uniqueBytes"] == snapshot["storedBytes"] == region["storedBytes"] - region["deadBytes"]
    )
    shown = stillframe("repository", "stats", "--data", str(data))
    assert "nightly" in shown.out
    assert "not needed" in shown.out


def test_gc_removes_what_is_not_needed_and_says_before_what_that_would_be(
    repository: Repository, data: Path, stillframe: Any
) -> None:
    document = store_files(repository, {"base/5/1": pages(*range(32))})
    repository.delete_snapshot(document.snapshot_id)
    planned = stillframe("repository", "gc", "--dry-run", "--output", "json", "--data", str(data)).document
    assert repository.statistics().packs == 1
    done = stillframe("repository", "gc", "--output", "json", "--data", str(data)).document
    assert (planned["dryRun"], done["dryRun"]) == (True, False)
    assert planned["regions"] == done["regions"]
    assert done["regions"][0]["packsRemoved"] == 2
    assert repository.statistics().packs == 0
    assert "0 packs" in stillframe("repository", "gc", "--data", str(data)).out


def test_the_index_is_made_anew_on_demand_and_its_state_is_told(
    repository: Repository, data: Path, stillframe: Any
) -> None:
    store_files(repository, {"base/5/1": pages(*range(32))})
    before = stillframe("repository", "check", "--output", "json", "--data", str(data)).document
    assert before["regions"][0]["index"] == {
        "indexObjects": 0,
        "indexBytes": 0,
        "packs": 2,
        "packsCovered": 0,
    }
    rebuilt = stillframe("repository", "rebuild-index", "--output", "json", "--data", str(data)).document
    (region,) = rebuilt["regions"]
    assert (region["region"], region["indexObjects"], region["packs"], region["packsCovered"]) == (
        "eu-central-1",
        1,
        2,
        2,
    )
    stats = stillframe("repository", "stats", "--output", "json", "--data", str(data)).document
    assert stats["regions"][0]["index"] == {name: value for name, value in region.items() if name != "region"}
    assert "covers 2 of 2 packs" in stillframe("repository", "stats", "--data", str(data)).out
    assert "covers 2 of 2 packs" in stillframe("repository", "check", "--data", str(data)).out
    assert "covers 2 of 2 packs" in stillframe("repository", "rebuild-index", "--data", str(data)).out

"""Whatever the store answers at whatever request of a capture and a restore: nothing committed is harmed.

The unit tests of the repository do the same at the calls of the port; here it is the requests below it, with a
real server, a real driver and its repetitions between the two. `STILLFRAME_S3_FAULT_POINTS=all` takes every
request for every fault; without it every fault meets a few of them, and different ones.
"""

import os
import uuid
from pathlib import Path

import pytest

from stillframe.domain.identifiers import SnapshotId
from stillframe.errors import StillframeError
from stillframe.objectstore import ObjectStore
from stillframe.objectstore.s3location import S3Location
from stillframe.repository import Level
from support.repository import contents, pages, repository_in, store_files
from support.s3 import (
    IMPATIENT,
    FaultyProxy,
    S3Fault,
    S3Server,
    cut_body,
    empty_listing,
    ignored_condition,
    late_server_error,
    lost_reply,
    lying_conflict,
    missing_listing,
    no_answer,
    no_space,
    not_found,
    refused,
    repeated_listing,
    server_error,
    short_body,
    store_at,
    wrong_bytes,
)

pytestmark = pytest.mark.integration

FIRST = {"base/5/1": pages(1, 2, 3), "PG_VERSION": b"18\n", "conf": os.urandom(2000)}
SECOND = FIRST | {"base/5/1": pages(1, 4, 3, 5), "base/5/2": pages(9), "wal": os.urandom(5000)}
NEW = SnapshotId(uuid.UUID(int=42))

PASSING: list[S3Fault] = [no_answer, lost_reply, server_error, late_server_error, cut_body]
"""Ended by the driver's repetitions when they last for one request; not when they last longer."""

LYING: list[S3Fault] = [
    refused,
    no_space,
    short_body,
    wrong_bytes,
    not_found,
    lying_conflict,
    ignored_condition,
]
LISTINGS: list[S3Fault] = [empty_listing, missing_listing, repeated_listing]
OUTLASTING = IMPATIENT.retries + 2
FEW = 4


class Original:
    """A store with one snapshot in it, of which every run gets a copy of its own."""

    def __init__(self, server: S3Server, directory: Path) -> None:
        self.server = server
        self.directory = directory
        store = self.store_of(server.tried_location())
        self.first = store_files(repository_in(directory, store), FIRST).snapshot_id
        self.objects = {one.name: store.get(one.name) for one in store.list("")}

    def copied(self) -> S3Location:
        """Another folder with the same objects."""
        location = self.server.tried_location()
        store = self.store_of(location)
        for name, data in self.objects.items():
            store.put(name, data)
        return location

    def store_of(self, location: S3Location) -> ObjectStore:
        """A store of that folder, with claims of its own: a run that failed is a process that died."""
        return store_at(location, self.directory / f"claims-{uuid.uuid4().hex}")


@pytest.fixture
def original(s3_server: S3Server, tmp_path: Path) -> Original:
    return Original(s3_server, tmp_path)


@pytest.mark.parametrize("lasting", [1, OUTLASTING])
@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.__name__)
def test_a_fault_of_the_network_at_any_request_harms_nothing(
    original: Original, s3_proxy: FaultyProxy, fault: S3Fault, lasting: int
) -> None:
    done, failed = run_with_faults(original, s3_proxy, fault, lasting=lasting)
    assert done + failed >= FEW
    assert failed == 0 or lasting > 1
    assert failed > 0 or lasting == 1


@pytest.mark.parametrize("fault", LYING, ids=lambda fault: fault.__name__)
def test_a_wrong_answer_at_any_request_harms_nothing(
    original: Original, s3_proxy: FaultyProxy, fault: S3Fault
) -> None:
    done, failed = run_with_faults(original, s3_proxy, fault)
    assert done + failed >= FEW


@pytest.mark.parametrize("fault", LISTINGS, ids=lambda fault: fault.__name__)
def test_a_listing_that_is_not_true_harms_nothing(
    original: Original, s3_proxy: FaultyProxy, fault: S3Fault
) -> None:
    done, failed = run_with_faults(original, s3_proxy, fault, only="list-type=2")
    assert done + failed >= FEW


def run_with_faults(
    original: Original, proxy: FaultyProxy, fault: S3Fault, *, lasting: int = 1, only: str = ""
) -> tuple[int, int]:
    """One run for each request of a run without faults; how many of them succeeded, and how many failed."""
    proxy.arm()
    assert captured_and_restored(original, proxy.through(original.copied()))
    every = [position for position, request in enumerate(proxy.requests) if only in request]
    assert len(every) > FEW
    outcomes = []
    for position in chosen(every, fault):
        location = original.copied()
        proxy.arm(fault, position=position, lasting=lasting)
        done = captured_and_restored(original, proxy.through(location))
        proxy.arm()
        assert_nothing_is_harmed(original, location, must_exist=done)
        outcomes.append(done)
    return sum(outcomes), len(outcomes) - sum(outcomes)


def chosen(every: list[int], fault: S3Fault) -> list[int]:
    """All, or a few that are spread over all, at other places for each fault."""
    if os.environ.get("STILLFRAME_S3_FAULT_POINTS") == "all":
        return every
    stride = len(every) // FEW
    return every[[*PASSING, *LYING, *LISTINGS].index(fault) % stride :: stride]


def captured_and_restored(original: Original, location: S3Location) -> bool:
    """Take a second snapshot and read both; whether it all succeeded. What is read must be right."""
    try:
        repository = repository_in(original.directory, original.store_of(location))
        store_files(repository, SECOND, parent=original.first, snapshot_id=NEW)
        found = contents(repository, NEW), contents(repository, original.first)
    except StillframeError:
        return False
    assert found == (SECOND, FIRST)
    return True


def assert_nothing_is_harmed(original: Original, location: S3Location, *, must_exist: bool) -> None:
    """By a store that behaves: what was there is, the new snapshot is whole or not there, a rerun converges."""
    repository = repository_in(original.directory, original.store_of(location))
    assert contents(repository, original.first) == FIRST
    exists = NEW in list(repository.snapshot_ids())
    assert exists or not must_exist
    if not exists:
        store_files(repository, SECOND, parent=original.first, snapshot_id=NEW)
    assert contents(repository, NEW) == SECOND
    repository.sweep()
    assert repository.check(level=Level.BYTES).findings == ()
    assert repository.statistics().open_or_abandoned_writers == 0

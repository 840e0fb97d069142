"""The S3 store where it differs from every other: a network, a server with opinions, and answers that get lost."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import obstore
import pytest

from stillframe.errors import (
    Conflict,
    DiskFull,
    ObjectMissing,
    PermissionMissing,
    StoredDataCorrupt,
    StoreUnavailable,
    Unsupported,
)
from stillframe.objectstore.s3 import S3ObjectStore, folders_with_store, open_s3_store
from stillframe.objectstore.s3.driver import connect
from stillframe.objectstore.s3.store import MARKER
from stillframe.objectstore.s3location import S3Credentials, S3Location
from support.s3 import (
    BUCKET,
    CREDENTIALS,
    IMPATIENT,
    FaultyProxy,
    Forward,
    Reply,
    Request,
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
    refused,
    repeated_listing,
    server_error,
    short_body,
    store_at,
    wrong_bytes,
)

pytestmark = pytest.mark.integration

FOREVER = 1000


@pytest.fixture
def location(s3_server: S3Server) -> S3Location:
    return s3_server.tried_location()


@pytest.fixture
def store(location: S3Location, s3_proxy: FaultyProxy, tmp_path: Path) -> S3ObjectStore:
    """Through the proxy, which behaves until it is armed."""
    return store_at(s3_proxy.through(location), tmp_path / "claims")


@pytest.fixture
def direct(location: S3Location, tmp_path: Path) -> S3ObjectStore:
    """The same store without the proxy."""
    return store_at(location, tmp_path / "claims")


def every_call(store: S3ObjectStore) -> list[Callable[[], object]]:
    return [
        lambda: store.put("a", b"x"),
        lambda: store.put("b", b"x", if_absent=True),
        lambda: store.get("a"),
        lambda: store.get_range("a", 0, 1),
        lambda: store.size("a"),
        lambda: list(store.list("")),
        lambda: store.delete("a"),
    ]


# --- replies that get lost -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [lost_reply, late_server_error], ids=lambda fault: fault.__name__)
def test_a_creation_whose_reply_was_lost_is_known_to_be_ours(
    store: S3ObjectStore, s3_proxy: FaultyProxy, fault: S3Fault
) -> None:
    s3_proxy.arm(fault, position=0)
    store.put("a", b"mine", if_absent=True)
    assert store.get("a") == b"mine"


@pytest.mark.parametrize(
    "fault", [lost_reply, late_server_error, no_answer], ids=lambda fault: fault.__name__
)
def test_a_creation_whose_reply_was_lost_is_not_taken_for_somebody_elses(
    store: S3ObjectStore, s3_proxy: FaultyProxy, direct: S3ObjectStore, fault: S3Fault
) -> None:
    """Also when they stored the very same bytes: only one may believe to have been first."""
    direct.put("a", b"the same", if_absent=True)
    s3_proxy.arm(fault, position=0)
    with pytest.raises(Conflict):
        store.put("a", b"the same", if_absent=True)


def test_a_reply_that_is_late_is_a_lost_one(
    location: S3Location, s3_proxy: FaultyProxy, tmp_path: Path
) -> None:
    hasty = store_at(
        s3_proxy.through(location), tmp_path / "claims", patience=replace(IMPATIENT, request=0.3)
    )

    def slow(request: Request, forward: Forward) -> Reply:
        reply = forward(request)
        time.sleep(0.6)
        return reply

    s3_proxy.arm(slow, position=0)
    hasty.put("a", b"mine", if_absent=True)
    assert hasty.get("a") == b"mine"
    s3_proxy.arm(slow, position=0, lasting=FOREVER)
    with pytest.raises(StoreUnavailable):
        hasty.put("b", b"mine", if_absent=True)


def test_of_many_creators_whose_replies_get_lost_exactly_one_wins(
    store: S3ObjectStore, s3_proxy: FaultyProxy
) -> None:
    def create(_number: int) -> bool:
        try:
            store.put("contested", b"all the same", if_absent=True)
        except Conflict:
            return False
        return True

    def often_lost(request: Request, forward: Forward) -> Reply | None:
        reply = forward(request)
        # Only of creations: who has lost one asks what has become of it, and gets an answer.
        return None if request.is_creation and len(s3_proxy.requests) % 2 else reply

    s3_proxy.arm(often_lost)
    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(create, range(4))) == 1


def test_a_conflict_about_nothing_is_asked_again(
    store: S3ObjectStore, s3_proxy: FaultyProxy, direct: S3ObjectStore
) -> None:
    s3_proxy.arm(lying_conflict, position=0)
    store.put("a", b"mine", if_absent=True)
    assert direct.get("a") == b"mine"
    s3_proxy.arm(lying_conflict)
    with pytest.raises(StoreUnavailable):
        store.put("b", b"mine", if_absent=True)


@pytest.mark.parametrize(
    "fault",
    [server_error, late_server_error, no_answer, lost_reply, cut_body],
    ids=lambda fault: fault.__name__,
)
def test_a_passing_fault_is_not_noticed(store: S3ObjectStore, s3_proxy: FaultyProxy, fault: S3Fault) -> None:
    for number, call in enumerate(every_call(store)):
        s3_proxy.arm(fault, position=0)
        try:
            call()
        except StoreUnavailable:
            # A replacement that was cut off is repeated too; but the driver takes a cut answer to it for whole.
            assert fault is cut_body, number


@pytest.mark.parametrize("fault", [server_error, no_answer], ids=lambda fault: fault.__name__)
def test_a_lasting_fault_is_an_unavailable_store_in_every_method(
    store: S3ObjectStore, s3_proxy: FaultyProxy, fault: S3Fault
) -> None:
    store.put("a", b"x")
    for call in every_call(store):
        s3_proxy.arm(fault, position=0, lasting=FOREVER)
        with pytest.raises(StoreUnavailable):
            call()


def test_nobody_listening_is_an_unavailable_store(location: S3Location, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        store_at(replace(location, endpoint_url="http://127.0.0.1:1"), tmp_path)


# --- answers that are wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [short_body, cut_body], ids=lambda fault: fault.__name__)
def test_a_range_that_comes_short_is_never_served(
    store: S3ObjectStore, s3_proxy: FaultyProxy, fault: S3Fault
) -> None:
    data = os.urandom(100_000)
    store.put("a", data)
    s3_proxy.arm(fault, position=0, lasting=FOREVER)
    with pytest.raises(StoreUnavailable):
        store.get_range("a", 10, 50_000)


def test_an_object_that_is_cut_off_is_fetched_again_or_not_served(
    store: S3ObjectStore, s3_proxy: FaultyProxy
) -> None:
    data = os.urandom(100_000)
    store.put("a", data)
    s3_proxy.arm(cut_body, position=0)
    assert store.get("a") == data
    s3_proxy.arm(cut_body, position=0, lasting=FOREVER)
    with pytest.raises(StoreUnavailable):
        store.get("a")


@pytest.mark.parametrize("fault", [short_body, wrong_bytes], ids=lambda fault: fault.__name__)
def test_a_document_that_comes_with_other_bytes_is_fetched_again_or_damaged(
    store: S3ObjectStore, s3_proxy: FaultyProxy, fault: S3Fault
) -> None:
    for name, if_absent in (("replaced", False), ("created", True)):
        store.put(name, b"a document without a checksum", if_absent=if_absent)
        s3_proxy.arm(fault, position=0)
        assert store.get(name) == b"a document without a checksum"
        s3_proxy.arm(fault, position=0, lasting=FOREVER)
        with pytest.raises(StoredDataCorrupt):
            store.get(name)
        s3_proxy.arm()


def test_refused_is_another_answer_than_missing(store: S3ObjectStore, s3_proxy: FaultyProxy) -> None:
    for call in every_call(store):
        s3_proxy.arm(refused)
        with pytest.raises(PermissionMissing):
            call()


def test_a_full_store_is_a_full_disk(store: S3ObjectStore, s3_proxy: FaultyProxy) -> None:
    s3_proxy.arm(no_space)
    for if_absent in (False, True):
        with pytest.raises(DiskFull):
            store.put("a", b"x", if_absent=if_absent)


def test_wrong_keys_are_refused_and_not_repeated(location: S3Location, tmp_path: Path) -> None:
    wrong = S3Credentials(access_key_id=CREDENTIALS.access_key_id, secret_access_key="wrong-and-secret")
    with pytest.raises(PermissionMissing) as caught:
        open_s3_store(location, claims=tmp_path, credentials=wrong, patience=IMPATIENT)
    cause = caught.value.__cause__
    assert "wrong-and-secret" not in f"{caught.value.message}{caught.value.hint}{caught.value.facts}{cause}"


def test_repeated_lines_of_a_listing_are_one_object(store: S3ObjectStore, s3_proxy: FaultyProxy) -> None:
    for name in ("a", "b", "c"):
        store.put(name, b"x")
    s3_proxy.arm(repeated_listing)
    assert [one.name for one in store.list("")] == ["a", "b", "c"]


# --- what is there, and what is not --------------------------------------------------------------------------


def test_a_bucket_that_is_not_there_is_no_empty_store(s3_server: S3Server, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="bucket"):
        store_at(replace(s3_server.new_location(), bucket="no-such-bucket"), tmp_path)


def test_a_store_that_was_emptied_is_no_empty_store(
    direct: S3ObjectStore, location: S3Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a moment later on: that the marker was there is believed for some seconds."""
    direct.put("a", b"x")
    obstore.delete(connect(location, credentials=CREDENTIALS, patience=IMPATIENT), ["a", MARKER])
    with pytest.raises(ObjectMissing):
        direct.get("a")
    monkeypatch.setattr(direct._is_there, "_believed_until", 0.0)
    for ask in (lambda: direct.get("a"), lambda: direct.size("a"), lambda: list(direct.list(""))):
        with pytest.raises(StoreUnavailable, match="marker"):
            ask()


def test_a_listing_of_many_pages_is_complete_and_in_order(direct: S3ObjectStore) -> None:
    names = [f"packs/{number:04d}" for number in range(1101)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: direct.put(name, b""), names))
    assert [one.name for one in direct.list("packs/")] == names


def test_an_object_in_parts_is_stored_whole(direct: S3ObjectStore) -> None:
    data = os.urandom(1 << 20) * 65
    direct.put("large", data)
    assert direct.size("large") == len(data)
    assert direct.get("large") == data
    assert direct.get_range("large", (33 << 20) - 5, 10) == data[(33 << 20) - 5 :][:10]


def test_folders_with_a_store_are_found_and_others_left_alone(s3_server: S3Server, tmp_path: Path) -> None:
    base = s3_server.new_location()
    for region in ("us-east-1", "eu-central-1"):
        store_at(base.below(region), tmp_path / region).put("a", b"x")
    obstore.put(connect(base, credentials=CREDENTIALS, patience=IMPATIENT), "eu-west-1/their-own", b"x")
    assert folders_with_store(base, credentials=CREDENTIALS, patience=IMPATIENT) == [
        "eu-central-1",
        "us-east-1",
    ]


# --- the trial -----------------------------------------------------------------------------------------------


def test_a_folder_is_tried_once_and_opened_by_one_request_from_then_on(
    s3_server: S3Server, s3_proxy: FaultyProxy, tmp_path: Path
) -> None:
    location = s3_proxy.through(s3_server.new_location())
    s3_proxy.arm()
    assert list(store_at(location, tmp_path).list("")) == []
    assert len(s3_proxy.requests) > 10
    s3_proxy.arm()
    store_at(location, tmp_path)
    assert s3_proxy.requests == [f"GET /{BUCKET}/{location.prefix}/{MARKER}"]


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (ignored_condition, "created only if there is none"),
        (empty_listing, "list"),
        (missing_listing, "list"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_endpoint_that_lies_is_refused_and_nothing_is_left_on_it(
    s3_server: S3Server, s3_proxy: FaultyProxy, tmp_path: Path, fault: S3Fault, sentence: str
) -> None:
    location = s3_server.new_location()
    s3_proxy.arm(fault)
    for _ in range(2):
        with pytest.raises(Unsupported, match=sentence):
            store_at(s3_proxy.through(location), tmp_path)
    left = obstore.list(connect(location, credentials=CREDENTIALS, patience=IMPATIENT)).collect()
    assert [one["path"] for one in left] == []


def test_a_trial_that_was_cut_off_is_made_again(
    s3_server: S3Server, s3_proxy: FaultyProxy, tmp_path: Path
) -> None:
    location = s3_proxy.through(s3_server.new_location())
    s3_proxy.arm(server_error, position=6, lasting=FOREVER)
    with pytest.raises(StoreUnavailable):
        store_at(location, tmp_path)
    s3_proxy.arm(ignored_condition)
    with pytest.raises(Unsupported):
        store_at(location, tmp_path)
    s3_proxy.arm()
    store = store_at(location, tmp_path)
    with pytest.raises(ObjectMissing):
        store.get("a")

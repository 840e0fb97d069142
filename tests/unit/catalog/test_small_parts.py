"""Page keys, retry pauses, timers, translated errors, connection strings: each alone."""

import threading
import uuid
from datetime import datetime

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import exc

from stillframe.catalog import PageKey, PeriodicTask, RetryPolicy
from stillframe.catalog.driver import with_limits
from stillframe.catalog.timers import Timers
from stillframe.catalog.translation import connection_was_lost, translate, translated
from stillframe.errors import (
    CatalogUnavailable,
    Conflict,
    DiskFull,
    InternalError,
    InvalidRequest,
    StillframeError,
)
from support.catalog import MORNING, eventually

pytestmark = pytest.mark.unit


@given(st.none() | st.just(MORNING), st.lists(st.text(), min_size=1, max_size=3))
def test_a_page_key_survives_its_plain_form(moment: datetime | None, identity: list[str]) -> None:
    key = PageKey(created_at=moment, identity=tuple(identity))
    assert PageKey.from_tuple(list(key.as_tuple())) == key


@pytest.mark.parametrize("texts", [(), ("",), ("yesterday", "x"), ("2026-03-04T05:06:07", "x")])
def test_what_is_not_a_page_key_is_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest):
        PageKey.from_tuple(texts)


def test_pauses_double_up_to_the_longest() -> None:
    policy = RetryPolicy(first_seconds=0.5, longest_seconds=60)
    assert [policy.pause(n) for n in (1, 2, 3, 7, 8, 10_000)] == [0.5, 1.0, 2.0, 32.0, 60.0, 60.0]
    assert [RetryPolicy(attempts=2).pause(n) for n in (1, 2)] == [0.5, None]


def test_a_timer_goes_on_after_a_failed_turn() -> None:
    turns = list[int]()

    def action() -> None:
        turns.append(len(turns))
        if len(turns) == 1:
            raise Conflict("busy")
        if len(turns) == 2:
            raise ZeroDivisionError

    timers = Timers([PeriodicTask(name="sweep", every_seconds=0.001, action=action)])
    timers.start()
    eventually(lambda: len(turns) >= 4)
    timers.stop()
    seen = len(turns)
    threading.Event().wait(0.05)
    assert len(turns) == seen


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (psycopg.errors.UniqueViolation("x"), Conflict),
        (psycopg.errors.CheckViolation("x"), InternalError),
        (psycopg.errors.LockNotAvailable("x"), Conflict),
        (psycopg.errors.DiskFull("x"), DiskFull),
        (psycopg.OperationalError("connection lost"), CatalogUnavailable),
        (psycopg.errors.NumericValueOutOfRange("x"), InvalidRequest),
        (psycopg.errors.UndefinedTable("x"), InternalError),
        (ValueError("x"), InternalError),
    ],
)
def test_driver_errors_get_our_names(raised: Exception, expected: type[StillframeError]) -> None:
    assert type(translate(raised)) is expected


def test_a_pool_without_a_free_connection_is_an_unavailable_catalog() -> None:
    with pytest.raises(CatalogUnavailable), translated():
        raise exc.TimeoutError


def test_our_own_errors_pass_untouched() -> None:
    error = Conflict("ours")
    with pytest.raises(Conflict) as caught, translated():
        raise error
    assert caught.value is error


def test_only_a_lost_connection_is_worth_another_attempt() -> None:
    assert connection_was_lost(psycopg.errors.AdminShutdown("x"))
    assert connection_was_lost(psycopg.InterfaceError("the connection is closed"))
    assert not connection_was_lost(psycopg.errors.RaiseException("x"))
    assert not connection_was_lost(None)


@pytest.mark.parametrize(
    "given_place", ["host=/run/x dbname=catalog", "postgresql://me@db.example:6432/catalog"]
)
def test_every_wait_gets_a_deadline(given_place: str) -> None:
    found = conninfo_to_dict(with_limits(given_place))
    assert found["dbname"] == "catalog"
    assert found["connect_timeout"] == "5"
    assert "lock_timeout=15s" in str(found["options"])
    assert with_limits(with_limits(given_place))


def test_what_the_connection_string_says_is_kept() -> None:
    name = uuid.uuid4().hex
    found = conninfo_to_dict(
        with_limits(f"connect_timeout=9 application_name={name} options='-c lock_timeout=1s'")
    )
    assert (found["connect_timeout"], found["application_name"]) == ("9", name)
    # The server takes the last one that it is given.
    assert str(found["options"]).endswith("lock_timeout=1s")

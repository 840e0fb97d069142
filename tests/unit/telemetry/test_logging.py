"""What log lines look like, and what they must never show."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from stillframe.kms import Secret
from stillframe.telemetry.logging import configure_logging

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def configured(level: str = "info", *, as_json: bool | None = True) -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level, json=as_json, stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_its_facts_and_the_request_id() -> None:
    stream = configured()
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("stillframe.test").info("snapshot_taken", size=7)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "snapshot_taken",
        "size": 7,
        "request_id": "r-1",
        "level": "info",
        "logger": "stillframe.test",
    }


def test_what_is_not_a_terminal_gets_json() -> None:
    stream = configured(as_json=None)
    structlog.get_logger("x").info("it_happened")
    assert lines(stream)[0]["event"] == "it_happened"


def test_a_terminal_gets_text() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    configure_logging("info", stream=stream)
    structlog.get_logger("x").info("it_happened")
    assert "it_happened" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_lines_below_the_level_are_not_written() -> None:
    stream = configured("warning")
    structlog.get_logger("x").info("too_quiet")
    logging.getLogger("library").info("too quiet")
    structlog.get_logger("x").warning("loud_enough")
    assert [line["event"] for line in lines(stream)] == ["loud_enough"]


def test_lines_of_libraries_take_the_same_way() -> None:
    stream = configured()
    logging.getLogger("library").warning("Careful with %s", "that", extra={"port": 5})
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("Careful with that", "warning", "library")
    assert line["port"] == 5


def test_chatty_libraries_are_heard_from_warnings_on() -> None:
    stream = configured("debug")
    logging.getLogger("procrastinate.worker").info("Starting worker")
    logging.getLogger("procrastinate.worker").warning("Lost connection")
    assert [line["event"] for line in lines(stream)] == ["Lost connection"]


@pytest.mark.parametrize("as_json", [True, False])
def test_secrets_are_never_written(as_json: bool) -> None:
    stream = configured(as_json=as_json)
    secret = Secret("hunter2")
    structlog.get_logger("x").info(
        "created", password=secret, nested={"keys": [secret, SecretStr("hunter2")]}, pair=(secret,)
    )
    logging.getLogger("library").warning("Got %s", secret)
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("***") >= 5


def fail() -> None:
    password = "hunter2"  # a local variable, as a handler has them
    raise ValueError(len(password))


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_shows_places_but_no_local_variables(as_json: bool) -> None:
    stream = configured(as_json=as_json)
    try:
        fail()
    except ValueError as error:
        structlog.get_logger("x").error("it_failed", exc_info=error)
    written = stream.getvalue()
    assert "ValueError" in written
    assert "in fail" in written or '"name": "fail"' in written
    assert written.count("hunter2") == 0

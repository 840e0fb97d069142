"""What all tests share: support modules on the path, and none of the developer's own settings."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stillframe.postgres.osfiles import spread_subdirectories

if TYPE_CHECKING:
    from support.s3 import FaultyProxy, S3Server

sys.path.insert(0, str(Path(__file__).parent))

_FOREIGN = ("STILLFRAME_", "AWS_", "PG")
_OURS = {
    "STILLFRAME_HYDRATION_STEPS",
    "STILLFRAME_CRASH_POINTS",
    "STILLFRAME_EQUIVALENCE_NATIVE",
    "STILLFRAME_EQUIVALENCE_OPERATIONS",
    "STILLFRAME_EQUIVALENCE_SEED",
    "STILLFRAME_S3_FAULT_POINTS",
    "STILLFRAME_TEST_STORE",
}


@pytest.fixture(scope="session", autouse=True)
def _room_on_the_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One short directory for all temporary ones of this process, spread over the disk.

    Tests make and remove thousands of files, which on ext4 is many times dearer in one place.
    """
    with tempfile.TemporaryDirectory(prefix="sf", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o711)
        for spread in (Path(directory), tmp_path_factory.getbasetemp()):
            spread_subdirectories(spread)
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TMPDIR", directory)
            environment.setattr(tempfile, "tempdir", directory)
            yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's credentials, profiles and servers must not reach a test."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) and name not in _OURS:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def s3_server() -> "Iterator[S3Server]":
    """A real S3 server for all tests of this process; started when the first one asks for it."""
    from support.s3 import running_s3_server

    with running_s3_server() as server:
        yield server


@pytest.fixture
def s3_proxy(s3_server: "S3Server") -> "Iterator[FaultyProxy]":
    """A proxy before the S3 server that can be told to answer wrongly."""
    from support.s3 import FaultyProxy

    proxy = FaultyProxy(s3_server)
    yield proxy
    proxy.close()


@pytest.fixture(scope="session", autouse=True)
def _store_under_test(request: pytest.FixtureRequest) -> "Iterator[None]":
    """With `STILLFRAME_TEST_STORE=s3` the tests of repositories keep theirs on a real S3 server."""
    if os.environ.get("STILLFRAME_TEST_STORE") != "s3":
        yield
        return
    with pytest.MonkeyPatch.context() as environment:
        server: S3Server = request.getfixturevalue("s3_server")
        environment.setenv("STILLFRAME_TEST_STORE", server.endpoint_url)
        yield

"""The store that a test keeps its repository in: a directory, or a real S3 server with `STILLFRAME_TEST_STORE=s3`.

So every test of repositories can be run on either. A program that a test starts finds the same store if it gets
`store_environment()`.
"""

import hashlib
import os
from pathlib import Path

from stillframe.objectstore import LocalObjectStore, ObjectStore

STORE = "STILLFRAME_TEST_STORE"
"""Unset, `s3` before the tests begin, and the endpoint of the server from then on."""


def store_in(directory: Path) -> ObjectStore:
    """The one store that belongs to this directory, however often it is asked for."""
    endpoint_url = os.environ.get(STORE)
    if not endpoint_url:
        return LocalObjectStore(directory / "repository")
    from support.s3 import S3Server, folder_of

    folder = hashlib.sha256(str(directory).encode()).hexdigest()[:32]
    return folder_of(S3Server.at(endpoint_url), folder, claims=directory / "claims")


def store_environment() -> dict[str, str]:
    """What a program has to find in its environment to use the same stores."""
    if not os.environ.get(STORE):
        return {}
    # Safe: a program in this directory would take our `http` for the standard library's.
    return {STORE: os.environ[STORE], "PYTHONSAFEPATH": "1"}

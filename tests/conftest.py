"""What all tests share: support modules on the path, and none of the developer's own settings."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

_FOREIGN = ("STILLFRAME_", "AWS_", "PG")
_OURS = {
    "STILLFRAME_CRASH_POINTS",
    "STILLFRAME_EQUIVALENCE_OPERATIONS",
    "STILLFRAME_EQUIVALENCE_SEED",
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's credentials, profiles and servers must not reach a test."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) and name not in _OURS:
            monkeypatch.delenv(name)

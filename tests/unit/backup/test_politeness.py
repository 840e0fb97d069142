"""Copying gives way to everything else that wants a core."""

import os
import sys
import threading

import pytest

from stillframe.backup.parallel import run_parallel
from stillframe.domain.cancel import CancelToken

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority of each thread"),
]


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_copying_threads_are_nicer_than_the_one_that_waits_for_them() -> None:
    found: list[int] = []
    before = _niceness()
    run_parallel(iter([lambda: found.append(_niceness())] * 4), threads=2, cancel=CancelToken())
    assert len(found) == 4
    assert set(found) == {min(before + 5, 19)}
    assert _niceness() == before


def test_what_somebody_waits_for_is_not_copied_politely() -> None:
    found: list[int] = []
    run_parallel(iter([lambda: found.append(_niceness())] * 2), threads=2, cancel=CancelToken(), polite=False)
    assert set(found) == {_niceness()}

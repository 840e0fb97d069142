"""Asking a thread whether it truncates."""

import subprocess
import sys

import pytest

from stillframe.hydration.calls import UNKNOWN
from stillframe.hydration.truncation import may_truncate, new_length

pytestmark = pytest.mark.unit


def test_only_the_shortest_ranges_may_be_truncations() -> None:
    assert may_truncate(0)
    assert may_truncate(4096)
    assert not may_truncate(8192)


def test_a_thread_that_does_something_else_does_not_truncate() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        try:
            found = new_length(process.pid)
            assert found is None or found is UNKNOWN
        finally:
            process.kill()


def test_a_thread_that_is_gone_does_not_either() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    assert new_length(process.pid) is None


def test_a_thread_of_another_namespace_is_not_known() -> None:
    assert new_length(0) is UNKNOWN

"""Room for descriptors, in a process of its own: it changes what a process may do."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

_PROGRAM = """
import os, re, resource
from pathlib import Path
from stillframe.hydration import prepare_descriptors
from stillframe.hydration.descriptors import RESERVED, free_descriptors

def table():
    return int(re.search(r"^FDSize:\\s+(\\d+)$", Path("/proc/self/status").read_text(), re.MULTILINE)[1])

resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
before, opened = table(), os.listdir("/proc/self/fd")
prepare_descriptors()
assert os.listdir("/proc/self/fd") == opened
assert resource.getrlimit(resource.RLIMIT_NOFILE) == ({hard}, {hard})
print(before, table(), free_descriptors(), RESERVED)
"""


@pytest.mark.parametrize("hard", [1500, 20_000])
def test_the_table_is_made_for_as_many_as_are_allowed_and_nothing_stays_open(hard: int) -> None:
    program = _PROGRAM.format(soft=hard // 2, hard=hard)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    before, after, free, reserved = map(int, done.stdout.split())
    assert before < min(hard, 16384) <= after
    assert 0 < free <= hard - reserved

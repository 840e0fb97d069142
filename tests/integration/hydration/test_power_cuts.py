"""The power goes while files arrive, on file systems that lose what was not durable: nothing that was promised is lost.

STILLFRAME_POWER_CUTS is how often it goes, on each of them.
"""

import logging
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hydration import skip_unless_supported
from support.hydration_disks import KINDS, Disk, disk
from support.hydration_power import HalfArrived, reference_directory
from support.hydration_truncations import Truncated
from support.postgres import reachable_directory

pytestmark = pytest.mark.integration

log = logging.getLogger(__name__)

_CUTS = int(os.environ.get("STILLFRAME_POWER_CUTS", "2"))
_SEED = int(os.environ.get("STILLFRAME_POWER_SEED", "1"))
_CUTS_OF_A_LIFE = 5
_TRUNCATIONS = max(1, _CUTS // 2)
_MOST_TRUNCATIONS = 10 * _TRUNCATIONS


@pytest.fixture(scope="module")
def reference() -> Iterator[Path]:
    """What arrives."""
    with reference_directory() as directory:
        yield directory


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Disk]:
    """A disk of each kind."""
    with reachable_directory() as directory, disk(directory, request.param) as made:
        skip_unless_supported(made.mount_point)
        yield made


def test_a_truncation_that_is_durable_has_its_lowered_tag(place: Disk) -> None:
    """Otherwise a file that was cut off and grew again would be filled with what was cut off."""
    chance, seen = random.Random(_SEED), Counter[str]()
    for turn in range(_MOST_TRUNCATIONS):
        root = place.mount_point / f"turn-{turn}"
        beside = place.mount_point.parent / f"turn-{turn}"
        files = Truncated(root, beside, chance)
        place.settle()
        with files.at_work():
            files.await_some()
            place.cut()
        place.unmount()
        place.mount()
        seen += files.judge()
        # Files of both kinds say something; how many there are of each, and whether there is any, is chance.
        durable = seen["cut off"] + seen["grown again"]
        if durable and turn + 1 >= _TRUNCATIONS:
            break
    log.info("truncations %s: %s", place.kind, dict(seen))
    assert durable > 0


def test_what_was_committed_survives_every_power_cut_while_files_arrive(place: Disk, reference: Path) -> None:
    chance, cuts, arriving, life = random.Random(_SEED), 0, 0, _SEED * 1000
    while cuts < _CUTS:
        half = HalfArrived(place, reference, life, report=log.info)
        half.lay_out()
        for _ in range(min(_CUTS_OF_A_LIFE, _CUTS - cuts)):
            # Not again once everything is there: such a directory is like any other.
            if half.arrives:
                half.live_and_lose_power(chance.uniform(0.1, 2.0))
                cuts += 1
        half.require_same()
        half.remove()
        arriving, life = arriving + half.cuts_while_arriving, life + 1
    log.info("power_cuts %s: %d, while files arrived: %d", place.kind, cuts, arriving)
    assert arriving > 0

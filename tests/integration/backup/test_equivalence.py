"""After whatever a random schedule does, an incremental snapshot equals an independent full copy.

The reduced form runs with all other tests; STILLFRAME_EQUIVALENCE_OPERATIONS makes it longer, and
STILLFRAME_EQUIVALENCE_SEED repeats a run.
"""

import os
import random

import pytest

from support.equivalence_schedule import schedule

pytestmark = pytest.mark.integration

# Read before the tests are run: none of them sees the developer's own settings.
OPERATIONS = int(os.environ.get("STILLFRAME_EQUIVALENCE_OPERATIONS", "30"))
SEED = int(os.environ.get("STILLFRAME_EQUIVALENCE_SEED", random.SystemRandom().randrange(2**32)))
EACH = 5
"""Operations between two snapshots that are compared; every 200 operations, and once at least, one is restored."""


@pytest.mark.timeout(300 + 3 * OPERATIONS)
def test_incremental_snapshots_equal_full_copies_through_a_random_schedule() -> None:
    compared = 0
    with schedule(SEED) as now:
        try:
            for number in range(1, OPERATIONS + 1):
                now.step()
                if number % EACH == 0:
                    now.log.append("compared")
                    now.rig.verified()
                    compared += 1
                if number % 200 == 0 or number == OPERATIONS // 2:
                    now.move_to_a_restored_copy()
        except BaseException as error:
            error.add_note(f"STILLFRAME_EQUIVALENCE_SEED={SEED}\n" + "\n".join(now.log[-60:]))
            raise
    assert compared == OPERATIONS // EACH

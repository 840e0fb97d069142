"""Whatever a store answers at whatever call of whatever operation: nothing that is needed is lost.

The calls are those of the port. Operations are drawn by chance, as is the repository that they find.
STILLFRAME_STORE_FAULTS says how many calls go wrong.
"""

import itertools
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from stillframe.errors import StillframeError
from support.objectstore import Crash, Fault, FaultyStore
from support.repository_history import switched_keys
from support.store_faults import CONCERNED, LYING, PASSING, HidingStore, Past, StaleStore
from support.store_trials import Operation, Setting

pytestmark = [pytest.mark.crash, pytest.mark.timeout(0)]

FAULTS = int(os.environ.get("STILLFRAME_STORE_FAULTS", "60"))
FIRST_SEED = int(os.environ.get("STILLFRAME_STORE_SEED", "1000"))


def go_wrong(past: Past, operation: Operation, fault: Fault, position: int) -> str:
    """One call of an operation goes wrong. Says how it ended, or nothing when it has fewer calls."""
    store = past.store.copy()
    faulty = FaultyStore(store, position=position, fault=fault, only=CONCERNED.get(fault, ""))
    try:
        past.setting.run_on(operation, faulty)
        outcome = "done"
    except Crash:
        outcome = "died"
    except StillframeError as error:
        outcome = error.kind
    if len(faulty.calls) <= position:
        return ""
    store.all_holders_die()
    promises = past.promises.copy()
    # Who believes a lie may have done nothing, and says so.
    operation.expect(promises, outcome == "done" and fault in PASSING)
    past.setting.verify_in(store, promises, operation)
    return outcome


@pytest.mark.parametrize("fault", [*PASSING, *LYING], ids=lambda fault: fault.__name__)
def test_a_fault_at_any_call_of_any_operation_harms_nothing(tmp_path: Path, fault: Fault) -> None:
    keys, outcomes = switched_keys(tmp_path / "keys"), Counter[str]()
    for seed in itertools.count(FIRST_SEED):
        past = Past(Setting(keys, seed), 14)
        operation = past.setting.operation(past.promises)
        operation.expect(past.promises, False)
        stride = 1 if FAULTS >= 1000 else 5
        try:
            for position in itertools.count(seed % stride, stride):
                outcome = go_wrong(past, operation, fault, position)
                if not outcome:
                    break
                outcomes[f"{operation.what}: {outcome}"] += 1
        except BaseException as error:
            error.add_note(f"The history of seed {seed}, {operation.what}.")
            raise
        if outcomes.total() * len([*PASSING, *LYING]) >= FAULTS:
            break
    sys.stdout.write(f"{fault.__name__}: {outcomes.total()} calls: {dict(outcomes)}\n")


def sweep_with(past: Past, lying: FaultyStore) -> str:
    """How a sweep ended that believes a lying store."""
    operation = past.setting._sweep()
    try:
        past.setting.run_on(operation, lying)
    except StillframeError as error:
        return error.kind
    return "done"


def test_a_sweep_that_is_never_shown_an_object_removes_nothing_that_is_needed(tmp_path: Path) -> None:
    """One object after the other, for the whole of a sweep, and another one after it."""
    keys, outcomes = switched_keys(tmp_path / "keys"), Counter[str]()
    for seed in itertools.count(FIRST_SEED):
        past = Past(Setting(keys, seed), 14)
        for name in past.store.objects:
            store = past.store.copy()
            for _ in range(2):
                outcomes[
                    f"{name.partition('/')[0]}: {sweep_with(past, HidingStore(store, hidden=name))}"
                ] += 1
            past.setting.verify_in(store, past.promises, None)
        if outcomes.total() >= 2 * FAULTS:
            break
    sys.stdout.write(f"Hidden: {outcomes.total()} sweeps: {dict(outcomes)}\n")
    assert outcomes["snapshots: store_unavailable"] > 0


@pytest.mark.parametrize(
    "prefix", ["snapshots/", "pins/", "attributes/", "condemned/", "packs/", "nodes/", "retired/"]
)
def test_a_sweep_that_is_shown_what_there_was_before_removes_nothing_that_is_needed(
    tmp_path: Path, prefix: str
) -> None:
    keys, outcomes = switched_keys(tmp_path / "keys"), Counter[str]()
    for seed in itertools.count(FIRST_SEED):
        past = Past(Setting(keys, seed), 14)
        for earlier in past.earlier[4:]:
            store = past.store.copy()
            outcomes[sweep_with(past, StaleStore(store, earlier=earlier, prefix=prefix))] += 1
            past.setting.verify_in(store, past.promises, None)
        if outcomes.total() * 7 >= FAULTS:
            break
    sys.stdout.write(f"Stale {prefix}: {outcomes.total()} sweeps: {dict(outcomes)}\n")

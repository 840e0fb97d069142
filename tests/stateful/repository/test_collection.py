"""Writers, readers, pins, deletions and sweeps of one repository, in between each other's every call to the store.

It is the real code that runs, on a store in memory; what is drawn is who makes the next call, and whether that call
fails, loses its answer, or is its process's last. STILLFRAME_GC_STEPS says how many calls.
"""

import itertools
import os
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from stillframe.errors import ObjectMissing
from stillframe.repository import SweepPolicy, collecting, epochs, indexing
from stillframe.repository.marking import Marking
from support.repository_history import GRADUAL, IDS, WHOLE, history, switched_keys, wander
from support.repository_schedule import SwitchedKeys, Turn

pytestmark = pytest.mark.stateful

STEPS = int(os.environ.get("STILLFRAME_GC_STEPS", "4000"))
DRAWN = 3000
"""Calls of which Hypothesis draws the order, and can shorten it. The rest goes by chance, ten times as fast."""
FIRST_SEED = 10_000

NUMBER = st.integers(1, IDS)
PIN = st.integers(1, 4)
POLICY = st.sampled_from([SweepPolicy(), WHOLE, GRADUAL])
TURNS = st.binary(min_size=1, max_size=4)


class Collection(RuleBasedStateMachine):
    """Each rule lets somebody begin; `go` lets those who have begun go on."""

    total = 0
    ended: ClassVar[Counter[str]]
    keys: ClassVar[SwitchedKeys]

    def __init__(self) -> None:
        super().__init__()
        self._ending = ExitStack()
        self.history = self._ending.enter_context(history(self.keys))

    @rule(number=NUMBER, parent=st.none() | NUMBER, aborts=st.sampled_from([False, False, False, True]))
    def write(self, number: int, parent: int | None, aborts: bool) -> None:
        self.history.write(number, parent, aborts=aborts)

    @rule(number=NUMBER, rounds=st.integers(1, 3))
    def read(self, number: int, rounds: int) -> None:
        self.history.read(number, rounds)

    @rule(number=NUMBER, pin=PIN)
    def pin(self, number: int, pin: int) -> None:
        self.history.pin(number, pin)

    @rule(pin=PIN)
    def unpin(self, pin: int) -> None:
        self.history.unpin(pin)

    @rule(pin=PIN, rounds=st.integers(1, 3))
    def read_pinned(self, pin: int, rounds: int) -> None:
        self.history.read_pinned(pin, rounds)

    @rule(number=NUMBER)
    def delete(self, number: int) -> None:
        self.history.delete(number)

    @rule(policy=POLICY)
    def sweep(self, policy: SweepPolicy) -> None:
        self.history.sweep(policy)

    @rule(number=st.integers(0, 1))
    def switch_key(self, number: int) -> None:
        self.history.switch_key(number)

    @rule(policy=POLICY)
    def sweep_again(self, policy: SweepPolicy) -> None:
        self.sweep(policy)

    @rule(turns=TURNS)
    def go(self, turns: bytes) -> None:
        for turn in turns:
            self.history.steps_of(turn)

    @rule(turns=TURNS, who=st.integers(0, 4), how=st.sampled_from([Turn.FAIL, Turn.LOSE_REPLY, Turn.DIE]))
    def go_wrong(self, turns: bytes, who: int, how: Turn) -> None:
        self.go(turns)
        self.history.step(who, how)

    @rule(number=st.integers(0, 999), how=st.sampled_from(["lose_index", "damage_index", "replay_index"]))
    def something_befalls_the_index(self, number: int, how: str) -> None:
        getattr(self.history, how)(number)

    @rule()
    def come_to_rest(self) -> None:
        self.history.quiet()
        self.history.look_for_rubbish()

    def teardown(self) -> None:
        with self._ending:
            self.history.quiet()
            self.history.look_for_rubbish()
            type(self).total += self.history.steps
            type(self).ended.update(self.history.ended)


def explore(machine: type[Collection], *, examples: int) -> None:
    """So many histories."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=60,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture(name="machine")
def _machine(tmp_path: Path) -> type[Collection]:
    """A machine that counts for itself."""
    own = {"total": 0, "ended": Counter(), "keys": switched_keys(tmp_path / "keys")}
    return type("Recorded", (Collection,), own)


def wandered(machine: type[Collection], seed: int) -> int:
    """One history by chance, and how many steps it had."""
    with history(machine.keys) as made:
        try:
            wander(made, seed)
        except BaseException as error:
            error.add_note(f"The history of seed {seed}.")
            raise
        machine.ended.update(made.ended)
        return made.steps


@pytest.mark.timeout(0)
def test_nothing_that_is_needed_is_lost_and_nothing_else_is_kept(machine: type[Collection]) -> None:
    while machine.total < min(STEPS, DRAWN):
        explore(machine, examples=10)
    steps, seeds = machine.total, itertools.count(FIRST_SEED)
    while steps < STEPS:
        steps += wandered(machine, next(seeds))
    assert min(machine.ended[name] for name in ("write", "read", "sweep", "delete")) > 0, machine.ended


def _marked_once(self: Marking, *, with_retired: bool = True) -> None:
    if not self._walks:
        _MARK(self, with_retired=with_retired)


def _all_seen(open_epochs: object, number: int) -> int:
    return number


_MARK = Marking.mark
BROKEN: dict[str, tuple[object, str, object]] = {
    "condemned packs go while somebody is open who began before": (collecting, "_floor", _all_seen),
    "what those who ended left behind is not looked at": (Marking, "mark", _marked_once),
    "condemned packs go whatever is needed of them": (
        collecting.Sweep,
        "_is_unneeded",
        mock.Mock(return_value=True),
    ),
    "an epoch says it has seen every list": (epochs, "newest_number", mock.Mock(return_value=10**9)),
    "index objects stay when others tell what they tell": (indexing.IndexKeeper, "_remove", mock.Mock()),
    "no index object is ever written": (
        indexing.IndexKeeper,
        "_write",
        mock.Mock(),
    ),
}


NOTICED_AT = {
    "what those who ended left behind is not looked at": 149,
    "condemned packs go whatever is needed of them": 120,
}
"""Seeds of histories that noticed what few do: they go first, which saves the search and takes nothing from it."""
_HISTORIES = 400


def wander_far(keys: SwitchedKeys, first: int) -> None:
    """Histories until one breaks a promise, or there have been many."""
    for number in range(_HISTORIES):
        with history(keys) as made:
            wander(made, (first + number) % _HISTORIES)


@pytest.mark.parametrize("broken", BROKEN)
def test_the_model_notices_a_protocol_that_is_broken(machine: type[Collection], broken: str) -> None:
    target, name, replacement = BROKEN[broken]
    with (
        mock.patch.object(target, name, replacement),
        pytest.raises((AssertionError, ObjectMissing, ExceptionGroup)),
    ):
        wander_far(machine.keys, NOTICED_AT.get(broken, 0))

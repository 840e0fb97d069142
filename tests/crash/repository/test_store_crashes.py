"""Kills and losses of power at every change that the local store makes, whatever the repository is doing.

It is the real store on a simulated disk, which keeps no more than fsync has promised. STILLFRAME_STORE_KILLS says at
how many changes a process is killed, STILLFRAME_STORE_STATES how many different states of the disk are looked at,
STILLFRAME_STORE_SEED with which history to begin.
"""

import itertools
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import pytest

from stillframe.domain.identifiers import SnapshotId
from stillframe.errors import StillframeError
from stillframe.objectstore import LocalObjectStore
from stillframe.objectstore.directories import Directories
from stillframe.objectstore.publications import Publications
from support.repository_history import body, switched_keys
from support.repository_schedule import SwitchedKeys
from support.store_trials import Counts, Setting, Trial, capture, delete, pin, unpin

pytestmark = [pytest.mark.crash, pytest.mark.timeout(0)]

KILLS = int(os.environ.get("STILLFRAME_STORE_KILLS", "150"))
STATES = int(os.environ.get("STILLFRAME_STORE_STATES", "250"))
FIRST_SEED = int(os.environ.get("STILLFRAME_STORE_SEED", "1000"))


@pytest.fixture(name="keys")
def _keys(tmp_path: Path) -> SwitchedKeys:
    return switched_keys(tmp_path / "keys")


def trials(keys: SwitchedKeys, counts: Counts, *, forgets: str = "") -> Iterator[tuple[int, Trial]]:
    """Histories without end, with the seeds that make them."""
    for seed in itertools.count(FIRST_SEED):
        yield seed, Trial(Setting(keys, seed), counts, forgets=forgets)


@contextmanager
def noted(seed: int) -> Iterator[None]:
    """A failure says which history it was."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"The history of seed {seed}.")
        raise


def test_a_kill_at_any_change_of_any_operation_harms_nothing_and_a_rerun_converges(
    keys: SwitchedKeys,
) -> None:
    counts = Counts()
    for seed, trial in trials(keys, counts):
        with noted(seed):
            trial.kill_at_every_change(12, enough=KILLS)
        if counts.tried.total() >= KILLS:
            break
    sys.stdout.write(f"Killed: {counts}\n")
    assert {"capture: link", "capture: sync files", "capture: write"} <= counts.tried.keys()


def look_at(histories: Iterator[tuple[int, Trial]], *, enough: int) -> None:
    """Losses of power until so many states were looked at."""
    for seed, trial in histories:
        with noted(seed):
            trial.lose_power_at_every_change(12, samples=1 if enough < 10_000 else 3, enough=enough)
        if len(trial.counts.states) >= enough:
            return


def test_no_state_that_a_loss_of_power_may_leave_lacks_what_was_promised(keys: SwitchedKeys) -> None:
    counts = Counts()
    look_at(trials(keys, counts), enough=STATES)
    sys.stdout.write(f"Power lost: {counts}\n")
    assert {"capture: link", "capture: sync directories"} <= counts.tried.keys()
    # In a short run chance decides which operations come to their end.
    assert any(what.endswith(": done") for what in counts.tried)


def _nothing(*_: object, **__: object) -> None:
    pass


def _make_what_is_missing(self: Directories, directory: Path) -> None:
    """As release 0.1.0 did: what somebody else has made is taken for durable."""
    for path in self._way_to(directory):
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)
            self.sync(path.parent)
    self._sync_above()


BROKEN: dict[str, tuple[str, AbstractContextManager[object]]] = {
    "files are not synced": ("files", nullcontext()),
    "directories are not synced": ("directories", nullcontext()),
    "the way to the store is not synced": ("", mock.patch.object(Directories, "_sync_above", _nothing)),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_store_that_leaves_out_a_sync_is_caught(keys: SwitchedKeys, broken: str) -> None:
    forgets, patch = BROKEN[broken]
    with patch, pytest.raises((AssertionError, StillframeError)):
        look_at(trials(keys, Counts(), forgets=forgets), enough=3000)


def delete_twice(trial: Trial) -> None:
    """The second one finds nothing to delete, and what it says must be true for ever."""
    taken = SnapshotId(uuid.UUID(int=2))
    files = trial.promises.files[taken] = {"base/1": body("base/1", 1)}
    trial.do(capture(taken, files, parent=None, inherited=None, aborts=False))
    trial.kill_do_and_lose_power(delete(taken), delete(taken), samples=8)


def unpin_twice(trial: Trial) -> None:
    """The same with a pin."""
    taken, pin_id = SnapshotId(uuid.UUID(int=2)), uuid.UUID(int=3)
    files = trial.promises.files[taken] = {"base/1": body("base/1", 1)}
    trial.do(capture(taken, files, parent=None, inherited=None, aborts=False))
    trial.do(pin(taken, pin_id))
    trial.kill_do_and_lose_power(unpin(pin_id), unpin(pin_id), samples=8)


def capture_twice(trial: Trial) -> None:
    """The second one relies on what the first one had stored when it was killed."""
    ids = [SnapshotId(uuid.UUID(int=number)) for number in (2, 4)]
    files = {"base/1": body("base/1", 1), "a": b"a" * 5000}
    for snapshot_id in ids:
        trial.promises.files[snapshot_id] = files
    first, second = (capture(one, files, parent=None, inherited=None, aborts=False) for one in ids)
    trial.kill_do_and_lose_power(first, second, samples=4)


PAIRS: dict[str, tuple[Callable[[Trial], None], AbstractContextManager[object]]] = {
    "what is missing is believed": (
        delete_twice,
        mock.patch.object(LocalObjectStore, "_make_durable", _nothing),
    ),
    "what is missing among pins is believed": (
        unpin_twice,
        mock.patch.object(LocalObjectStore, "_make_durable", _nothing),
    ),
    "directories of others are believed": (
        capture_twice,
        mock.patch.object(Directories, "make", _make_what_is_missing),
    ),
    "what others had under way is believed": (
        capture_twice,
        mock.patch.object(Publications, "finish_others", _nothing),
    ),
}


@pytest.mark.parametrize("broken", PAIRS)
def test_what_a_killed_process_had_not_synced_is_not_relied_on(keys: SwitchedKeys, broken: str) -> None:
    pair, patch = PAIRS[broken]
    pair(Trial(Setting(keys, FIRST_SEED), Counts()))
    with patch, pytest.raises((AssertionError, StillframeError)):
        pair(Trial(Setting(keys, FIRST_SEED), Counts()))

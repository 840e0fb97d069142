"""Epochs: how whoever relies on stored content says so, before it does.

An epoch's generation is the number of the newest list of condemned packs that its owner saw *before* it announced
itself. Whatever a list with a higher number condemns may be relied on by that owner, and stays until it has ended.
No clock takes part: an epoch ends with its claim, which ends with the process at the latest.
"""

import contextlib
import uuid
from collections.abc import Iterable, Mapping
from typing import Literal, Self

import msgspec

from stillframe.domain.clock import Clock
from stillframe.errors import Conflict, ObjectMissing, StillframeError
from stillframe.objectstore import Claim, ObjectStore
from stillframe.repository.condemned import newest_number
from stillframe.repository.format import EPOCHS

_CLAIM_PREFIX = "epoch-"
_CLAIM_ATTEMPTS = 10
_CLAIM_PAUSE = 0.02


class _StoredEpoch(msgspec.Struct, frozen=True, kw_only=True):
    """`epochs/<id>`. Release 0.1.0 wrote none of the generation, which is the most careful one."""

    format: Literal["stillframe-epoch"] = "stillframe-epoch"
    version: Literal[1] = 1
    started_at: str
    generation: int = 0


class Epoch:
    """An epoch that this process has open. Its id is a snapshot's for that snapshot's writer, else a random one."""

    def __init__(self, store: ObjectStore, epoch_id: uuid.UUID, *, claim: Claim, generation: int) -> None:
        self._store = store
        self._name = f"{EPOCHS}{epoch_id}"
        self._claim = claim
        self._generation = generation

    @classmethod
    def claimed(cls, store: ObjectStore, epoch_id: uuid.UUID, *, clock: Clock) -> Self:
        """Take the epoch's claim; `announce` comes next. Raises Conflict when somebody else has this epoch."""
        generation = newest_number(store)
        return cls(store, epoch_id, claim=_claimed(store, epoch_id, clock), generation=generation)

    @classmethod
    def opened(cls, store: ObjectStore, epoch_id: uuid.UUID, *, clock: Clock) -> Self:
        """An epoch that is announced: what is read from now on stays until `end`."""
        epoch = cls.claimed(store, epoch_id, clock=clock)
        try:
            epoch.announce(clock)
        except BaseException:
            epoch.release()
            raise
        return epoch

    @property
    def generation(self) -> int:
        """The number of a list of condemned packs that there has been before it was announced."""
        return self._generation

    def announce(self, clock: Clock) -> None:
        """Make it known, durably."""
        stored = _StoredEpoch(started_at=clock.now().isoformat(), generation=self._generation)
        self._store.put(self._name, msgspec.json.encode(stored))

    def withdraw(self) -> None:
        """Remove the announcement; raises what the store raises. `release` comes next."""
        self._store.delete(self._name)

    def release(self) -> None:
        """Give the claim up, by which the epoch has ended, whether or not its announcement is still there."""
        self._claim.release()

    def end(self) -> None:
        """Both; never raises, because an announcement that stays behind is removed by a sweep. Again: nothing."""
        try:
            self.withdraw()
        except StillframeError:
            return
        finally:
            self.release()


def epoch_claim(epoch_id: str) -> str:
    """The claim that an epoch's owner holds alone for as long as it is open."""
    return f"{_CLAIM_PREFIX}{epoch_id}"


def open_epochs(store: ObjectStore) -> Mapping[uuid.UUID, int]:
    """The epochs that are open, by id, with their generations.

    Complete for those that were announced before the call and have not ended when it returns. One that is claimed
    and that the store does not show has the most careful generation: it is just beginning, or the store is wrong.
    """
    found: dict[uuid.UUID, int] = {}
    for epoch_id in claimed_epochs(store):
        generation = _generation(store, epoch_id)
        if generation is not None or is_held(store, epoch_claim(str(epoch_id))):
            found[epoch_id] = generation or 0
    return found


def claimed_epochs(store: ObjectStore) -> list[uuid.UUID]:
    """The ids of all epochs that somebody alive holds, announced or not. No listing of the store is believed."""
    return _epoch_ids(store.held_claims(_CLAIM_PREFIX), prefix=_CLAIM_PREFIX)


def remove_dead_epochs(store: ObjectStore, *, dry_run: bool) -> int:
    """Remove the announcements of owners that died; how many there were."""
    announced = _epoch_ids((stored.name for stored in store.list(EPOCHS)), prefix=EPOCHS)
    return sum(_remove_if_dead(store, name, dry_run=dry_run) for name in announced)


def is_held(store: ObjectStore, claim: str) -> bool:
    """Whether somebody alive holds a claim (or looks, in this moment, whether somebody does)."""
    try:
        store.claim(claim).release()
    except Conflict:
        return True
    return False


def _epoch_ids(names: Iterable[str], *, prefix: str) -> list[uuid.UUID]:
    """What has no epoch's name is none, and is left alone."""
    found = []
    for name in names:
        with contextlib.suppress(ValueError):
            found.append(uuid.UUID(name.removeprefix(prefix)))
    return found


def _generation(store: ObjectStore, epoch_id: uuid.UUID) -> int | None:
    """None for an epoch that is not announced: it ends or begins in this moment, or the store does not show it."""
    try:
        return msgspec.json.decode(store.get(f"{EPOCHS}{epoch_id}"), type=_StoredEpoch).generation
    except ObjectMissing:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Its owner lives, and what it saw cannot be told: it may have seen nothing.
        return 0


def _remove_if_dead(store: ObjectStore, epoch_id: uuid.UUID, *, dry_run: bool) -> bool:
    try:
        claim = store.claim(epoch_claim(str(epoch_id)))
    except Conflict:
        return False
    # Under the claim: a writer of the same snapshot that begins in this moment must keep its own.
    with claim:
        if not dry_run:
            store.delete(f"{EPOCHS}{epoch_id}")
    return True


def _claimed(store: ObjectStore, epoch_id: uuid.UUID, clock: Clock) -> Claim:
    """Somebody who looks whether the owner lives holds the claim for a moment, so ask again."""
    for _ in range(_CLAIM_ATTEMPTS):
        try:
            return store.claim(epoch_claim(str(epoch_id)))
        except Conflict:
            clock.sleep(_CLAIM_PAUSE)
    raise Conflict(f"The snapshot {epoch_id} is being written by somebody else.")

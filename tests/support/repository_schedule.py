"""Several users of one repository whose calls to the store are carried out one at a time, in an order that is given.

Each user is the real code in a thread of its own with a store of its own; it stops before every call until it is
told to go on, to fail or to die. Only one thread ever runs, so the same order gives the same history.
"""

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from stillframe.domain.identifiers import KmsKeyId
from stillframe.errors import KeyUnavailable, StoreUnavailable
from stillframe.kms import LocalKeyManagement
from stillframe.objectstore import Claim, StoredObject
from stillframe.objectstore.port import ObjectBytes
from support.objectstore import Crash, MemoryObjectStore

_LONGEST_STEP = 60.0


class Turn(Enum):
    """What happens to the call that a user waits with."""

    GO = "go"
    FAIL = "fail"
    LOSE_REPLY = "lose reply"
    DIE = "die"


class User:
    """Carries out one operation. `outcome` is None until it has ended; `died` tells a crash from an end."""

    def __init__(self, name: str, store: MemoryObjectStore, work: Callable[["UserStore"], object]) -> None:
        self.name = name
        self.ended = False
        self.died = False
        self.faulted = False
        self.error: BaseException | None = None
        self._store = UserStore(self, store)
        self._work = work
        self._turn = Turn.GO
        # Locks that one side takes and the other gives back: the quickest way to hand a turn over.
        self._mine, self._theirs = threading.Lock(), threading.Lock()
        self._mine.acquire()
        self._theirs.acquire()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._wait_for_the_user()

    def step(self, turn: Turn = Turn.GO) -> None:
        """Let the user make its call, up to the next one or to its end."""
        assert not self.ended
        self._turn = turn
        self.faulted = self.faulted or turn in {Turn.FAIL, Turn.LOSE_REPLY}
        self.died = self.died or turn is Turn.DIE
        self._mine.release()
        self._wait_for_the_user()

    def kill(self) -> None:
        """Let the user die where it stands."""
        while not self.ended:
            self.step(Turn.DIE)
        self._thread.join(_LONGEST_STEP)

    def turn(self) -> Turn:
        """Called by the user's thread before a call: waits to be told what becomes of it."""
        if self.died:
            raise Crash
        self._theirs.release()
        assert self._mine.acquire(timeout=_LONGEST_STEP)
        if self._turn is Turn.DIE:
            self._store.let_go()
            raise Crash
        return self._turn

    def _wait_for_the_user(self) -> None:
        assert self._theirs.acquire(timeout=_LONGEST_STEP), f"{self.name} hangs"

    def _run(self) -> None:
        try:
            self._work(self._store)
        except BaseException as error:  # noqa: BLE001 - looked at by the one who schedules
            self.error = error
        self.ended = True
        self._theirs.release()


class UserStore:
    """The store as one user sees it."""

    def __init__(self, user: User, store: MemoryObjectStore) -> None:
        self._user = user
        self._store = store
        self._claims: set[Claim] = set()

    def let_go(self) -> None:
        """What the death of a process does to its claims."""
        for claim in self._claims:
            claim.release()

    def put(self, name: str, data: ObjectBytes, *, if_absent: bool = False) -> None:
        """See the port."""
        self._call(lambda: self._store.put(name, data, if_absent=if_absent))

    def get(self, name: str) -> bytes:
        """See the port."""
        data: bytes = self._call(lambda: self._store.get(name))
        return data

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """See the port."""
        data: bytes = self._call(lambda: self._store.get_range(name, offset, length))
        return data

    def size(self, name: str) -> int:
        """See the port."""
        size: int = self._call(lambda: self._store.size(name))
        return size

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See the port."""
        found: list[StoredObject] = self._call(lambda: [*self._store.list(prefix)])
        yield from found

    def delete(self, name: str) -> None:
        """See the port."""
        self._call(lambda: self._store.delete(name))

    def claim(self, name: str, *, shared: bool = False) -> Claim:
        """See the port. Claims are of the operating system, and never fail in passing."""
        self._user.turn()
        claim = self._store.claim(name, shared=shared)
        self._claims.add(claim)
        return claim

    def held_claims(self, prefix: str) -> Sequence[str]:
        """See the port."""
        self._user.turn()
        return self._store.held_claims(prefix)

    def _call(self, call: Callable[[], Any]) -> Any:
        turn = self._user.turn()
        if turn is Turn.FAIL:
            raise StoreUnavailable("The store did not answer.")
        result = call()
        if turn is Turn.LOSE_REPLY:
            raise StoreUnavailable("The store did not answer.")
        return result


class AtOnce:
    """Instead of a pool of threads: does what it is given at once."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, work: Callable[..., object], *arguments: object) -> "Future[object]":
        """Do it now."""
        done: Future[object] = Future()
        done.set_result(work(*arguments))
        return done

    def shutdown(self, *, wait: bool = True) -> None:
        """Nothing is left to wait for."""


class SwitchedKeys(LocalKeyManagement):
    """Keys that are unwrapped once, and can be had or not as the test likes."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.disabled: set[KmsKeyId] = set()
        self._known: dict[tuple[KmsKeyId, bytes], bytes] = {}

    def unwrap(self, key_id: KmsKeyId, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """See the port."""
        if key_id in self.disabled:
            raise KeyUnavailable(f"The key {key_id} is disabled.")
        if (key_id, wrapped) not in self._known:
            self._known[key_id, wrapped] = super().unwrap(key_id, wrapped, context)
        return self._known[key_id, wrapped]


class JumpingClock:
    """Shows another year each time it is looked at, in both directions."""

    def __init__(self) -> None:
        self._looks = 0

    def now(self) -> datetime:
        """Some moment."""
        self._looks += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=(self._looks * 7919) % 9000 - 4500)

    def monotonic(self) -> float:
        """Seconds that jump as well."""
        self._looks += 1
        return float((self._looks * 7919) % 90_000)

    def sleep(self, seconds: float) -> None:
        """No time passes by waiting."""


class Entropy:
    """Different bytes at each call, the same ones in each run."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, length: int) -> bytes:
        """That many bytes."""
        self._calls += 1
        return uuid.uuid5(uuid.NAMESPACE_OID, str(self._calls)).bytes.ljust(length, b"\1")[:length]

"""Stores that do not answer, or do not tell the truth, at a chosen call; and histories of a repository in memory."""

import random
from collections.abc import Callable, Iterator
from typing import Any

from stillframe.errors import Conflict, ObjectMissing
from stillframe.objectstore import StoredObject
from support.objectstore import (
    Crash,
    Fault,
    FaultyStore,
    MemoryObjectStore,
    crash_after,
    crash_before,
    disk_full,
    lost_reply,
    retried_after_lost_reply,
    unavailable,
)
from support.store_trials import Promises, Setting

PASSING: list[Fault] = [
    unavailable,
    lost_reply,
    retried_after_lost_reply,
    disk_full,
    crash_before,
    crash_after,
]
"""What a store says that is honest about it, and the end of the process that asked."""


def short_body(call: Callable[[], Any]) -> Any:
    """Half of the bytes."""
    found = call()
    return found[: len(found) // 2] if isinstance(found, bytes) else found


def wrong_bytes(call: Callable[[], Any]) -> Any:
    """One bit is another."""
    found = call()
    if not isinstance(found, bytes) or not found:
        return found
    return found[: len(found) // 2] + bytes([found[len(found) // 2] ^ 4]) + found[len(found) // 2 + 1 :]


def not_found(call: Callable[[], Any]) -> Any:
    """What is there is said to be missing."""
    found = call()
    if isinstance(found, bytes | int):
        raise ObjectMissing("The object is not in the store.")
    return found


def empty_listing(call: Callable[[], Any]) -> Any:
    """Nothing is listed."""
    found = call()
    return [] if isinstance(found, list) else found


def listing_without_the_first(call: Callable[[], Any]) -> Any:
    """One object is left out."""
    found = call()
    return found[1:] if isinstance(found, list) else found


def listing_without_the_last(call: Callable[[], Any]) -> Any:
    """The listing ends too early."""
    found = call()
    return found[:-1] if isinstance(found, list) else found


def repeated_listing(call: Callable[[], Any]) -> Any:
    """Everything is listed twice."""
    found = call()
    return sorted(found * 2) if isinstance(found, list) else found


def lying_conflict(call: Callable[[], Any]) -> Any:
    """Something is said to be there already, and nothing is stored."""
    raise Conflict("The object already exists.")


LYING: list[Fault] = [
    short_body,
    wrong_bytes,
    not_found,
    empty_listing,
    listing_without_the_first,
    listing_without_the_last,
    repeated_listing,
    lying_conflict,
]

CONCERNED: dict[Fault, str] = {
    short_body: "get get_range",
    wrong_bytes: "get get_range",
    not_found: "get get_range size",
    empty_listing: "list",
    listing_without_the_first: "list",
    listing_without_the_last: "list",
    repeated_listing: "list",
    lying_conflict: "put",
    disk_full: "put delete",
}
"""The calls that a fault makes a difference to; all of them unless it is told here."""


class StaleStore(FaultyStore):
    """Lists, below some prefix, what there was at an earlier time; everything else is of today."""

    def __init__(self, store: MemoryObjectStore, *, earlier: MemoryObjectStore, prefix: str) -> None:
        super().__init__(store)
        self._earlier = earlier
        self._prefix = prefix

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See the port."""
        of_today = [one for one in self.store.list(prefix) if not one.name.startswith(self._prefix)]
        earlier = [one for one in self._earlier.list(prefix) if one.name.startswith(self._prefix)]
        yield from sorted([*of_today, *earlier])


class HidingStore(FaultyStore):
    """Never lists one object; all that asks for it by its name gets it."""

    def __init__(self, store: MemoryObjectStore, *, hidden: str) -> None:
        super().__init__(store)
        self._hidden = hidden

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See the port."""
        yield from (one for one in self.store.list(prefix) if one.name != self._hidden)


class Past:
    """A repository in memory with a history by chance, some of which was cut off; `earlier` is how it was before."""

    def __init__(self, setting: Setting, operations: int) -> None:
        self.setting = setting
        self.store = MemoryObjectStore()
        self.promises = Promises()
        self.earlier: list[MemoryObjectStore] = []
        for _ in range(operations):
            self.earlier.append(self.store.copy())
            self._go_on(setting.rnd)

    def _go_on(self, rnd: random.Random) -> None:
        operation = self.setting.operation(self.promises)
        operation.expect(self.promises, False)
        position = rnd.randrange(60) if rnd.random() < 0.3 else None
        try:
            self.setting.run_on(operation, FaultyStore(self.store, position=position, fault=crash_after))
        except Crash:
            self.store.all_holders_die()
            self.promises = self.setting.look_at(self.store, self.promises)
        else:
            operation.expect(self.promises, True)

"""An object store in memory, and wrappers that make any store misbehave in a chosen way at a chosen call."""

import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from stillframe.errors import Conflict, DiskFull, ObjectMissing, StoredDataCorrupt, StoreUnavailable
from stillframe.objectstore import Claim, ObjectStore, StoredObject
from stillframe.objectstore.port import ObjectBytes, checked_name


class MemoryClaim:
    """See `Claim`."""

    def __init__(self, release: Callable[["MemoryClaim"], None]) -> None:
        self._release = release

    def release(self) -> None:
        """Give the name up."""
        self._release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class MemoryObjectStore:
    """The port without a file system: proof that nothing above it needs one."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._claims: dict[str, tuple[bool, set[MemoryClaim]]] = {}
        self._lock = threading.Lock()

    def copy(self) -> "MemoryObjectStore":
        """The same objects in another store, without the claims."""
        other = MemoryObjectStore()
        other.objects = dict(self.objects)
        return other

    def all_holders_die(self) -> None:
        """What the death of every process that uses the store does to its claims."""
        with self._lock:
            self._claims.clear()

    def put(self, name: str, data: ObjectBytes, *, if_absent: bool = False) -> None:
        """See the port."""
        with self._lock:
            if if_absent and checked_name(name) in self.objects:
                raise Conflict(f"The object {name} already exists.")
            self.objects[checked_name(name)] = bytes(data)

    def get(self, name: str) -> bytes:
        """See the port."""
        try:
            return self.objects[checked_name(name)]
        except KeyError:
            raise ObjectMissing(f"The object {name} is not in the store.", object=name) from None

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """See the port."""
        data = self.get(name)[offset : offset + length]
        if len(data) != length:
            raise StoredDataCorrupt(f"The object {name} is shorter.")
        return data

    def size(self, name: str) -> int:
        """See the port."""
        return len(self.get(name))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See the port."""
        with self._lock:
            found = [
                StoredObject(name, len(data))
                for name, data in self.objects.items()
                if name.startswith(prefix)
            ]
        yield from sorted(found)

    def delete(self, name: str) -> None:
        """See the port."""
        with self._lock:
            self.objects.pop(checked_name(name), None)

    def claim(self, name: str, *, shared: bool = False) -> Claim:
        """See the port."""
        with self._lock:
            is_shared, holders = self._claims.get(checked_name(name), (True, set()))
            if holders and not (shared and is_shared):
                raise Conflict(f"{name} is held by somebody else.")
            claim = MemoryClaim(lambda it: self._drop(name, it))
            self._claims[name] = (shared, holders | {claim})
            return claim

    def held_claims(self, prefix: str) -> Sequence[str]:
        """See the port."""
        with self._lock:
            return sorted(
                name for name, (_, holders) in self._claims.items() if holders and name.startswith(prefix)
            )

    def _drop(self, name: str, claim: MemoryClaim) -> None:
        with self._lock:
            if name in self._claims:
                self._claims[name][1].discard(claim)


class Crash(BaseException):
    """The process ends here: nothing after it is carried out."""


Fault = Callable[[Callable[[], Any]], Any]
"""What happens instead of a call; gets the call."""


def unavailable(call: Callable[[], Any]) -> Any:
    """The call is not carried out, and fails in passing."""
    raise StoreUnavailable("The store did not answer.")


def lost_reply(call: Callable[[], Any]) -> Any:
    """The call is carried out; its reply is lost."""
    call()
    raise StoreUnavailable("The store did not answer.")


def retried_after_lost_reply(call: Callable[[], Any]) -> Any:
    """The call is carried out, its reply is lost, and a retrying driver carries it out again."""
    call()
    return call()


def disk_full(call: Callable[[], Any]) -> Any:
    """There is no space; nothing is changed."""
    raise DiskFull("No space is left.")


def crash_before(call: Callable[[], Any]) -> Any:
    """The process dies before the call."""
    raise Crash


def crash_after(call: Callable[[], Any]) -> Any:
    """The process dies right after the call."""
    call()
    raise Crash


class FaultyStore:
    """A store that does something else at call number `position`; after a crash every call crashes.

    Calls are counted in the order they are made; `only` limits counting to some methods.
    """

    def __init__(
        self, store: ObjectStore, *, position: int | None = None, fault: Fault = unavailable, only: str = ""
    ) -> None:
        self.store = store
        self.calls: list[tuple[str, str]] = []
        self._position = position
        self._fault = fault
        self._only = only.split()
        self._lock = threading.Lock()
        self._crashed = False

    def put(self, name: str, data: ObjectBytes, *, if_absent: bool = False) -> None:
        """See the port."""
        self._call("put", name, lambda: self.store.put(name, data, if_absent=if_absent))

    def get(self, name: str) -> bytes:
        """See the port."""
        data: bytes = self._call("get", name, lambda: self.store.get(name))
        return data

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """See the port."""
        data: bytes = self._call("get_range", name, lambda: self.store.get_range(name, offset, length))
        return data

    def size(self, name: str) -> int:
        """See the port."""
        size: int = self._call("size", name, lambda: self.store.size(name))
        return size

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See the port."""
        listed: list[StoredObject] = self._call("list", prefix, lambda: [*self.store.list(prefix)])
        yield from listed

    def delete(self, name: str) -> None:
        """See the port."""
        self._call("delete", name, lambda: self.store.delete(name))

    def claim(self, name: str, *, shared: bool = False) -> Claim:
        """See the port; claims are of this process, and never fail."""
        return self.store.claim(name, shared=shared)

    def held_claims(self, prefix: str) -> Sequence[str]:
        """See the port."""
        return self.store.held_claims(prefix)

    def _call(self, method: str, name: str, call: Callable[[], Any]) -> Any:
        with self._lock:
            if self._crashed:
                raise Crash
            at = len(self.calls)
            if not self._only or method in self._only:
                self.calls.append((method, name))
            hit = at == self._position and len(self.calls) > at
            self._crashed = hit and self._fault in {crash_before, crash_after}
        return self._fault(call) if hit else call()

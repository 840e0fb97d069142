"""What Stillframe needs from a place that keeps objects, and what such a place promises.

Every implementation passes the same suite (`tests/contract/objectstore`). The three bad answers are different
everywhere, because taking one for another is how other systems lost data: *missing* is `ObjectMissing`,
*cannot be read now* is `StoreUnavailable`, *empty* is an object of length 0.
"""

import re
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from stillframe.errors import InvalidRequest

ObjectBytes = bytes | bytearray | memoryview
"""What can be stored: anything contiguous that need not be copied first."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_LONGEST_NAME = 512


class StoredObject(NamedTuple):
    """One line of a listing; `size` in bytes."""

    name: str
    size: int


class Claim(Protocol):
    """A hold on a name that ends with `release`, or with the death of the process that took it."""

    def release(self) -> None:
        """Give the name up. Releasing twice does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ObjectStore(Protocol):
    """Whole objects by name. Safe to use from several threads and, on one store, from several processes.

    Every method may raise StoreUnavailable (a passing failure: the outcome of a change is then unknown),
    DiskFull (the change did not happen) and PermissionMissing. A change is durable when its method returns.
    """

    def put(self, name: str, data: ObjectBytes, *, if_absent: bool = False) -> None:
        """Publish an object whole: nobody ever sees a part of it under its name.

        Without `if_absent` an existing object is replaced in one atomic step, so that a reader gets the old
        or the new bytes. With it the object is created only if there is none; Conflict says there is one.
        """
        ...

    def get(self, name: str) -> bytes:
        """All bytes of an object. Raises ObjectMissing."""
        ...

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`.

        Raises ObjectMissing, and StoredDataCorrupt when the object ends before that.
        """
        ...

    def size(self, name: str) -> int:
        """Length of an object in bytes. Raises ObjectMissing."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose name begins with `prefix`, in the order of the names.

        Complete for objects that existed before the call and still do after it; no promise about others.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error, so that a lost reply may be repeated."""
        ...

    def claim(self, name: str, *, shared: bool = False) -> Claim:
        """Hold a name among all users of the store: many at once if `shared`, else alone.

        Does not wait: raises Conflict when a living holder excludes it. The claim of a process that died is
        gone. Names of claims and of objects do not meet.
        """
        ...

    def held_claims(self, prefix: str) -> Sequence[str]:
        """The names of claims, beginning with `prefix`, that somebody holds (or looks at in this moment).

        Complete for those that are held from before the call until it returns. The operating system tells, and not
        the store, so it is true also where listings are not.
        """
        ...


def checked_name(name: str) -> str:
    """The name, if every store can keep it: lower-case letters, digits, `._-`, parts joined by `/`.

    Raises InvalidRequest otherwise; so no name can point outside of a store.
    """
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise InvalidRequest(f"{name[:80]!r} cannot be the name of an object")
    return name

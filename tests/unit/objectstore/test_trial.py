"""Stores that misbehave are recognised before anything is entrusted to them."""

from collections.abc import Callable, Iterator

import pytest

from stillframe.errors import Conflict, StoreUnavailable, Unsupported
from stillframe.objectstore import StoredObject
from stillframe.objectstore.port import ObjectBytes
from stillframe.objectstore.trial import try_store
from support.objectstore import FaultyStore, MemoryObjectStore

pytestmark = pytest.mark.unit


class Replacing(MemoryObjectStore):
    """Does not know conditional writes."""

    def put(self, name: str, data: ObjectBytes, *, if_absent: bool = False) -> None:
        super().put(name, data)


class FlatteringReplacing(MemoryObjectStore):
    """Answers conditional writes well, and replaces the object all the same."""

    def put(self, name: str, data: ObjectBytes, *, if_absent: bool = False) -> None:
        exists = name in self.objects
        super().put(name, data)
        if exists and if_absent:
            raise Conflict("there is one")


class Generous(MemoryObjectStore):
    """Lets everybody win who creates at the same moment as others."""

    def put(self, name: str, data: ObjectBytes, *, if_absent: bool = False) -> None:
        super().put(name, data, if_absent=if_absent and not name.endswith("contested"))


class Stale(MemoryObjectStore):
    """Gives back the first bytes it ever had of a name."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, bytes] = {}

    def get(self, name: str) -> bytes:
        return self.first.setdefault(name, super().get(name))


class Forgetful(MemoryObjectStore):
    """Has nothing of what it took."""

    def put(self, name: str, data: ObjectBytes, *, if_absent: bool = False) -> None:
        if name in self.objects and if_absent:
            raise Conflict("there is one")
        super().put(name, data)

    def get(self, name: str) -> bytes:
        return MemoryObjectStore().get(name)


class WrongLength(MemoryObjectStore):
    """Tells wrong lengths."""

    def size(self, name: str) -> int:
        return super().size(name) + 1


class WholeForRange(MemoryObjectStore):
    """Answers a request for a range with everything."""

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        return self.get(name)


class LateListing(MemoryObjectStore):
    """Lists only what is older than a moment."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        return iter(())


class ListsTheDead(MemoryObjectStore):
    """Lists deleted objects too."""

    def __init__(self) -> None:
        super().__init__()
        self.ever: dict[str, int] = {}

    def put(self, name: str, data: ObjectBytes, *, if_absent: bool = False) -> None:
        super().put(name, data, if_absent=if_absent)
        if name.endswith("/object"):
            self.ever[name] = len(data)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        return (StoredObject(name, size) for name, size in self.ever.items() if name.startswith(prefix))


class Keeping(MemoryObjectStore):
    """Does not delete."""

    def delete(self, name: str) -> None:
        return


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (Replacing, "replaces an object by one that was to be created only if there is none"),
        (FlatteringReplacing, "does not give back what was stored a moment ago"),
        (Generous, "several creations of one object succeed"),
        (Stale, "old bytes of an object that was replaced"),
        (Forgetful, "does not give back what was stored a moment ago"),
        (WrongLength, "wrong length"),
        (WholeForRange, "exactly the bytes of a range"),
        (LateListing, "does not list an object that exists"),
        (ListsTheDead, "lists objects that were deleted"),
        (Keeping, "still gives an object that was deleted"),
    ],
)
def test_a_store_that_lies_is_refused_with_what_it_does_wrong(
    make: Callable[[], MemoryObjectStore], sentence: str
) -> None:
    with pytest.raises(Unsupported, match=sentence) as caught:
        try_store(make())
    assert caught.value.hint is not None
    assert "If-None-Match" in caught.value.hint


def test_a_store_that_keeps_its_promises_passes_and_nothing_is_left_in_it() -> None:
    store = MemoryObjectStore()
    store.put("packs/a", b"x")
    try_store(store)
    assert store.objects == {"packs/a": b"x"}


def test_a_store_that_is_not_reached_during_its_trial_is_not_called_a_liar() -> None:
    calls = FaultyStore(MemoryObjectStore())
    try_store(calls)
    for position in range(len(calls.calls)):
        with pytest.raises(StoreUnavailable):
            try_store(FaultyStore(MemoryObjectStore(), position=position))

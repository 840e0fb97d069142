"""What a strange object store has to show before anything is entrusted to it.

Some endpoints that speak the S3 protocol do not know conditional writes, answer them without obeying, or list
late. Snapshots would be lost on them long after, so it is tried once, before the first use.
"""

import threading
import uuid
from collections.abc import Callable

from stillframe.errors import Conflict, ObjectMissing, StillframeError, Unsupported
from stillframe.objectstore.port import ObjectStore

_FIRST, _SECOND = b"0123456789", b"another one"
_RIVALS = 4


def try_store(store: ObjectStore) -> None:
    """Make, read, list and delete a few small objects, named `trial-…`, and leave none of them.

    Raises Unsupported, naming what the store does wrong, and what the store itself raises.
    """
    folder = f"trial-{uuid.uuid4().hex}"
    name, contested = f"{folder}/object", f"{folder}/contested"
    steps: tuple[Callable[[], None], ...] = (
        lambda: _try_creating(store, name),
        lambda: _try_reading(store, name),
        lambda: _try_listing(store, folder, [name]),
        lambda: _try_replacing(store, name),
        lambda: _try_rivals(store, contested),
        lambda: _try_deleting(store, [name, contested]),
        lambda: _try_listing(store, folder, []),
    )
    try:
        for step in steps:
            step()
    except Unsupported:
        for left in (name, contested):
            store.delete(left)
        raise


def _try_creating(store: ObjectStore, name: str) -> None:
    store.put(name, _FIRST, if_absent=True)
    try:
        store.put(name, _SECOND, if_absent=True)
    except Conflict:
        return
    _refuse("it replaces an object by one that was to be created only if there is none")


def _try_reading(store: ObjectStore, name: str) -> None:
    _require_equal(lambda: store.get(name), _FIRST, "it does not give back what was stored a moment ago")
    _require_equal(lambda: store.size(name), len(_FIRST), "it tells a wrong length of an object")
    _require_equal(
        lambda: store.get_range(name, 3, 4), _FIRST[3:7], "it does not give exactly the bytes of a range"
    )


def _try_listing(store: ObjectStore, folder: str, expected: list[str]) -> None:
    what = "does not list an object that exists" if expected else "lists objects that were deleted"
    _require_equal(lambda: [one.name for one in store.list(f"{folder}/")], expected, f"it {what}")


def _try_replacing(store: ObjectStore, name: str) -> None:
    store.put(name, _SECOND)
    _require_equal(
        lambda: store.get(name), _SECOND, "it gives back the old bytes of an object that was replaced"
    )


def _try_rivals(store: ObjectStore, name: str) -> None:
    """Several conditional creations at the same moment: the answers must agree with what is stored then."""
    winners: list[bytes] = []
    failures: list[StillframeError] = []
    start = threading.Barrier(_RIVALS)

    def create(mine: bytes) -> None:
        start.wait()
        try:
            store.put(name, mine, if_absent=True)
        except Conflict:
            return
        except StillframeError as error:
            failures.append(error)
            return
        winners.append(mine)

    rivals = [threading.Thread(target=create, args=(b"rival %d" % number,)) for number in range(_RIVALS)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    if failures:
        raise failures[0]
    if winners != [store.get(name)]:
        _refuse("it lets several creations of one object succeed when they come at the same moment")


def _try_deleting(store: ObjectStore, names: list[str]) -> None:
    for name in names:
        store.delete(name)
        try:
            store.get(name)
        except ObjectMissing:
            continue
        _refuse("it still gives an object that was deleted")


def _require_equal(read: Callable[[], object], expected: object, wrong: str) -> None:
    try:
        found = read()
    except StillframeError as error:
        if not isinstance(error, ObjectMissing) and error.kind != "stored_data_corrupt":
            raise
        found = None
    if found != expected:
        _refuse(wrong)


def _refuse(wrong: str) -> None:
    raise Unsupported(
        f"The object store cannot keep a repository: {wrong}.",
        hint="Use a store whose conditional writes (If-None-Match) and listings are strongly consistent, "
        "and reach it directly, not through a cache.",
    )

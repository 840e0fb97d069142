"""The list of condemned packs: what nobody new may rely on, and what is to be removed.

Lists are numbered, whole, and create-only; only the one with the highest number counts. So all that sweeps do is in
one order, a sweep that was overtaken cannot write over what another has decided, and nothing is ever removed
that is not written down before.
"""

from typing import Literal, NamedTuple

import msgspec
from blake3 import blake3

from stillframe.errors import Conflict, ObjectMissing, StoreUnavailable
from stillframe.objectstore import ObjectStore
from stillframe.repository.documents import create_object
from stillframe.repository.format import CONDEMNED

_DIGITS = 10
_ATTEMPTS = 20


class CondemnedPack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Since which list a pack is condemned without a break, and which packs hold what was needed of it then."""

    since: int
    into: list[str] = []


class CondemnedList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One list. `retired`: since when a deleted document is known to be gone from where it can be opened.

    `doomed`: packs that anybody may delete, at any time; there is no way back for them.
    """

    format: Literal["stillframe-condemned"] = "stillframe-condemned"
    version: Literal[1] = 1
    sweep: str = ""
    retired: dict[str, int] = {}
    condemned: dict[str, CondemnedPack] = {}
    doomed: list[str] = []
    digest: str = ""

    @property
    def avoided(self) -> frozenset[str]:
        """The packs that nobody who begins now relies on."""
        return frozenset((*self.condemned, *self.doomed))


class Numbered(NamedTuple):
    """A list and its number; None instead of a list that cannot be read. Number 0 is an empty one, never stored."""

    number: int
    list: CondemnedList | None


def newest_number(store: ObjectStore) -> int:
    """The number of the newest list; 0 when there has never been one."""
    return max(_numbers(store), default=0)


def newest_list(store: ObjectStore, *, known: Numbered | None = None, at_least: int = 0) -> Numbered:
    """The newest list; `known` saves reading it again.

    Raises StoreUnavailable when it changes too fast to be read, and when the store lists none of number `at_least` or
    above, which there has been: then the listing is not of now, or the list was lost since.
    """
    for _ in range(_ATTEMPTS):
        number = newest_number(store)
        if number < at_least:
            raise StoreUnavailable(f"The store does not list the list of condemned packs number {at_least}.")
        if number == 0:
            return Numbered(0, CondemnedList())
        if known is not None and known.number == number:
            return known
        try:
            return Numbered(number, _decoded(store.get(_name(number))))
        except ObjectMissing:
            # A newer one has taken its place in this moment.
            continue
    raise StoreUnavailable("The list of condemned packs could not be read: it changed each time.")


def create_list(store: ObjectStore, number: int, content: CondemnedList) -> None:
    """Make this the newest list, and remove the older ones. Raises Conflict when another sweep was faster."""
    create_object(store, _name(number), _encoded(content))
    if newest_number(store) != number:
        # Somebody went on while we stood still, and had removed the number that would have stopped us.
        raise Conflict("Another sweep has taken over.")
    remove_older(store, number)


def remove_older(store: ObjectStore, number: int) -> None:
    """Remove the lists that came before this one."""
    for older in _numbers(store):
        if older < number:
            store.delete(_name(older))


def is_list(name: str) -> bool:
    """Whether an object's name is one of a list."""
    return _number(name) is not None


def _numbers(store: ObjectStore) -> list[int]:
    found = (_number(stored.name) for stored in store.list(CONDEMNED))
    return [number for number in found if number is not None]


def _number(name: str) -> int | None:
    prefix, _, digits = name.rpartition("/")
    named = f"{prefix}/" == CONDEMNED and len(digits) == _DIGITS
    return int(digits) if named and digits.isascii() and digits.isdigit() else None


def _name(number: int) -> str:
    return f"{CONDEMNED}{number:0{_DIGITS}}"


def _encoded(content: CondemnedList) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(content, digest=_digest(content)))


def _decoded(data: bytes) -> CondemnedList | None:
    try:
        content = msgspec.json.decode(data, type=CondemnedList)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return content if content.digest == _digest(content) else None


def _digest(content: CondemnedList) -> str:
    """Against bits that flip; whoever can write here can remove packs without our help."""
    bare = msgspec.json.encode(msgspec.structs.replace(content, digest=""))
    return blake3(bare).hexdigest()

"""Which documents there are, for those who remove what no document needs.

A listing that leaves a document out makes its content look like garbage. Stores that list late, page wrongly or are
read through a cache have done that. So a listing is believed only where it agrees with what else is known: with the
attributes, which every snapshot has, with the marks that are put beside new pins, and with the documents that an
earlier sweep has read. Each one that should be there and is not listed is asked for by its name; that costs one
request for each that was deleted since.
"""

import contextlib
import uuid
from collections.abc import Iterable
from typing import Literal

import msgspec
from blake3 import blake3

from stillframe.errors import DataError, ObjectMissing, StoredDataCorrupt, StoreUnavailable
from stillframe.objectstore import ObjectStore
from stillframe.repository.documents import replace_object
from stillframe.repository.epochs import open_epochs
from stillframe.repository.format import ATTRIBUTES, CENSUS, PINS, SNAPSHOTS
from stillframe.repository.library import exists
from stillframe.repository.retired import original_name, retired_names

CENSUS_NAME = f"{CENSUS}documents"
PIN_MARKS = f"{CENSUS}pins/"
"""Empty objects, one for each pin: put before the pin, deleted after it, and listed by another request."""
_ATTEMPTS = 3
"""Looks at a listing: what somebody creates in between is listed by the next one."""


class _StoredCensus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`census/documents`. What cannot be read is as good as none: it only ever keeps a sweep from going on."""

    format: Literal["stillframe-census"] = "stillframe-census"
    version: Literal[1] = 1
    documents: list[str]
    digest: str = ""


class Census:
    """The documents of one repository, as one sweep sees them. Methods raise what the store raises."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._remembered: frozenset[str] | None = None
        self._looked = False
        self._read: set[str] = set()

    def names(self, prefix: str) -> list[str]:
        """The names of all documents below this prefix, in their order, each once.

        Raises StoreUnavailable when the store does not list one that it has: then nothing may be removed.
        """
        self._looked = True
        unlisted = ""
        for _ in range(_ATTEMPTS):
            listed = {stored.name for stored in self._store.list(prefix)}
            unlisted = self._unlisted(prefix, listed)
            if not unlisted:
                return sorted(listed)
        raise StoreUnavailable(
            f"The object store has {unlisted} and does not list it, so it is not known what is needed.",
            hint="Nothing was removed. Listings have to be complete and current: reach the store directly.",
            object=unlisted,
        )

    def note(self, name: str) -> None:
        """A document that was listed was got, too: a listing may also name one that was deleted long ago."""
        self._read.add(name)

    def remember(self) -> None:
        """Keep for the next sweep what was read by this one, if that is news."""
        if self._looked:
            self._keep(frozenset(self._read))

    def forget(self, names: Iterable[str]) -> None:
        """Documents that are deleted, before their copies go: what is remembered has been lost, or has a copy."""
        self._keep(self._known() - frozenset(names))

    def _keep(self, names: frozenset[str]) -> None:
        if names != self._known():
            documents = sorted(names)
            stored = _StoredCensus(documents=documents, digest=_digest(documents))
            replace_object(self._store, CENSUS_NAME, msgspec.json.encode(stored))
            self._remembered = names

    def _unlisted(self, prefix: str, listed: set[str]) -> str:
        """A document that is there and not listed, or nothing."""
        expected = {name for name in self._known() if name.startswith(prefix)}
        if prefix == SNAPSHOTS:
            # Put before the document and deleted after it, and listed by another request.
            expected |= _renamed(self._store, ATTRIBUTES, SNAPSHOTS)
        elif prefix == PINS:
            expected |= _renamed(self._store, PIN_MARKS, PINS)
        missing = sorted(expected - listed)
        return next((name for name in missing if exists(self._store, name)), "")

    def _known(self) -> frozenset[str]:
        if self._remembered is None:
            self._remembered = _remembered(self._store)
        return self._remembered


def mark_pin(store: ObjectStore, pin_id: uuid.UUID) -> None:
    """Before a pin is made, with an epoch open: a sweep asks for it by its name even if no sweep has seen it."""
    replace_object(store, f"{PIN_MARKS}{pin_id}", b"")


def unmark_pin(store: ObjectStore, pin_id: uuid.UUID) -> None:
    """After a pin was deleted."""
    store.delete(f"{PIN_MARKS}{pin_id}")


def remove_lost_pin_marks(store: ObjectStore, *, dry_run: bool) -> int:
    """Remove marks of pins that were never made, or are deleted; how many there were. None while anybody is open."""
    marks = _renamed(store, PIN_MARKS, PINS)
    lost = sorted(marks - {stored.name for stored in store.list(PINS)}) if marks else []
    # After the marks were listed: whoever has put one of them and not the pin yet would be open.
    if not lost or open_epochs(store):
        return 0
    gone = [name for name in lost if not exists(store, name)]
    for name in gone if not dry_run else ():
        store.delete(PIN_MARKS + name.removeprefix(PINS))
    return len(gone)


def _renamed(store: ObjectStore, prefix: str, other: str) -> set[str]:
    """The names of what is listed below a prefix, as they would be below another one."""
    return {other + stored.name.removeprefix(prefix) for stored in store.list(prefix)}


def lost_documents(store: ObjectStore) -> list[str]:
    """The names of documents that a sweep has seen, and that are gone without having been deleted.

    A deleted one has a copy for as long as it is remembered, and is forgotten before its copy goes.
    """
    wanted = (name for name in _remembered(store) if name.startswith((SNAPSHOTS, PINS)))
    gone = {name for name in wanted if not exists(store, name)}
    if gone:
        gone -= {original_name(name) for name in retired_names(store)}
    # Whatever a sweep let go of in between is not remembered any more.
    return sorted(gone & _remembered(store)) if gone else []


def _remembered(store: ObjectStore) -> frozenset[str]:
    try:
        return _decoded(store.get(CENSUS_NAME))
    except DataError:
        return frozenset()


def require_readable_census(store: ObjectStore) -> None:
    """Raise StoredDataCorrupt when what sweeps remember was damaged. The next sweep begins anew."""
    with contextlib.suppress(ObjectMissing):
        _decoded(store.get(CENSUS_NAME))


def _decoded(data: bytes) -> frozenset[str]:
    try:
        stored = msgspec.json.decode(data, type=_StoredCensus)
    except (msgspec.DecodeError, UnicodeDecodeError):
        stored = None
    if stored is None or stored.digest != _digest(stored.documents):
        raise StoredDataCorrupt(
            "What sweeps remember of documents was changed; the next one begins anew.", object=CENSUS_NAME
        )
    return frozenset(stored.documents)


def _digest(documents: Iterable[str]) -> str:
    """Against flipped bits, which would let a name look like one that is not there."""
    return blake3("\n".join(documents).encode()).hexdigest()

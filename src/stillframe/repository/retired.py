"""Deleted documents and pins, kept for those who may have opened them.

Whoever has an epoch open may use every document that existed since. So a document goes in two steps: a copy
below `retired/`, then itself. The copy counts as a document for sweeps until all have ended that were open when the
document was last seen.
"""

import uuid
from collections.abc import Iterator

from stillframe.errors import ObjectMissing, StoreUnavailable
from stillframe.objectstore import ObjectStore
from stillframe.repository.documents import create_object
from stillframe.repository.format import RETIRED
from stillframe.repository.library import exists


def retire(store: ObjectStore, name: str, *, token: uuid.UUID) -> None:
    """Delete the document of this name; one that is not there is no error. `token` is a fresh random id.

    The caller has an epoch open: what the document refers to may go as soon as somebody else has deleted it, and no
    copy may be made after that. Durable when it returns; whatever it raises, the document can still be opened or its
    copy is there. Raises StoreUnavailable for a document that is there and cannot be got.
    """
    try:
        data = store.get(name)
    except ObjectMissing:
        # The caller goes on to remove what belongs to the document.
        require_missing(store, name)
        return
    create_object(store, f"{RETIRED}{token}/{name}", data)
    store.delete(name)


def require_missing(store: ObjectStore, name: str) -> None:
    """A document could not be got: raise StoreUnavailable unless it is missing when asked for in another way, too."""
    if exists(store, name):
        raise StoreUnavailable(f"The object store has {name} and does not give it.", object=name)


def original_name(name: str) -> str:
    """The name that a retired document was sealed for."""
    return name.removeprefix(RETIRED).partition("/")[2]


def retired_names(store: ObjectStore) -> Iterator[str]:
    """The names of all copies."""
    for stored in store.list(RETIRED):
        yield stored.name


def is_gone(store: ObjectStore, name: str) -> bool:
    """Whether the document that a copy was made of cannot be opened any more.

    Its deletion may still be under way. Another document may by now have its name: one with other bytes.
    """
    try:
        return store.get(original_name(name)) != store.get(name)
    except ObjectMissing:
        return True

"""Deleted documents and pins, kept for those who may have opened them.

Whoever has an epoch open may use every document that existed since. So a document goes in two steps: a copy
below `retired/`, then itself. The copy counts as a document for sweeps until all have ended that were open when the
document was last seen.
"""

import contextlib
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
    data = document_if_there(store, name)
    if data is None:
        # The caller goes on to remove what belongs to the document.
        return
    create_object(store, f"{RETIRED}{token}/{name}", data)
    store.delete(name)


def document_if_there(store: ObjectStore, name: str) -> bytes | None:
    """The bytes of a document, or None when it is missing, also when asked for in another way.

    Raises StoreUnavailable when the store has it and does not give it, twice: once is a document that is being made.
    """
    for _ in range(2):
        with contextlib.suppress(ObjectMissing):
            return store.get(name)
        if not exists(store, name):
            return None
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

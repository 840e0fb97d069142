"""Named, whole, immutable-once-published objects: the port and the local disk behind it."""

from stillframe.objectstore.local import LocalObjectStore
from stillframe.objectstore.port import Claim, ObjectStore, StoredObject

__all__ = ["Claim", "LocalObjectStore", "ObjectStore", "StoredObject"]

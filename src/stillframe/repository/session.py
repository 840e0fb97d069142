"""The life of one writer in the store: announced before it relies on anything, gone when it has ended."""

from collections.abc import Callable

from stillframe.domain.clock import Clock
from stillframe.domain.identifiers import SnapshotId
from stillframe.errors import Conflict, StillframeError, StoreUnavailable
from stillframe.objectstore import ObjectStore
from stillframe.repository.codec import ContentCodec
from stillframe.repository.content import ContentWriter, PackPublisher
from stillframe.repository.documents import create_object, replace_object
from stillframe.repository.epochs import Epoch
from stillframe.repository.facts import AttributesDocument, SnapshotDocument
from stillframe.repository.format import ATTRIBUTES, SNAPSHOTS
from stillframe.repository.library import PackLibrary, exists
from stillframe.repository.vault import Seal


class WriteSession:
    """A writer's epoch, its packs and its documents.

    Raises Conflict when the snapshot exists or is being written by somebody else.
    """

    def __init__(self, store: ObjectStore, *, snapshot_id: SnapshotId, clock: Clock) -> None:
        self._store = store
        self._id = snapshot_id
        self._clock = clock
        self._publisher: PackPublisher | None = None
        self._attributes_tried = False
        self._outcome_unknown = False
        self._epoch = Epoch.claimed(store, snapshot_id, clock=clock)
        try:
            self._announce()
        except BaseException:
            self._epoch.release()
            raise

    @property
    def generation(self) -> int:
        """What the writer has promised: it relies on nothing that this list of condemned packs or an older one has."""
        return self._epoch.generation

    def content(self, library: PackLibrary, *, level: int, entropy: Callable[[int], bytes]) -> ContentWriter:
        """Where the snapshot's content is stored."""
        self._publisher = PackPublisher(self._store, library, writer=self._id.bytes, entropy=entropy)
        return ContentWriter(library, ContentCodec(library.key, level=level), self._publisher)

    def commit(self, document: SnapshotDocument, seal: Seal) -> None:
        """Create the two documents; the second one is the commit. All content is durable before.

        Raises Conflict, DiskFull and PermissionMissing when the snapshot was not made, StoreUnavailable when
        that could not be learnt: it then either exists whole, or never will.
        """
        attributes = AttributesDocument(
            snapshot_id=self._id,
            generation=1,
            changed_at=document.committed_at,
            attributes=document.facts.attributes,
        )
        self._attributes_tried = True
        name = f"{ATTRIBUTES}{self._id}"
        # An attempt of the same snapshot that died may have left its own, which nobody can be using.
        replace_object(self._store, name, seal(attributes, name))
        name = f"{SNAPSHOTS}{self._id}"
        try:
            create_object(self._store, name, seal(document, name))
        except StoreUnavailable:
            self._outcome_unknown = True
            raise

    def end(self, *, committed: bool) -> None:
        """Remove what an unfinished snapshot stored, then the announcement, then the claims.

        After a commit nothing here can undo it, so nothing is raised: what stays behind is left to a sweep.
        """
        try:
            if committed:
                self._settle()
            else:
                self._remove_everything()
        finally:
            self._epoch.release()

    def _announce(self) -> None:
        """Register the epoch. From now on no other writer relies on our packs, until we are seen to have ended."""
        if exists(self._store, f"{SNAPSHOTS}{self._id}"):
            raise Conflict(f"The snapshot {self._id} exists already.")
        self._epoch.announce(self._clock)

    def _settle(self) -> None:
        if self._publisher is not None:
            self._publisher.settle()
        try:
            self._epoch.withdraw()
        except StillframeError:
            # The snapshot is made, and its document says so to everybody who finds this epoch.
            return

    def _remove_everything(self) -> None:
        if self._publisher is not None:
            self._publisher.stop()
        if self._outcome_unknown:
            # The document may exist, or come to exist: then it needs all of this. A sweep will know.
            return
        if self._attributes_tried:
            self._store.delete(f"{ATTRIBUTES}{self._id}")
        if self._publisher is not None:
            self._publisher.take_away()
        self._epoch.withdraw()

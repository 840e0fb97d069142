"""The life of one writer in the store: announced before it relies on anything, gone when it has ended."""

from collections.abc import Callable

import msgspec

from stillframe.domain.clock import Clock
from stillframe.domain.identifiers import SnapshotId
from stillframe.errors import Conflict, StillframeError, StoreUnavailable
from stillframe.objectstore import Claim, ObjectStore
from stillframe.repository.codec import ContentCodec
from stillframe.repository.content import ContentWriter, PackPublisher
from stillframe.repository.documents import create_object, replace_object
from stillframe.repository.facts import AttributesDocument, SnapshotDocument
from stillframe.repository.format import ATTRIBUTES, EPOCHS, SNAPSHOTS
from stillframe.repository.library import PackLibrary, epoch_claim, exists

_CLAIM_ATTEMPTS = 10
_CLAIM_PAUSE = 0.02

Seal = Callable[[msgspec.Struct, str], bytes]
"""Seals a document for its name."""


class WriteSession:
    """A writer's claims, its epoch object, its packs and its documents.

    Takes over the content claim, and releases it however it ends. Raises Conflict when the snapshot exists or
    is being written by somebody else.
    """

    def __init__(
        self, store: ObjectStore, *, snapshot_id: SnapshotId, content_claim: Claim, clock: Clock
    ) -> None:
        self._store = store
        self._id = snapshot_id
        self._content_claim = content_claim
        self._clock = clock
        self._publisher: PackPublisher | None = None
        self._attributes_tried = False
        self._outcome_unknown = False
        self._epoch_claim: Claim | None = None
        try:
            self._announce()
        except BaseException:
            self._release()
            raise

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
            self._release()

    def _announce(self) -> None:
        """Register the epoch. From now on no other writer relies on our packs, until we are seen to have ended."""
        self._epoch_claim = self._claimed_epoch()
        if exists(self._store, f"{SNAPSHOTS}{self._id}"):
            raise Conflict(f"The snapshot {self._id} exists already.")
        epoch = {"format": "stillframe-epoch", "version": 1, "started_at": self._clock.now().isoformat()}
        self._store.put(f"{EPOCHS}{self._id}", msgspec.json.encode(epoch))

    def _claimed_epoch(self) -> Claim:
        """The epoch's claim. Somebody who looks whether a writer lives holds it for a moment, so ask again."""
        for _ in range(_CLAIM_ATTEMPTS):
            try:
                return self._store.claim(epoch_claim(str(self._id)))
            except Conflict:
                self._clock.sleep(_CLAIM_PAUSE)
        raise Conflict(f"The snapshot {self._id} is being written by somebody else.")

    def _settle(self) -> None:
        if self._publisher is not None:
            self._publisher.settle()
        try:
            self._store.delete(f"{EPOCHS}{self._id}")
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
        self._store.delete(f"{EPOCHS}{self._id}")

    def _release(self) -> None:
        if self._epoch_claim is not None:
            self._epoch_claim.release()
        self._content_claim.release()

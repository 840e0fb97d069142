"""The repository of each Region, and the few things use cases do with a snapshot's document."""

import threading
from collections.abc import Iterator

import msgspec

from stillframe.config import Settings
from stillframe.domain.clock import Clock
from stillframe.domain.identifiers import Region, SnapshotId
from stillframe.domain.snapshot import Snapshot
from stillframe.errors import ObjectMissing
from stillframe.kms import KeyManagement
from stillframe.repository import Repository
from stillframe.service.stores import stores_of


class Repositories:
    """Opens each Region's repository once in a process."""

    def __init__(self, settings: Settings, keys: KeyManagement, clock: Clock) -> None:
        self._stores = stores_of(settings)
        self._keys = keys
        self._clock = clock
        self._open: dict[Region, Repository] = {}
        self._lock = threading.Lock()

    def of(self, region: Region) -> Repository:
        """The repository of that Region, created when there is none yet."""
        # Without the lock first: opening another Region's may wait for a store that does not answer.
        if (known := self._open.get(region)) is not None:
            return known
        with self._lock:
            if region not in self._open:
                store = self._stores.of(region)
                self._open[region] = Repository.create_or_open(store, self._keys, clock=self._clock)
            return self._open[region]

    def regions(self) -> list[Region]:
        """The Regions that have a repository. Raises what finding them raises."""
        return list(self._stores.regions())

    def existing(self) -> Iterator[tuple[Region, Repository]]:
        """Every repository there is; none is made. Raises what finding and opening them raises."""
        for region in self._stores.regions():
            yield region, self.of(region)

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        """Remove the snapshot's document; one that never came to have any is fine."""
        try:
            self.of(snapshot.region).delete_snapshot(snapshot.id)
        except ObjectMissing:
            return

    def remember(self, region: Region, snapshot_id: SnapshotId, **changes: object) -> None:
        """Write changed attributes beside the document, so that a catalog rebuilt from it has them.

        A snapshot without a document (it failed, or is being taken) has nothing to remember.
        """
        repository = self.of(region)
        try:
            attributes = repository.document(snapshot_id).attributes
        except ObjectMissing:
            return
        repository.replace_attributes(snapshot_id, msgspec.structs.replace(attributes, **changes))

    def remember_extra(self, snapshot: Snapshot, name: str, text: str) -> None:
        """The same for something that the API does not show, under a name of its own."""
        repository = self.of(snapshot.region)
        try:
            attributes = repository.document(snapshot.id).attributes
        except ObjectMissing:
            return
        # The retention of the catalog's row: a change of it may have been made since it was read.
        changed = msgspec.structs.replace(
            attributes, extra=attributes.extra | {name: text}, retention_days=snapshot.retention_days
        )
        repository.replace_attributes(snapshot.id, changed)

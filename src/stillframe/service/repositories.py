"""The repository of each Region, and the few things use cases do with a snapshot's document."""

import threading
from collections.abc import Iterator

import msgspec

from stillframe.config import Settings
from stillframe.domain.clock import Clock
from stillframe.domain.identifiers import Region, SnapshotId, parse_region
from stillframe.domain.snapshot import Snapshot
from stillframe.errors import ObjectMissing
from stillframe.kms import KeyManagement
from stillframe.repository import Repository
from stillframe.service.room import RoomKeepingStore


class Repositories:
    """Opens each Region's repository once in a process."""

    def __init__(self, settings: Settings, keys: KeyManagement, clock: Clock) -> None:
        self._settings = settings
        self._keys = keys
        self._clock = clock
        self._open: dict[Region, Repository] = {}
        self._lock = threading.Lock()

    def of(self, region: Region) -> Repository:
        """The repository of that Region, created when there is none yet."""
        with self._lock:
            if region not in self._open:
                store = RoomKeepingStore(self._settings.paths.repository(region))
                self._open[region] = Repository.create_or_open(store, self._keys, clock=self._clock)
            return self._open[region]

    def existing(self) -> Iterator[tuple[Region, Repository]]:
        """Every repository of this data directory."""
        regions = self._settings.paths.root / "regions"
        for entry in sorted(regions.iterdir()) if regions.is_dir() else ():
            region = parse_region(entry.name)
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

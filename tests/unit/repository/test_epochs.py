"""Who is open is told by claims: a store that does not show an epoch takes nothing from its owner."""

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillframe.domain.clock import SystemClock
from stillframe.errors import ObjectMissing
from stillframe.objectstore import ObjectStore, StoredObject
from stillframe.repository import SweepReport
from stillframe.repository.epochs import Epoch, open_epochs
from stillframe.repository.format import EPOCHS
from support.objectstore import FaultyStore, MemoryObjectStore
from support.repository import contents, pages, read_files, repository_in, store_files

pytestmark = pytest.mark.unit

FILES = {"base/5/1": pages(1, 2, 3), "PG_VERSION": b"18\n"}
CHANGED = {"base/5/1": pages(1, 7, 3), "PG_VERSION": b"18\n"}


class Unlisted(FaultyStore):
    """Never lists an epoch."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        yield from (stored for stored in self.store.list(prefix) if not stored.name.startswith(EPOCHS))


class Withheld(Unlisted):
    """Says that there are none, either."""

    def get(self, name: str) -> bytes:
        if name.startswith(EPOCHS):
            raise ObjectMissing(f"The object {name} is not in the store.")
        return self.store.get(name)


@pytest.fixture(name="wrong", params=[Unlisted, Withheld])
def _wrong(request: pytest.FixtureRequest, store: MemoryObjectStore) -> ObjectStore:
    made: ObjectStore = request.param(store)
    return made


@pytest.fixture(name="store")
def _store() -> MemoryObjectStore:
    return MemoryObjectStore()


def test_a_reader_keeps_a_deleted_snapshot(
    tmp_path: Path, store: MemoryObjectStore, wrong: ObjectStore
) -> None:
    repository = repository_in(tmp_path, store)
    read = store_files(repository, FILES).snapshot_id
    with repository.open_snapshot(read) as reader:
        repository_in(tmp_path, wrong).delete_snapshot(read)
        for _ in range(3):
            repository_in(tmp_path, wrong).sweep()
        assert read_files(reader) == FILES
    repository.sweep()
    assert not [name for name in store.objects if name.startswith(("packs/", "nodes/"))]


def test_a_writer_keeps_what_it_relies_on_and_what_it_stored(
    tmp_path: Path, store: MemoryObjectStore, wrong: ObjectStore
) -> None:
    repository = repository_in(tmp_path, store)
    parent = store_files(repository, FILES).snapshot_id
    swept: list[SweepReport] = []
    one_at_a_time = threading.Lock()

    class Sweeping(FaultyStore):
        """Somebody deletes the parent and sweeps, three times, before each object that the writer stores."""

        def put(self, name: str, data: object, *, if_absent: bool = False) -> None:
            if not name.startswith(EPOCHS):
                with one_at_a_time:
                    repository_in(tmp_path, wrong).delete_snapshot(parent)
                    swept.extend(repository_in(tmp_path, wrong).sweep() for _ in range(3))
            self.store.put(name, data, if_absent=if_absent)  # type: ignore[arg-type]

    writer_repository = repository_in(tmp_path, Sweeping(store))
    child = store_files(writer_repository, CHANGED, parent=parent).snapshot_id
    assert len(swept) >= 9
    assert contents(repository, child) == CHANGED


def test_an_epoch_is_open_from_its_claim_to_its_release(store: MemoryObjectStore) -> None:
    epoch_id, clock = uuid.uuid4(), SystemClock()
    epoch = Epoch.claimed(store, epoch_id, clock=clock)
    assert open_epochs(store) == {epoch_id: 0}
    epoch.announce(clock)
    epoch.withdraw()
    assert open_epochs(store) == {epoch_id: 0}
    epoch.release()
    assert open_epochs(store) == {}

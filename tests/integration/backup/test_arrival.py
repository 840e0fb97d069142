"""A data directory without its pages, and the source that has them."""

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from stillframe.backup.arrival import SnapshotSource, is_catalog
from stillframe.backup.restore import Arrival, lay_out
from stillframe.domain.cancel import CancelToken
from stillframe.errors import Conflict, ObjectMissing
from stillframe.hydration import tagged
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.control import CONTROL_FILE
from stillframe.postgres.pages import PAGE_SIZE
from stillframe.postgres.session_catalogs import is_for_every_session
from stillframe.repository import Repository, SnapshotDocument, SnapshotReader
from support.backup import lay_out as restore_eagerly
from support.backup import new_progress, new_repository, take
from support.postgres import SMALL, cluster_in, reachable_directory

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def taken(shop: Cluster) -> Iterator[tuple[Repository, SnapshotDocument]]:
    """A snapshot of the shop, and its repository."""
    with reachable_directory() as directory:
        repository = new_repository(directory)
        yield repository, take(repository, shop)


@pytest.fixture(scope="module")
def reader(taken: tuple[Repository, SnapshotDocument]) -> Iterator[SnapshotReader]:
    """The snapshot, open."""
    repository, document = taken
    with repository.open_snapshot(document.snapshot_id) as reader:
        yield reader


@pytest.fixture
def place() -> Iterator[Path]:
    """Where directories are made."""
    with reachable_directory() as directory:
        yield directory


@pytest.fixture
def laid_out(taken: tuple[Repository, SnapshotDocument], place: Path) -> Cluster:
    """A directory made from it, whose pages are still to come."""
    repository, document = taken
    target = cluster_in(place / "target")
    target.identity.make_directory(target.data_directory.parent)
    with repository.open_snapshot(document.snapshot_id) as reader:
        lay_out(
            reader,
            target,
            arrival=Arrival(note=b"from a test"),
            progress=new_progress(),
            cancel=CancelToken(),
        )
    return target


def test_relations_are_holes_of_the_right_length_and_everything_else_is_whole(
    taken: tuple[Repository, SnapshotDocument], laid_out: Cluster, place: Path
) -> None:
    repository, document = taken
    eager = cluster_in(place / "eager")
    restore_eagerly(repository, document, eager)
    arriving = {
        path.relative_to(laid_out.data_directory).as_posix() for path in tagged(laid_out.data_directory)
    }
    with repository.open_snapshot(document.snapshot_id) as reader:
        relations = {entry.path for entry in reader.files() if entry.is_relation and entry.size}
        assert arriving == relations
        for entry in reader.files():
            if entry.path == "postgresql.conf":
                # Which refuses to be used until everything is there.
                continue
            found, reference = laid_out.data_directory / entry.path, eager.data_directory / entry.path
            assert found.stat().st_size == entry.size
            assert found.stat().st_mode == reference.stat().st_mode
            assert found.stat().st_uid == reference.stat().st_uid
            if entry.path in arriving:
                assert found.stat().st_blocks == 0
            else:
                assert found.read_bytes() == reference.read_bytes()
    assert (laid_out.data_directory / CONTROL_FILE).exists()


def test_a_directory_whose_files_arrive_is_not_started_without_its_hydrator(laid_out: Cluster) -> None:
    assert laid_out.arrival_note() == b"from a test"
    with pytest.raises(Conflict, match="still arriving"):
        laid_out.start(SMALL)
    laid_out.end_arrival()
    assert laid_out.arrival_note() is None
    assert "include" in (laid_out.data_directory / "postgresql.conf").read_text()


def test_the_source_gives_every_page_once_and_catalogs_first(
    taken: tuple[Repository, SnapshotDocument], laid_out: Cluster, place: Path
) -> None:
    repository, document = taken
    eager = cluster_in(place / "eager")
    restore_eagerly(repository, document, eager)
    with repository.open_snapshot(document.snapshot_id) as reader:
        source = SnapshotSource(reader)
        entries = {entry.path: entry for entry in reader.files() if entry.is_relation and entry.size}
        built = {path: bytearray(entry.size) for path, entry in entries.items()}
        order: list[bool] = []
        seen: set[tuple[str, int]] = set()
        for batch in source.batches(set(entries)):
            for path, offset, data in batch.pieces(lambda *_: True):
                assert (path, offset) not in seen
                seen.add((path, offset))
                order.append(is_catalog(path))
                built[path][offset : offset + len(data)] = data
        assert order == sorted(order, reverse=True)
        for path, content in built.items():
            assert content == (eager.data_directory / path).read_bytes(), path
            half = len(content) // PAGE_SIZE // 2 * PAGE_SIZE
            assert source.read(path, half, len(content) - half) == content[half:]


def test_the_source_names_first_what_every_session_reads_and_only_of_files_that_it_is_asked_for(
    reader: SnapshotReader,
) -> None:
    source = SnapshotSource(reader)
    sizes = {entry.path: entry.size for entry in reader.files() if entry.is_relation and entry.size}
    wanted = {path for path in sizes if is_for_every_session(path)}

    def first(paths: Collection[str]) -> set[str]:
        return {path for batch in source.first(paths) for path, _, _ in batch.pieces(lambda *_: True)}

    found = first(set(sizes))
    assert found <= wanted
    # What all sessions share is among it, and what of one database is too much for its bound.
    assert {path for path in wanted if path.startswith(("global/", "base/5/"))} <= found
    assert sum(sizes[path] for path in found) <= 4 << 20 < sum(sizes[path] for path in wanted)
    left_out = min(found)
    assert left_out not in first(set(sizes) - {left_out})


def test_the_source_tells_whole_pages_from_zero_and_torn_ones(
    reader: SnapshotReader,
) -> None:
    source = SnapshotSource(reader)
    path = next(entry.path for entry in reader.files() if entry.path.endswith("/1259"))
    page = source.read(path, PAGE_SIZE, PAGE_SIZE)
    assert source.page_is_whole(path, 1, page)
    assert not source.page_is_whole(path, 2, page)
    assert not source.page_is_whole(path, 1, page[:4096] + bytes(4096))
    assert not source.page_is_whole(path, 1, bytes(PAGE_SIZE))


def test_a_file_that_the_snapshot_does_not_have_is_an_error_and_no_zeros(reader: SnapshotReader) -> None:
    with pytest.raises(ObjectMissing):
        SnapshotSource(reader).read("base/5/999999", 0, PAGE_SIZE)

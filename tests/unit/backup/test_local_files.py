"""Pages taken from files on this machine: recognised or fetched, never wrong."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillframe.backup.local_files import LocalDirectory
from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY
from stillframe.hydration import tag
from stillframe.hydration.filesystem import is_in_memory
from stillframe.repository import Repository, SnapshotDocument, SnapshotReader, Span
from support.damage import flip_bit
from support.repository import BLOCK, facts, page, pages, read_files, repository_in, restored, store_files
from support.stores import store_in

pytestmark = pytest.mark.unit

_FILE = "base/5/1000"
_OTHER = "base/5/2000"
_FRAME = 32
_FILES = {_FILE: pages(*range(100)), _OTHER: pages(*range(200, 232)), "PG_VERSION": b"18\n"}
_RELATIONS = len(_FILES[_FILE]) + len(_FILES[_OTHER])


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return repository_in(tmp_path / "repository")


@pytest.fixture
def document(repository: Repository) -> SnapshotDocument:
    return store_files(repository, _FILES)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory that has exactly what the snapshot has."""
    directory = tmp_path / "local"
    for path, data in _FILES.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)
    return directory


@pytest.fixture
def local(place: Path) -> Iterator[LocalDirectory]:
    with LocalDirectory.first_of([place / "elsewhere", place]) as found:
        assert found is not None
        yield found


@pytest.fixture
def reader(
    repository: Repository, document: SnapshotDocument, local: LocalDirectory
) -> Iterator[SnapshotReader]:
    with repository.open_snapshot(document.snapshot_id) as opened:
        yield opened.beside(local)


def lose_pages(tmp_path: Path) -> None:
    """Take every data pack away: what is still read can not come from the repository."""
    for pack in (tmp_path / "repository").rglob("packs"):
        shutil.rmtree(pack)


def test_nothing_is_fetched_that_local_files_have(
    tmp_path: Path, reader: SnapshotReader, local: LocalDirectory
) -> None:
    relations = [entry for entry in reader.files() if entry.is_relation]
    lose_pages(tmp_path)
    found = {entry.path: bytearray(entry.size) for entry in relations}
    for group in reader.fetch_plan(relations):
        for piece in reader.fetch(group):
            found[piece.entry.path][piece.offset : piece.offset + len(piece.data)] = piece.data
    assert found == {path: _FILES[path] for path in (_FILE, _OTHER)}
    assert local.taken_bytes == _RELATIONS


def test_single_pages_are_found_in_local_files_too(
    tmp_path: Path, reader: SnapshotReader, local: LocalDirectory
) -> None:
    entry = reader.entry(_FILE)
    assert entry is not None
    lose_pages(tmp_path)
    assert reader.read_blocks(entry, 40, 1) == page(40)
    assert reader.read_file(entry, 31 * BLOCK, 2 * BLOCK) == pages(31, 32)
    assert local.taken_bytes == 3 * BLOCK


def test_a_flipped_bit_makes_its_frame_be_fetched(
    place: Path, reader: SnapshotReader, local: LocalDirectory
) -> None:
    flip_bit(place / _FILE, 33 * BLOCK + 17)
    assert restored(reader) == _FILES
    assert local.taken_bytes == _RELATIONS - _FRAME * BLOCK
    assert read_files(reader) == _FILES


@pytest.mark.parametrize(
    "how", ["missing", "shorter", "empty", "a directory", "a pipe", "a link", "arriving"]
)
def test_a_file_that_can_not_be_read_as_it_was_is_fetched(
    place: Path, reader: SnapshotReader, local: LocalDirectory, how: str
) -> None:
    path = place / _OTHER
    match how:
        case "shorter" | "empty":
            os.truncate(path, BLOCK if how == "shorter" else 0)
        case "arriving":
            with path.open("r+b") as file:
                tag(file.fileno(), len(_FILES[_OTHER]))
        case _:
            path.rename(place / "moved")
            if how == "a directory":
                path.mkdir()
            elif how == "a pipe":
                os.mkfifo(path)
            elif how == "a link":
                path.symlink_to(place / "moved")
    assert restored(reader) == _FILES
    assert local.taken_bytes == len(_FILES[_FILE])


def test_a_directory_that_is_moved_is_read_on_and_one_that_is_removed_is_not_missed(
    tmp_path: Path, place: Path, reader: SnapshotReader, local: LocalDirectory
) -> None:
    place.rename(tmp_path / "moved")
    assert restored(reader) == _FILES
    assert local.taken_bytes == _RELATIONS
    shutil.rmtree(tmp_path / "moved")
    assert restored(reader) == _FILES
    assert local.taken_bytes == _RELATIONS


def test_scattered_pages_are_put_together_from_where_they_belong(
    tmp_path: Path, repository: Repository, document: SnapshotDocument, place: Path
) -> None:
    changed = {3: 903, 50: 950, 97: 997}
    with repository.begin_snapshot(key_id=AWS_OWNED_KMS_KEY, parent=document.snapshot_id) as writer:
        for directory in ("", "base", "base/5"):
            writer.add_directory(directory, mode=0o700)
        relation = writer.relation(_FILE, mode=0o600, blocks=100)
        relation.write_scattered((block, page(seed)) for block, seed in changed.items())
        relation.inherit(0, 100)
        relation.close()
        later = writer.commit(facts())
    content = pages(*(changed.get(block, block) for block in range(100)))
    (place / _FILE).write_bytes(content)
    with LocalDirectory.first_of([place]) as local, repository.open_snapshot(later.snapshot_id) as opened:
        assert local is not None
        assert restored(opened.beside(local)) == {_FILE: content}
        # Of the runs only one is still needed as a whole; the others can not be recognised any more.
        assert local.taken_bytes == (_FRAME + len(changed)) * BLOCK


def test_a_file_that_differs_everywhere_is_soon_asked_only_now_and_then(
    place: Path, local: LocalDirectory
) -> None:
    asked = 0
    for _ in range(400):
        if local.read([Span(_FILE, 0, BLOCK)]) is not None:
            asked += 1
            local.judged(_FILE, right=False)
    assert asked <= 8 + 400 / 16 + 1
    assert local.read([Span(_OTHER, 0, BLOCK)]) is not None


@pytest.mark.parametrize("read_ahead", [True, False])
def test_the_system_is_told_when_it_should_not_read_ahead(
    reader: SnapshotReader, local: LocalDirectory, monkeypatch: pytest.MonkeyPatch, *, read_ahead: bool
) -> None:
    advice: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: advice.append(arguments[-1]))
    local.read_ahead = lambda: read_ahead
    assert restored(reader)[_FILE] == _FILES[_FILE]
    assert set(advice) == (set() if read_ahead else {os.POSIX_FADV_RANDOM})


def test_a_file_that_has_something_again_is_asked_again(local: LocalDirectory) -> None:
    for _ in range(50):
        local.judged(_FILE, right=False)
    while local.read([Span(_FILE, 0, BLOCK)]) is None:
        pass
    local.judged(_FILE, right=True)
    assert all(local.read([Span(_FILE, 0, BLOCK)]) == page(0) for _ in range(20))


def test_what_the_disk_would_have_to_be_asked_for_is_left_alone_if_so_wanted(place: Path) -> None:
    descriptor = os.open(place / _FILE, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if is_in_memory(descriptor, 0, BLOCK):
            pytest.skip("this file system keeps files in memory, or the kernel does not tell")
        with LocalDirectory.first_of([place], only_in_memory=True) as found:
            assert found is not None
            assert found.read([Span(_FILE, 0, BLOCK)]) is None
            os.pread(descriptor, len(_FILES[_FILE]), 0)
            assert found.read([Span(_FILE, 0, BLOCK)]) == page(0)
            assert found.read([Span(_FILE, 99 * BLOCK, BLOCK)]) == page(99)
    finally:
        os.close(descriptor)


def test_without_any_directory_there_is_nothing_to_ask(tmp_path: Path) -> None:
    with LocalDirectory.first_of([tmp_path / "absent"]) as found:
        assert found is None


def test_the_same_pages_under_another_key_are_not_taken_for_each_other(tmp_path: Path, place: Path) -> None:
    """Contents are recognised by a keyed hash: another repository's says nothing here."""
    other = repository_in(tmp_path / "other", store_in(tmp_path / "other"))
    snapshot = store_files(other, {_FILE: pages(*range(300, 332))})
    with LocalDirectory.first_of([place]) as local, other.open_snapshot(snapshot.snapshot_id) as opened:
        assert local is not None
        assert restored(opened.beside(local)) == {_FILE: pages(*range(300, 332))}
        assert local.taken_bytes == 0

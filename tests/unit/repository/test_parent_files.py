"""What a writer tells about the parent it was begun with."""

from pathlib import Path

import pytest

from stillframe.repository import Repository
from support.repository import BLOCK, KEY, facts, pages, repository_in, store_files

pytestmark = pytest.mark.unit

FILES = {"PG_VERSION": b"18\n", "base/5/1249": pages(1, 2), "base/5/1259": pages(3)}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return repository_in(tmp_path)


def test_a_writer_without_a_parent_knows_of_no_files(repository: Repository) -> None:
    with repository.begin_snapshot(key_id=KEY) as writer:
        assert writer.parent is None
        assert writer.parent_file("base/5/1249") is None
        assert writer.parent_files("base/5") is None
        assert writer.parent_file_count("base/5") is None


def test_a_writer_knows_its_parents_document_and_files(repository: Repository) -> None:
    parent = store_files(repository, FILES)
    with repository.begin_snapshot(key_id=KEY, parent=parent.snapshot_id) as writer:
        assert writer.parent == parent
        one = writer.parent_file("base/5/1249")
        assert one is not None
        assert one.blocks == 2
        assert writer.parent_file("base/5/9") is None
        files = writer.parent_files("base/5")
        assert files is not None
        assert {name: entry.size for name, entry in files.items()} == {"1249": 2 * BLOCK, "1259": BLOCK}
        assert {entry.path for entry in files.values()} == {"base/5/1249", "base/5/1259"}
        assert writer.parent_file_count("base/5") == 2
        assert writer.parent_files("base/6") is None
        assert writer.parent_file_count("base/6") is None


def test_a_writer_tells_where_the_parent_has_pages(repository: Repository) -> None:
    parent = store_files(repository, FILES)
    with repository.begin_snapshot(key_id=KEY, parent=parent.snapshot_id) as writer:
        places = writer.parent_places("base/5/1249", 0)
        assert places is not None
        assert (places.frame.tolist(), places.index.tolist(), len(places.frames)) == ([1, 1], [0, 1], 1)
        assert writer.parent_places("base/5/1249", 1) is None
        assert writer.parent_places("base/5/9", 0) is None


def test_the_sizes_of_directories_follow_from_the_parents_and_the_changes(repository: Repository) -> None:
    parent = store_files(repository, FILES)
    with repository.begin_snapshot(key_id=KEY, parent=parent.snapshot_id) as writer:
        writer.inherit_directory("")
        writer.inherit_directory("base/5")
        assert writer.directory_sizes() == {"": 3, "base/5": 3 * BLOCK}
        writer.remove("base/5/1249")
        relation = writer.relation("base/5/1259", mode=0o600, blocks=4)
        relation.write_run(0, pages(4, 5, 6, 7))
        relation.close()
        new = writer.file("base/5/notes", mode=0o600)
        new.write(b"seven b")
        new.close()
        assert writer.directory_sizes() == {"": 3, "base/5": 4 * BLOCK + 7}


@pytest.mark.parametrize(
    ("before", "zeros"), [(0, 0), (0, 5 << 20), (5, 100), (100, 3 << 20), (1 << 20, 1 << 20)]
)
def test_zeros_that_are_not_given_are_as_good_as_given_ones(
    repository: Repository, before: int, zeros: int
) -> None:
    content = b"x" * before + bytes(zeros) + b"end"
    with repository.begin_snapshot(key_id=KEY) as writer:
        writer.add_directory("", mode=0o700)
        told, given = writer.file("told", mode=0o600), writer.file("given", mode=0o600)
        told.write(b"x" * before)
        told.write_zeros(zeros)
        told.write(b"end")
        told.close()
        given.write(content)
        given.close()
        document = writer.commit(facts())
    with repository.open_snapshot(document.snapshot_id) as reader:
        one, other = reader.entry("told"), reader.entry("given")
        assert one is not None
        assert other is not None
        assert one.record.ref == other.record.ref
        assert reader.read_file(one, 0, len(content)) == content

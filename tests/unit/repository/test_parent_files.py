"""What a writer tells about the parent it was begun with."""

from pathlib import Path

import pytest

from stillframe.repository import Repository
from support.repository import BLOCK, KEY, pages, repository_in, store_files

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

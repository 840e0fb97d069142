"""Repositories that past releases wrote are read by this one, byte for byte."""

import shutil
from pathlib import Path

import pytest

from stillframe.repository import Level, Repository
from support.releases import DATA, EXPECTED, FIRST, SECOND
from support.repository import KEY, facts, read_files, repository_in

pytestmark = pytest.mark.compat

RELEASES = sorted(path.name for path in DATA.iterdir())


@pytest.fixture(name="repository", params=RELEASES)
def _repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    directory = tmp_path / "release"
    shutil.copytree(DATA / request.param, directory)
    (directory / "keys").chmod(0o700)
    return repository_in(directory)


def test_every_snapshot_reads_as_it_was_written(repository: Repository) -> None:
    for snapshot_id, files in EXPECTED.items():
        with repository.open_snapshot(snapshot_id) as reader:
            assert read_files(reader) == files


def test_every_stored_byte_is_still_in_order(repository: Repository) -> None:
    assert repository.check(level=Level.BYTES).clean


def test_the_documents_say_the_same(repository: Repository) -> None:
    documents = {document.snapshot_id: document for document in repository.documents()}
    assert {(key, document.parent_id) for key, document in documents.items()} == {
        (FIRST, None),
        (SECOND, FIRST),
    }
    assert all(document.facts == facts() for document in documents.values())


def test_a_new_snapshot_can_build_on_an_old_one(repository: Repository) -> None:
    with repository.begin_snapshot(key_id=KEY, parent=SECOND) as writer:
        for path in ("", "base", "base/5", "pg_notify", "pg_xact"):
            writer.inherit_directory(path)
        document = writer.commit(facts())
    assert document.statistics.new_plain_bytes == 0
    with repository.open_snapshot(document.snapshot_id) as reader:
        assert read_files(reader) == EXPECTED[SECOND]

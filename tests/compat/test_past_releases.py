"""Repositories that past releases wrote are read by this one, byte for byte."""

import shutil
from pathlib import Path

import pytest

from stillframe.repository import IndexPolicy, Level, Repository
from support.releases import DATA, EXPECTED, FIRST, SECOND
from support.repository import KEY, facts, read_files, repository_in, store_files

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


def test_a_repository_without_index_objects_gets_some_with_its_next_snapshot(repository: Repository) -> None:
    before = repository.index_state()
    assert before.objects == before.covered == 0
    assert before.packs > 0
    soon = Repository(
        repository._store,
        repository._keys,
        repository_id=repository.id,
        clock=repository._clock,
        entropy=repository._entropy,
        index_policy=IndexPolicy(packs=1),
    )
    store_files(soon, {"base/5/1": bytes(8192), "conf": b"x" * 2000})
    after = repository.index_state()
    assert after.objects == 1
    assert after.covered == after.packs > before.packs
    test_every_snapshot_reads_as_it_was_written(soon)
    assert soon.check(level=Level.BYTES).clean


def test_an_index_can_be_made_of_a_repository_of_a_past_release(repository: Repository) -> None:
    state = repository.rebuild_index()
    assert state.covered == state.packs > 0
    test_every_snapshot_reads_as_it_was_written(repository)

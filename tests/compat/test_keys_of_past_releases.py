"""Keys that past releases wrote are used, rotated and disabled like those of this one."""

import shutil
from pathlib import Path

import pytest

from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY, AccountId, Region, Scope
from stillframe.kms import KeyState, LocalKeyManagement
from stillframe.objectstore import LocalObjectStore
from stillframe.repository import Level, Repository
from support.releases import DATA, EXPECTED
from support.repository import read_files

pytestmark = pytest.mark.compat

RELEASES = sorted(path.name for path in DATA.iterdir())
SCOPE = Scope(account=AccountId("123456789012"), region=Region("us-east-1"))


@pytest.mark.parametrize("release", RELEASES)
def test_a_rotated_key_of_a_past_release_opens_its_repository_before_and_after_wrapping_anew(
    tmp_path: Path, release: str
) -> None:
    shutil.copytree(DATA / release, tmp_path / "release")
    keys = LocalKeyManagement(tmp_path / "release" / "keys")
    before = keys.describe(AWS_OWNED_KMS_KEY)
    assert before.state is KeyState.ENABLED
    assert before in keys.keys(SCOPE)
    assert keys.rotate(AWS_OWNED_KMS_KEY).version == (before.version or 0) + 1
    for rewrap in (False, True):
        repository = Repository.create_or_open(LocalObjectStore(tmp_path / "release" / "repository"), keys)
        assert not rewrap or repository.rewrap(AWS_OWNED_KMS_KEY)
        for snapshot_id, files in EXPECTED.items():
            with repository.open_snapshot(snapshot_id) as reader:
                assert read_files(reader) == files
    assert repository.check(level=Level.BYTES).clean

"""Keys in files that change: rotated, disabled, given aliases; by several at once, and cut off in the middle."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY, AccountId, KmsKeyId, Region, Scope
from stillframe.errors import (
    Conflict,
    DiskFull,
    InvalidRequest,
    KeyUnavailable,
    PermissionMissing,
    StillframeError,
)
from stillframe.kms import KeyState, LocalKeyManagement, files

pytestmark = pytest.mark.unit

SCOPE = Scope(account=AccountId("123456789012"), region=Region("eu-central-1"))
OTHER_ACCOUNT = Scope(account=AccountId("210987654321"), region=Region("eu-central-1"))
CONTEXT = {"purpose": "test"}


@pytest.fixture
def keys(tmp_path: Path) -> LocalKeyManagement:
    return LocalKeyManagement(tmp_path / "keys")


class PowerCut(BaseException):
    """Nothing that comes after it is carried out."""


Change = Callable[[LocalKeyManagement, KmsKeyId], object]
CHANGES: dict[str, Change] = {
    "rotate": lambda keys, key: keys.rotate(key),
    "disable": lambda keys, key: keys.disable(key),
    "alias": lambda keys, key: keys.set_alias(SCOPE, "alias/moved", key),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_change_that_is_cut_off_leaves_the_key_as_it_was_and_can_be_repeated(
    keys: LocalKeyManagement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, step: str
) -> None:
    other, key = keys.create(SCOPE, alias="alias/moved"), keys.create(SCOPE)
    blob = keys.wrap(key.key_id, b"plain", CONTEXT)

    def cut(*_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", cut) if step == "fsync" else broken.setattr(Path, "replace", cut)
        # The file that was being written is still there after a power cut.
        broken.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(PowerCut):
            CHANGES[change](keys, key.key_id)
    again = LocalKeyManagement(tmp_path / "keys")
    assert again.describe(key.key_id) == key
    assert again.unwrap(key.key_id, blob, CONTEXT) == b"plain"
    assert again.resolve("alias/moved", SCOPE).key == other
    assert len(again.keys(SCOPE)) == 2
    CHANGES[change](again, key.key_id)
    again.enable(key.key_id)
    assert again.unwrap(key.key_id, blob, CONTEXT) == b"plain"
    assert not [path for path in (tmp_path / "keys").rglob(".*") if path.is_file()]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [(28, DiskFull), (13, PermissionMissing), (30, PermissionMissing), (5, KeyUnavailable)],
)
def test_a_change_that_the_machine_refuses_is_told_and_changes_nothing(
    keys: LocalKeyManagement,
    monkeypatch: pytest.MonkeyPatch,
    reason: int,
    expected: type[StillframeError],
) -> None:
    key = keys.create(SCOPE)

    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "fsync", refuse)
    for change in (keys.rotate, keys.disable):
        with pytest.raises(expected):
            change(key.key_id)
    with pytest.raises(expected):
        keys.create(SCOPE)
    assert keys.describe(key.key_id) == key


def test_rotations_at_once_are_all_kept(keys: LocalKeyManagement, tmp_path: Path) -> None:
    key = keys.create(SCOPE).key_id
    blobs: list[bytes] = []

    def rotate() -> None:
        own = LocalKeyManagement(tmp_path / "keys")
        for _ in range(5):
            own.rotate(key)
            blobs.append(own.wrap(key, b"plain", CONTEXT))

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keys.describe(key).version == 21
    assert {keys.unwrap(key, blob, CONTEXT) for blob in blobs} == {b"plain"}


def test_a_change_does_not_wait_for_ever_for_another_one(
    keys: LocalKeyManagement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys.create(SCOPE)
    monkeypatch.setattr(files, "_PATIENCE", 0.05)
    with files.locked(tmp_path / "keys"), pytest.raises(Conflict):
        keys.rotate(key.key_id)
    assert keys.rotate(key.key_id).version == 2


def test_material_is_only_ever_appended(keys: LocalKeyManagement, tmp_path: Path) -> None:
    key = keys.create(SCOPE).key_id
    (path,) = (tmp_path / "keys").iterdir()
    seen: list[str] = []
    for version in range(1, 5):
        stored = json.loads(path.read_bytes())
        assert stored["materials"][: version - 1] == seen
        assert len(set(stored["materials"])) == version
        assert path.stat().st_mode & 0o777 == 0o600
        seen = stored["materials"]
        keys.rotate(key)


def test_the_services_own_key_is_rotated_and_never_disabled(keys: LocalKeyManagement) -> None:
    keys.ensure_key(AWS_OWNED_KMS_KEY)
    blob = keys.wrap(AWS_OWNED_KMS_KEY, b"plain", CONTEXT)
    assert keys.rotate(AWS_OWNED_KMS_KEY).version == 2
    assert keys.unwrap(AWS_OWNED_KMS_KEY, blob, CONTEXT) == b"plain"
    with pytest.raises(InvalidRequest):
        keys.disable(AWS_OWNED_KMS_KEY)
    assert keys.describe(AWS_OWNED_KMS_KEY).state is KeyState.ENABLED


def test_a_key_of_another_account_is_neither_found_nor_listed(keys: LocalKeyManagement) -> None:
    made = keys.create(SCOPE, alias="alias/mine")
    for name in (made.key_id, made.key_id.rpartition("/")[2], "alias/mine"):
        with pytest.raises(KeyUnavailable):
            keys.resolve(name, OTHER_ACCOUNT)
    assert keys.keys(OTHER_ACCOUNT) == []
    theirs = keys.create(OTHER_ACCOUNT, alias="alias/mine")
    assert keys.resolve("alias/mine", SCOPE).key == made
    assert keys.resolve("alias/mine", OTHER_ACCOUNT).key == theirs


@pytest.mark.parametrize(
    "text",
    [
        "alias/shop",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    ],
)
def test_a_key_that_release_0_1_0_made_of_a_mere_name_is_found_by_that_name(
    keys: LocalKeyManagement, text: str
) -> None:
    old = keys.create_key(KmsKeyId(text))
    found = keys.resolve(text, SCOPE)
    assert (found.name, found.key) == (text, old)
    assert old in keys.keys(SCOPE)
    if text.startswith("alias/"):
        for give in (
            lambda: keys.set_alias(SCOPE, text, old.key_id),
            lambda: keys.create(SCOPE, alias=text),
        ):
            with pytest.raises(Conflict):
                give()


def test_rubbish_among_the_keys_is_no_key(keys: LocalKeyManagement, tmp_path: Path) -> None:
    made = keys.create(SCOPE, alias="alias/shop")
    for directory in (tmp_path / "keys", tmp_path / "keys" / "aliases"):
        (directory / "README").write_text("not a key")
        (directory / ".new").write_text("{")
    assert keys.keys(SCOPE) == [made]
    assert keys.aliases(made.key_id) == ["alias/shop"]


def test_a_damaged_alias_is_unavailable_and_leads_to_no_other_key(
    keys: LocalKeyManagement, tmp_path: Path
) -> None:
    keys.create(SCOPE, alias="alias/one")
    (one,) = (tmp_path / "keys" / "aliases").iterdir()
    keys.create(SCOPE, alias="alias/two")
    (two,) = set((tmp_path / "keys" / "aliases").iterdir()) - {one}
    two.write_bytes(one.read_bytes())
    with pytest.raises(KeyUnavailable):
        keys.resolve("alias/two", SCOPE)
    two.write_bytes(b"{")
    with pytest.raises(KeyUnavailable):
        keys.resolve("alias/two", SCOPE)


def test_an_alias_of_a_lost_key_is_unavailable(keys: LocalKeyManagement, tmp_path: Path) -> None:
    keys.create(SCOPE, alias="alias/one")
    (key_file,) = (path for path in (tmp_path / "keys").iterdir() if path.is_file())
    key_file.unlink()
    with pytest.raises(KeyUnavailable):
        keys.resolve("alias/one", SCOPE)


def test_keys_whose_directory_went_away_are_unavailable(keys: LocalKeyManagement, tmp_path: Path) -> None:
    key = keys.create(SCOPE)
    (tmp_path / "keys").rename(tmp_path / "elsewhere")
    for use in (keys.rotate, keys.disable, keys.describe):
        with pytest.raises(KeyUnavailable):
            use(key.key_id)
    (tmp_path / "elsewhere").rename(tmp_path / "keys")
    assert keys.describe(key.key_id) == key

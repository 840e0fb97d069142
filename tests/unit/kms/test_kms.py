"""Keys in files, and the secrets that are kept under them."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from stillframe.domain.identifiers import AWS_OWNED_KMS_KEY, KmsKeyId
from stillframe.errors import Conflict, InvalidRequest, KeyUnavailable, StillframeError, StoredDataCorrupt
from stillframe.kms import KeyState, LocalKeyManagement, Secret, SecretBox

pytestmark = pytest.mark.unit

KEY = AWS_OWNED_KMS_KEY
CONTEXT = {"repository": "r", "data-key": "d"}


def only_file(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


@pytest.mark.parametrize(
    "key_id",
    ["AWS_OWNED_KMS_KEY", "alias/my key", "../../etc/passwd", "arn:aws:kms:eu-central-1:1:key/x", "ü" * 200],
)
def test_any_text_can_be_the_id_of_a_key(tmp_path: Path, key_id: str) -> None:
    keys = LocalKeyManagement(tmp_path / "keys")
    keys.create_key(KmsKeyId(key_id))
    blob = keys.wrap(KmsKeyId(key_id), b"plain", CONTEXT)
    assert LocalKeyManagement(tmp_path / "keys").unwrap(KmsKeyId(key_id), blob, CONTEXT) == b"plain"
    assert only_file(tmp_path / "keys").parent == tmp_path / "keys"


def test_a_key_is_described_without_its_material(tmp_path: Path) -> None:
    description = LocalKeyManagement(tmp_path).create_key(KEY)
    assert (description.key_id, description.state, description.version) == (KEY, KeyState.ENABLED, 1)
    material = json.loads(only_file(tmp_path).read_bytes())["materials"][0]
    assert material not in repr(description)


def test_keys_are_readable_by_nobody_else(tmp_path: Path) -> None:
    LocalKeyManagement(tmp_path / "keys").create_key(KEY)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert only_file(tmp_path / "keys").stat().st_mode & 0o777 == 0o600


def test_creating_a_key_twice_conflicts_and_ensuring_it_does_not(tmp_path: Path) -> None:
    keys = LocalKeyManagement(tmp_path)
    created = keys.ensure_key(KEY)
    assert keys.ensure_key(KEY) == created
    with pytest.raises(Conflict):
        keys.create_key(KEY)


PROGRAM = """
import sys
from pathlib import Path
from stillframe.kms import LocalKeyManagement
keys = LocalKeyManagement(Path(sys.argv[1]))
sys.stdin.readline()
keys.ensure_key("AWS_OWNED_KMS_KEY")
print(keys.wrap("AWS_OWNED_KMS_KEY", b"plain", {"repository": "r", "data-key": "d"}).hex())
"""


def test_processes_that_mint_at_once_end_with_one_key(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    blobs = [process.communicate(timeout=30)[0] for process in processes]
    keys = LocalKeyManagement(tmp_path)
    assert {keys.unwrap(KEY, bytes.fromhex(blob), CONTEXT) for blob in blobs} == {b"plain"}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_key_is_unavailable(tmp_path: Path) -> None:
    keys = LocalKeyManagement(tmp_path)
    for use in (
        lambda: keys.describe(KEY),
        lambda: keys.wrap(KEY, b"", {}),
        lambda: keys.unwrap(KEY, b"", {}),
    ):
        with pytest.raises(KeyUnavailable):
            use()


def test_a_disabled_key_is_described_but_not_used(tmp_path: Path) -> None:
    keys = LocalKeyManagement(tmp_path)
    keys.create_key(KEY)
    blob = keys.wrap(KEY, b"plain", CONTEXT)
    path = only_file(tmp_path)
    path.write_text(path.read_text().replace('"Enabled"', '"Disabled"'))
    assert keys.describe(KEY).state is KeyState.DISABLED
    with pytest.raises(KeyUnavailable):
        keys.wrap(KEY, b"plain", CONTEXT)
    with pytest.raises(KeyUnavailable):
        keys.unwrap(KEY, blob, CONTEXT)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"version":2}', b"\xff"])
def test_a_damaged_key_file_is_unavailable(tmp_path: Path, content: bytes) -> None:
    keys = LocalKeyManagement(tmp_path)
    keys.create_key(KEY)
    only_file(tmp_path).write_bytes(content)
    with pytest.raises(KeyUnavailable):
        keys.describe(KEY)


def test_a_key_file_under_another_keys_name_is_unavailable(tmp_path: Path) -> None:
    keys = LocalKeyManagement(tmp_path)
    keys.create_key(KmsKeyId("a"))
    first = only_file(tmp_path)
    keys.create_key(KmsKeyId("b"))
    (second,) = set(tmp_path.iterdir()) - {first}
    second.write_bytes(first.read_bytes())
    with pytest.raises(KeyUnavailable):
        keys.describe(KmsKeyId("b"))


def test_every_changed_bit_of_a_wrapped_value_is_noticed(tmp_path: Path) -> None:
    keys = LocalKeyManagement(tmp_path)
    keys.create_key(KEY)
    blob = keys.wrap(KEY, b"plain", CONTEXT)
    for position in range(len(blob)):
        changed = bytearray(blob)
        changed[position] ^= 1
        with pytest.raises(StoredDataCorrupt):
            keys.unwrap(KEY, bytes(changed), CONTEXT)
    for length in range(len(blob)):
        with pytest.raises(StoredDataCorrupt):
            keys.unwrap(KEY, blob[:length], CONTEXT)


@pytest.mark.parametrize(
    "context", [{}, {"repository": "r"}, CONTEXT | {"x": ""}, {"repository": "d", "data-key": "r"}]
)
def test_another_context_does_not_unwrap(tmp_path: Path, context: dict[str, str]) -> None:
    keys = LocalKeyManagement(tmp_path)
    keys.create_key(KEY)
    with pytest.raises(StoredDataCorrupt):
        keys.unwrap(KEY, keys.wrap(KEY, b"plain", CONTEXT), context)


def test_another_key_does_not_unwrap(tmp_path: Path) -> None:
    keys = LocalKeyManagement(tmp_path)
    for name in "ab":
        keys.create_key(KmsKeyId(name))
    with pytest.raises(StoredDataCorrupt):
        keys.unwrap(KmsKeyId("b"), keys.wrap(KmsKeyId("a"), b"plain", CONTEXT), CONTEXT)


def test_wrapping_twice_gives_different_blobs(tmp_path: Path) -> None:
    keys = LocalKeyManagement(tmp_path)
    keys.create_key(KEY)
    assert keys.wrap(KEY, b"plain", CONTEXT) != keys.wrap(KEY, b"plain", CONTEXT)


def test_only_small_plaintexts_are_wrapped(tmp_path: Path) -> None:
    keys = LocalKeyManagement(tmp_path)
    keys.create_key(KEY)
    assert keys.unwrap(KEY, keys.wrap(KEY, bytes(4096), {}), {}) == bytes(4096)
    with pytest.raises(InvalidRequest):
        keys.wrap(KEY, bytes(4097), {})


def test_a_secret_is_never_shown() -> None:
    secret = Secret("hunter2")
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>10}", f"{[secret]}", f"{secret!r}"]
    assert not any("hunter2" in text for text in shown)
    assert secret.reveal() == "hunter2"


def test_a_secret_is_neither_pickled_nor_copied() -> None:
    for spread in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError):
            spread(Secret("hunter2"))


def test_secrets_are_equal_by_what_they_hold() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a")}) == 1
    assert Secret("a") != "a"


def test_a_sealed_secret_opens_only_for_its_purpose(tmp_path: Path) -> None:
    keys = LocalKeyManagement(tmp_path)
    keys.create_key(KEY)
    box = SecretBox(keys, KEY)
    sealed = box.seal(Secret("pässword"), purpose="user anna")
    assert b"ssword" not in sealed
    assert box.open(sealed, purpose="user anna") == Secret("pässword")
    with pytest.raises(StoredDataCorrupt):
        box.open(sealed, purpose="user bert")


def test_no_error_message_shows_a_plaintext(tmp_path: Path) -> None:
    keys = LocalKeyManagement(tmp_path)
    keys.create_key(KEY)
    sealed = SecretBox(keys, KEY).seal(Secret("hunter2"), purpose="p")
    with pytest.raises(StillframeError) as caught:
        SecretBox(keys, KEY).open(sealed, purpose="q")
    assert "hunter2" not in str(caught.value) + repr(caught.value.facts)

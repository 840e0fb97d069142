"""One suite for every key management: files of this machine, and KMS over HTTP (moto's server)."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillframe.domain.identifiers import AccountId, KmsKeyId, Region, Scope
from stillframe.errors import Conflict, InvalidRequest, KeyUnavailable, StoredDataCorrupt
from stillframe.kms import (
    AwsKeyManagement,
    KeyManagement,
    KeyState,
    LocalKeyManagement,
    RoutedKeyManagement,
    require_enabled,
)
from support.kms import keys_at, running_kms

pytestmark = pytest.mark.contract

SCOPE = Scope(account=AccountId("123456789012"), region=Region("eu-central-1"))
OTHER_REGION = Scope(account=AccountId("123456789012"), region=Region("us-east-1"))
NOT_OPENED = (StoredDataCorrupt, KeyUnavailable)
"""KMS answers IncorrectKeyException where moto's server denies access: what counts is that nothing is opened."""

CONTEXT = {"repository": "r", "data-key": "d"}
UNKNOWN = "1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture(scope="module")
def kms() -> Iterator[AwsKeyManagement]:
    with running_kms() as url:
        yield keys_at(url)


@pytest.fixture(params=["local", "aws", "routed"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> KeyManagement:
    local = LocalKeyManagement(tmp_path / "keys")
    if request.param == "local":
        return local
    remote: AwsKeyManagement = request.getfixturevalue("kms")
    return remote if request.param == "aws" else RoutedKeyManagement(local, remote)


@pytest.fixture
def alias() -> str:
    return f"alias/{uuid.uuid4()}"


def test_a_new_key_is_enabled_and_named_by_an_arn_of_its_account_and_region(keys: KeyManagement) -> None:
    made = keys.create(SCOPE)
    assert made.state is KeyState.ENABLED
    assert made.key_id.startswith("arn:aws:kms:eu-central-1:123456789012:key/")
    assert made.created_at.utcoffset() is not None
    assert keys.describe(made.key_id) == made
    assert made in keys.keys(SCOPE)
    assert made not in keys.keys(OTHER_REGION)


def test_what_was_wrapped_is_unwrapped(keys: KeyManagement) -> None:
    key = keys.create(SCOPE).key_id
    for plaintext in (b"plain", bytes(range(32)), bytes(4096)):
        blob = keys.wrap(key, plaintext, CONTEXT)
        assert plaintext not in blob
        assert keys.unwrap(key, blob, CONTEXT) == plaintext


def test_only_small_plaintexts_are_wrapped(keys: KeyManagement) -> None:
    key = keys.create(SCOPE).key_id
    with pytest.raises(InvalidRequest):
        keys.wrap(key, bytes(4097), CONTEXT)


@pytest.mark.parametrize(
    "context", [{"repository": "r"}, CONTEXT | {"more": "x"}, {"repository": "d", "data-key": "r"}]
)
def test_another_context_does_not_unwrap(keys: KeyManagement, context: dict[str, str]) -> None:
    key = keys.create(SCOPE).key_id
    blob = keys.wrap(key, b"plain", CONTEXT)
    with pytest.raises(StoredDataCorrupt):
        keys.unwrap(key, blob, context)


def test_another_key_does_not_unwrap(keys: KeyManagement) -> None:
    key, other = keys.create(SCOPE).key_id, keys.create(SCOPE).key_id
    blob = keys.wrap(key, b"plain", CONTEXT)
    with pytest.raises(NOT_OPENED):
        keys.unwrap(other, blob, CONTEXT)


@pytest.mark.parametrize("damaged", [b"", b"nonsense", bytes(200), bytes(7000)])
def test_what_was_never_wrapped_is_not_unwrapped(keys: KeyManagement, damaged: bytes) -> None:
    with pytest.raises(NOT_OPENED):
        keys.unwrap(keys.create(SCOPE).key_id, damaged, CONTEXT)


def test_a_changed_blob_is_not_unwrapped(keys: KeyManagement) -> None:
    key = keys.create(SCOPE).key_id
    blob = keys.wrap(key, b"plain", CONTEXT)
    with pytest.raises(StoredDataCorrupt):
        keys.unwrap(key, blob[:-1] + bytes([blob[-1] ^ 1]), CONTEXT)


def test_a_rotated_key_still_unwraps_what_it_wrapped_before(keys: KeyManagement) -> None:
    key = keys.create(SCOPE).key_id
    before = keys.wrap(key, b"before", CONTEXT)
    assert keys.rotate(key).key_id == key
    after = keys.wrap(key, b"after", CONTEXT)
    keys.rotate(key)
    assert keys.unwrap(key, before, CONTEXT) == b"before"
    assert keys.unwrap(key, after, CONTEXT) == b"after"


def test_a_disabled_key_is_described_and_not_used_until_it_is_enabled(keys: KeyManagement) -> None:
    key = keys.create(SCOPE).key_id
    blob = keys.wrap(key, b"plain", CONTEXT)
    assert keys.disable(key).state is KeyState.DISABLED
    assert keys.disable(key).state is KeyState.DISABLED
    assert keys.describe(key).state is KeyState.DISABLED
    assert keys.resolve(key, SCOPE).key.state is KeyState.DISABLED
    for use in (
        lambda: keys.wrap(key, b"plain", CONTEXT),
        lambda: keys.unwrap(key, blob, CONTEXT),
        lambda: keys.rotate(key),
        lambda: require_enabled(keys.describe(key)),
    ):
        with pytest.raises(KeyUnavailable, match="disabled"):
            use()
    assert keys.enable(key).state is KeyState.ENABLED
    assert keys.unwrap(key, blob, CONTEXT) == b"plain"


def test_a_disabled_key_leaves_the_others_alone(keys: KeyManagement) -> None:
    key, other = keys.create(SCOPE).key_id, keys.create(SCOPE).key_id
    blob = keys.wrap(other, b"plain", CONTEXT)
    keys.disable(key)
    assert keys.unwrap(other, blob, CONTEXT) == b"plain"


def test_a_key_is_found_by_id_alias_and_arn(keys: KeyManagement, alias: str) -> None:
    made = keys.create(SCOPE, alias=alias)
    identifier = made.key_id.rpartition("/")[2]
    for text in (identifier, f"key/{identifier}", made.key_id):
        found = keys.resolve(text, SCOPE)
        assert (found.key, found.name) == (made, made.key_id)
    alias_arn = f"arn:aws:kms:eu-central-1:123456789012:{alias}"
    for text in (alias, alias_arn):
        found = keys.resolve(text, SCOPE)
        assert (found.key, found.name) == (made, alias_arn)
    assert list(keys.aliases(made.key_id)) == [alias]


def test_a_moved_alias_names_another_key_and_changes_nothing_that_was_wrapped(
    keys: KeyManagement, alias: str
) -> None:
    first, second = keys.create(SCOPE, alias=alias), keys.create(SCOPE)
    blob = keys.wrap(first.key_id, b"plain", CONTEXT)
    keys.set_alias(SCOPE, alias, second.key_id)
    assert keys.resolve(alias, SCOPE).key == second
    assert (list(keys.aliases(first.key_id)), list(keys.aliases(second.key_id))) == ([], [alias])
    assert keys.unwrap(first.key_id, blob, CONTEXT) == b"plain"


def test_an_alias_is_given_once(keys: KeyManagement, alias: str) -> None:
    made = keys.create(SCOPE, alias=alias)
    with pytest.raises(Conflict):
        keys.create(SCOPE, alias=alias)
    assert keys.resolve(alias, SCOPE).key == made


@pytest.mark.parametrize("name", ["plain", "alias/", "alias/a b", "alias/aws/redshift", "alias/" + "x" * 251])
def test_an_alias_has_the_form_that_kms_gives_it(keys: KeyManagement, name: str) -> None:
    made = keys.create(SCOPE)
    for give in (
        lambda: keys.create(SCOPE, alias=name),
        lambda: keys.set_alias(SCOPE, name, made.key_id),
    ):
        with pytest.raises(InvalidRequest):
            give()


@pytest.mark.parametrize(
    "text",
    [
        UNKNOWN,
        "alias/nobody-made-this",
        f"arn:aws:kms:eu-central-1:123456789012:key/{UNKNOWN}",
        "arn:aws:kms:eu-central-1:123456789012:alias/nobody-made-this",
        f"mrk-{'0' * 32}",
    ],
)
def test_a_key_that_nobody_made_is_unavailable(keys: KeyManagement, text: str) -> None:
    with pytest.raises(KeyUnavailable) as caught:
        keys.resolve(text, SCOPE)
    assert text in caught.value.message
    assert "stillframe key create" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "alias/", "../../etc/passwd", "arn:aws:s3:::bucket", "key/x", "ü", "\ud800", "a\0b"],
)
def test_what_is_no_name_of_a_key_is_refused(keys: KeyManagement, text: str) -> None:
    with pytest.raises(InvalidRequest):
        keys.resolve(text, SCOPE)


def test_a_missing_key_is_unavailable_for_every_use(keys: KeyManagement) -> None:
    missing = KmsKeyId(f"arn:aws:kms:eu-central-1:123456789012:key/{UNKNOWN}")
    for use in (
        lambda: keys.describe(missing),
        lambda: keys.wrap(missing, b"plain", CONTEXT),
        lambda: keys.unwrap(missing, b"blob", CONTEXT),
        lambda: keys.rotate(missing),
        lambda: keys.enable(missing),
        lambda: keys.disable(missing),
    ):
        with pytest.raises(KeyUnavailable):
            use()


def test_a_key_of_another_region_is_not_named_from_here(keys: KeyManagement) -> None:
    made = keys.create(OTHER_REGION)
    for text in (made.key_id, made.key_id.rpartition("/")[2]):
        with pytest.raises((KeyUnavailable, InvalidRequest)):
            keys.resolve(text, SCOPE)
    assert keys.resolve(made.key_id, OTHER_REGION).key == made

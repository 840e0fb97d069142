"""Settings come from the command line, the environment, the file and the defaults, in that order."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from stillframe.config import Settings, load_settings
from stillframe.errors import ConfigurationInvalid

pytestmark = pytest.mark.unit


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    path = tmp_path / "stillframe.toml"
    path.write_text('port = 1001\nregion = "eu-west-1"\n[quotas]\nnamespaces = 3\n')
    return path


def test_the_defaults_listen_on_loopback() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.account_id) == ("127.0.0.1", 9439, "123456789012")


def test_the_file_comes_before_the_defaults(file: Path) -> None:
    settings = load_settings(config=file)
    assert (settings.port, settings.region, settings.quotas.namespaces) == (1001, "eu-west-1", 3)


def test_the_environment_comes_before_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLFRAME_PORT", "1002")
    monkeypatch.setenv("STILLFRAME_CONFIG", str(file))
    settings = load_settings()
    assert (settings.port, settings.region) == (1002, "eu-west-1")


def test_the_command_line_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLFRAME_PORT", "1002")
    assert load_settings(overrides={"port": 1003, "host": None}).port == 1003


def test_a_nested_setting_comes_from_the_environment_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLFRAME_QUOTAS__SNAPSHOTS", "7")
    quotas = load_settings(config=file).quotas
    assert (quotas.snapshots, quotas.namespaces) == (7, 3)


def test_an_unknown_setting_in_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "typo.toml"
    path.write_text("prot = 1\n")
    with pytest.raises(ConfigurationInvalid, match="prot"):
        load_settings(config=path)


def test_a_wrong_value_is_named_but_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLFRAME_ACCOUNT_ID", "hunter2")
    with pytest.raises(ConfigurationInvalid, match="account_id") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


def test_a_secret_does_not_print_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLFRAME_SECRET_ACCESS_KEY", "hunter2")
    assert "hunter2" not in repr(load_settings())


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="cannot be read"):
        load_settings(config=tmp_path / "none.toml")


def test_the_data_directory_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(overrides={"data": Path("here")}).data == tmp_path / "here"


def test_settings_are_handed_down_with_their_secrets_and_without_the_root_keys() -> None:
    settings = load_settings(
        overrides={
            "secret_access_key": "root-secret",
            "repository_secret_access_key": "bucket-secret",
            "kms_secret_access_key": "kms-secret",
        }
    )
    line = settings.handed_down()
    assert line.count(b"\n") == 1
    received = Settings.model_validate_json(line)
    assert received.repository_secret_access_key == SecretStr("bucket-secret")
    assert received.kms_secret_access_key == SecretStr("kms-secret")
    assert received.secret_access_key is None
    assert received.model_copy(update={"secret_access_key": settings.secret_access_key}) == settings

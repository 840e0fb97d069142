"""`stillframe env`, read back by real shells."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stillframe.cli.env import Shell, export_lines
from support.cli import StubService

pytestmark = pytest.mark.unit

_NASTY = "a'b\"c$HOME `id` \\ \\' ; # é"


def test_the_lines_set_what_sdks_read(stub: StubService, data: Path, stillframe: Any) -> None:
    outcome = stillframe("env")
    assert outcome.status == 0
    names = ("ENDPOINT_URL_REDSHIFT_SERVERLESS", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "DEFAULT_REGION")
    shown = " ".join(f'"$AWS_{name}"' for name in names)
    script = f"{outcome.out}\nprintf '%s\\n' {shown}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env={}, check=True)
    assert done.stdout.splitlines() == [stub.url, "AKIASTUB", "it's a $ecret", "eu-central-1"]


def test_env_as_json_has_the_same_names(stub: StubService, data: Path, stillframe: Any) -> None:
    document = stillframe("env", "--output", "json").document
    assert document["AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS"] == stub.url
    assert document["AWS_SECRET_ACCESS_KEY"] == "it's a $ecret"


def test_env_speaks_of_the_service_and_not_of_the_environment(
    stub: StubService, data: Path, stillframe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS", "http://elsewhere")
    assert "elsewhere" not in stillframe("env").out


def test_any_value_survives_sh() -> None:
    (line,) = export_lines({"X": _NASTY}, shell=Shell.SH, inherited={})
    done = subprocess.run(["sh", "-c", f'{line}\nprintf %s "$X"'], capture_output=True, env={}, check=True)
    assert done.stdout.decode() == _NASTY


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_any_value_survives_fish() -> None:
    (line,) = export_lines({"X": _NASTY}, shell=Shell.FISH, inherited={})
    done = subprocess.run(
        ["fish", "-c", f'{line}\nprintf %s "$X"'], capture_output=True, env=os.environ, check=True
    )
    assert done.stdout.decode() == _NASTY


def test_fish_values_escape_quotes_and_backslashes() -> None:
    assert export_lines({"X": "a'b\\c"}, shell=Shell.FISH, inherited={}) == ["set -gx X 'a\\'b\\\\c'"]


def test_a_session_token_that_would_spoil_signatures_is_unset() -> None:
    lines = export_lines({"X": "1"}, shell=Shell.SH, inherited={"AWS_SESSION_TOKEN": "old"})
    assert lines == ["unset AWS_SESSION_TOKEN", "export X=1"]

"""The main path with `@aws-sdk/client-redshift-serverless` on Node, exactly as it is published."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.service import REGION, Account

pytestmark = pytest.mark.acceptance

HERE = Path(__file__).parent / "javascript"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the SDK installed from the lock file."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not installed on this machine")
    directory: Path = tmp_path_factory.mktemp("javascript") / "project"
    shutil.copytree(HERE, directory, ignore=shutil.ignore_patterns("node_modules"))
    run(["npm", "ci", "--no-audit", "--no-fund"], directory, dict(os.environ))
    return directory


def run(command: list[str], directory: Path, environment: dict[str, str]) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_lock_file_names_no_download_address() -> None:
    text = (HERE / "package-lock.json").read_text()
    assert "://" not in text
    assert "resolved" not in text
    assert "integrity" in text


def test_the_main_path_works_with_the_javascript_sdk(project: Path, account: Account) -> None:
    environment = dict(os.environ) | {
        "AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS": account.service.local.endpoint_url,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": account.key,
        "AWS_SECRET_ACCESS_KEY": account.secret,
        "AWS_CONFIG_FILE": str(project / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(project / "none"),
    }
    report: dict[str, Any] = json.loads(run(["node", "main_path.mjs"], project, environment))
    assert report.pop("createdAt").endswith("Z")
    assert report.pop("megabytes") > 1
    assert report == {
        "first": "CREATING",
        "status": "AVAILABLE",
        "retention": 7,
        "takenAt": True,
        "tags": [{"key": "via", "value": "javascript"}],
        "listed": ["from-js"],
        "restoring": "MODIFYING",
        "user": "IAM:root",
        "expires": True,
        "deleted": "DELETED",
        "secondDeletion": {
            "typed": True,
            "name": "ResourceNotFoundException",
            "message": "Serverless snapshot from-js not found.",
            "resourceName": "from-js",
            "requestId": True,
        },
    }

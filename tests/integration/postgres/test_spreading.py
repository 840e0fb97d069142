"""Directories whose entries the file system keeps apart."""

import shutil
import subprocess
from pathlib import Path

import pytest

from stillframe.postgres.osfiles import spread_subdirectories

pytestmark = pytest.mark.integration


def _file_system(directory: Path) -> str:
    found = subprocess.run(
        ["stat", "--file-system", "--format", "%T", directory], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


def test_on_ext4_the_entries_of_a_spread_directory_are_kept_apart(tmp_path: Path) -> None:
    if _file_system(tmp_path) != "ext2/ext3" or shutil.which("lsattr") is None:
        pytest.skip("needs ext4, and lsattr to see the hint")
    spread_subdirectories(tmp_path)
    spread_subdirectories(tmp_path)
    shown = subprocess.run(["lsattr", "-d", tmp_path], capture_output=True, text=True, check=True).stdout
    assert "T" in shown.split()[0]


def test_a_directory_that_cannot_be_spread_is_left_as_it_is(tmp_path: Path) -> None:
    spread_subdirectories(tmp_path / "missing")
    spread_subdirectories(Path("/proc/self"))
    assert not (tmp_path / "missing").exists()

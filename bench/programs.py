"""Running other people's programs, and the directories they work in."""

import os
import shutil
import subprocess
import sys
from collections.abc import Container, Mapping
from pathlib import Path


def run(
    *command: str,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    accepted: Container[int] = (0,),
) -> str:
    """Run a program to its end; what it printed. SystemExit with what it said when its status is another."""
    done = subprocess.run(
        command,
        env=os.environ | (environment or {}),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in accepted:
        said = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise SystemExit(f"{Path(command[0]).name} ended with {done.returncode}: {said}")
    return done.stdout


def find_program(name: str) -> str | None:
    """The path of a program: of this virtual environment, else of PATH; None when there is none."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(name)


def fresh(directory: Path) -> Path:
    """That directory, empty."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    return directory


def require_cluster(directory: Path) -> None:
    """Fail unless a data directory is there."""
    assert (directory / "global" / "pg_control").exists(), f"nothing came back in {directory}"

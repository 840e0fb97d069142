"""On what, and with which versions, a benchmark ran."""

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import stillframe
from bench.programs import find_program, run

_PACKAGES = (
    "botocore", "blake3", "cryptography", "numpy", "psycopg", "starlette", "uvicorn", "uvloop", "zstandard",
)  # fmt: skip
_PROGRAMS = {
    "restic": "version",
    "borg": "--version",
    "barman": "--version",
    "pgbackrest": "version",
    "rsync": "--version",
}


def describe_machine(directory: Path) -> dict[str, str]:
    """Processor, memory, kernel, and the file system below `directory`."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": file_system(directory),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def describe_versions(postgres: str) -> dict[str, str]:
    """Versions of everything that takes part."""
    found = {
        "stillframe": f"{stillframe.__version__} {_commit()}".strip(),
        "Python": platform.python_version(),
        "PostgreSQL": postgres,
        **{name: _program(name) for name in _PROGRAMS},
    }
    return found | {name: _package(name) for name in _PACKAGES}


def _program(name: str) -> str:
    """The version that a program of this name says it has."""
    program = find_program(name)
    if program is None:
        return "not installed"
    found = re.search(r"\d+(\.\d+)+", run(program, _PROGRAMS[name]))
    return found[0] if found else "unknown"


def file_system(directory: Path) -> str:
    """The type of the file system that holds a directory; the longest mount point that contains it wins."""
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        mount = mount.encode().decode("unicode_escape")
        if directory.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def _commit() -> str:
    """Which state of the checkout this is, when git can tell."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{found[1] if found else 'unknown'} ({platform.machine()})"


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

"""The data directory: made, owned and passable as its users need it."""

import os
from pathlib import Path

from stillframe.config import Paths
from stillframe.postgres.identity import ServerIdentity
from stillframe.postgres.osfiles import spread_subdirectories
from stillframe.system import translating_os_errors

_PASSABLE = 0o711
"""Others may pass through to what is theirs, but not look around."""


def prepare(paths: Paths, identity: ServerIdentity) -> None:
    """Make the fixed directories.

    Raises PermissionMissing (also when the server's user cannot enter one of them) and DiskFull.
    """
    with translating_os_errors(f"preparing the data directory {paths.root}"):
        paths.root.mkdir(parents=True, exist_ok=True)
        for directory in (paths.root, paths.root / "namespaces", paths.run, paths.logs):
            directory.mkdir(mode=_PASSABLE, exist_ok=True)
            directory.chmod(_PASSABLE)
        spread_subdirectories(paths.root / "namespaces")
        paths.keys.mkdir(mode=0o700, exist_ok=True)
    identity.require_reachable(paths.root / "catalog", what="the data directory")


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with translating_os_errors(f"writing {path}"):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        temporary.replace(path)
